"""`mlrec predict --out`: the same bytes however the work is divided and interrupted, and nothing lost in silence."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets.listing import items_of, sources_of
from mlrec.models.checkpoint import save_model
from mlrec.models.classifier import create_model
from mlrec.utils.errors import DataError, RunError, UsageError
from mlrec.workflows.deploy.predict import predict
from mlrec.workflows.deploy.predict_parts import PredictJob, units_of, write_predictions
from mlrec.workflows.runtime import RuntimeOptions
from tests.processes import run as run_program
from tests.processes import started
from tests.tiny import LABELS, make_tiny

HERE = RuntimeOptions(batch_size=4, workers=0, device="cpu")
FLAGS = ["--workers", "0", "--device", "cpu", "--batch-size", "4"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """22 images."""
    return make_tiny(tmp_path_factory.mktemp("parts")).parents[1] / "pictures"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(file, create_model("test_resnet", 3, img_size=32, labels=LABELS, pretrained=False), {})
    return file


def content(folder: Path) -> dict[str, bytes]:
    """All files of an output with their bytes."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()
    }


def write(model: Path, out: Path, *paths: Path, **changes: object) -> None:
    """Write predictions of 5 images per part."""
    settings: dict[str, object] = {"form": "csv", "part_size": 5, "machine": HERE, **changes}
    write_predictions(PredictJob(model, out, **settings), sources_of([str(path) for path in paths]))  # type: ignore[arg-type]


def test_parts_hold_the_rows_of_predict_in_order(model: Path, pictures: Path, tmp_path: Path) -> None:
    expected = list(predict(model, pictures, machine=HERE))
    for form in ("csv", "jsonl", "parquet"):
        write(model, tmp_path / form, pictures, form=form)
    csv_rows = pd.concat([pd.read_csv(file) for file in sorted((tmp_path / "csv").glob("part-*"))], ignore_index=True)
    parquet = pd.read_parquet(tmp_path / "parquet")  # the folder: other files are not taken for parts
    lines = [json.loads(line) for file in sorted((tmp_path / "jsonl").glob("part-*")) for line in file.open()]
    assert len(list((tmp_path / "parquet").glob("part-*.parquet"))) == 5
    ids = [one.id for one in expected]
    assert list(csv_rows["id"]) == ids == list(parquet["id"]) == [line["id"] for line in lines]
    scores = parquet[list(LABELS)].to_numpy()
    np.testing.assert_array_equal(scores, csv_rows[list(LABELS)].to_numpy())
    np.testing.assert_array_equal(scores, [list(line["scores"].values()) for line in lines])
    np.testing.assert_allclose(scores, [one.probabilities for one in expected], atol=1e-6)
    assert [tuple(row) for row in parquet["labels"]] == [one.predicted for one in expected]
    assert json.loads((tmp_path / "csv" / "_SUCCESS").read_text()) == {"parts": 5, "rows": 22, "unreadable": 0}


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_single_file_is_its_parts_joined(form: str, model: Path, pictures: Path, tmp_path: Path) -> None:
    write(model, tmp_path / f"one.{form}", pictures, form=form)
    write(model, tmp_path / "many", pictures, form=form)
    parts = sorted((tmp_path / "many").glob("part-*"))
    one = tmp_path / f"one.{form}"
    if form == "parquet":
        pd.testing.assert_frame_equal(pd.read_parquet(one), pd.read_parquet(tmp_path / "many"))
    elif form == "jsonl":
        assert one.read_bytes() == b"".join(part.read_bytes() for part in parts)
    else:
        frames = [pd.read_csv(part, dtype=str, keep_default_na=False) for part in parts]
        pd.testing.assert_frame_equal(
            pd.read_csv(one, dtype=str, keep_default_na=False), pd.concat(frames, ignore_index=True)
        )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["many", f"one.{form}"]
    with pytest.raises(UsageError, match="already exists"):
        write(model, one, pictures, form=form)


def test_finished_parts_are_kept(model: Path, pictures: Path, tmp_path: Path) -> None:
    write(model, tmp_path / "whole", pictures)
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    again = tmp_path / "again"
    for lost in ("part-000001.csv", "_parts/part-000001.json", "_parts/part-000003.json", "_SUCCESS"):
        (again / lost).unlink()
    (again / "part-000003.csv").write_text("cut off")  # renamed, but its record was not written
    kept = (again / "part-000002.csv").stat().st_mtime_ns
    write(model, again, pictures)
    assert content(again) == content(tmp_path / "whole")
    assert (again / "part-000002.csv").stat().st_mtime_ns == kept


SLOW = """
import os, sys, time
from mlrec.datasets import listing
from mlrec.training import inference_loader
real = inference_loader.load_item
def load_item(item, how="fast"):
    time.sleep(0.05)
    return real(item, how)
inference_loader.load_item = load_item
from mlrec.cli.app import main
main()
"""


@pytest.mark.parametrize("out", ["scores", pytest.param("scores.parquet", marks=pytest.mark.long)])
def test_a_killed_run_resumes_to_the_same_bytes(out: str, model: Path, pictures: Path, tmp_path: Path) -> None:
    form = Path(out).suffix.removeprefix(".") or "csv"
    (tmp_path / "whole").mkdir()
    write(model, tmp_path / "whole" / out, pictures, form=form)
    command = ["predict", str(pictures), "--run", str(model), "--out", out, "--part-size", "5", *FLAGS]
    folder = tmp_path / (out if form == "csv" else f"{out}.parts")
    with started([sys.executable, "-c", SLOW, *command], cwd=tmp_path) as process:
        deadline = time.monotonic() + 120
        while not (folder / "_parts" / "part-000001.json").exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    assert not (folder / "_parts" / "part-000004.json").exists()
    assert not (tmp_path / "scores.parquet").exists()
    result = CliRunner().invoke(app, [*command[:5], str(tmp_path / out), *command[6:]])
    assert result.exit_code == 0, result.output
    assert "parts from an earlier run" in result.stderr
    if form == "csv":
        assert content(folder) == content(tmp_path / "whole" / out)
    else:
        assert (tmp_path / out).read_bytes() == (tmp_path / "whole" / out).read_bytes()
        assert not folder.exists()


def test_a_process_without_parts_that_starts_late_leaves_a_complete_output_alone(
    model: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(model, tmp_path / "one.csv", pictures)
    monkeypatch.setenv("WORLD_SIZE", "9")
    monkeypatch.setenv("RANK", "8")
    write(model, tmp_path / "one.csv", pictures)
    assert [entry.name for entry in tmp_path.iterdir()] == ["one.csv"]


def test_a_complete_output_of_another_model_is_refused(model: Path, pictures: Path, tmp_path: Path) -> None:
    write(model, tmp_path / "out", pictures, part_size=50)
    assert len(list((tmp_path / "out").glob("part-*"))) == 1
    with pytest.raises(RunError, match="threshold"):
        write(model, tmp_path / "out", pictures, part_size=50, threshold=0.9)


def test_two_processes_write_the_bytes_of_one(model: Path, pictures: Path, tmp_path: Path) -> None:
    write(model, tmp_path / "one", pictures)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "mlrec"]
    arguments = ["predict", str(pictures), "--model", str(model), "--out", "two", "--part-size", "5", *FLAGS]
    result = run_program([*command, *arguments], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stderr.decode()
    assert content(tmp_path / "two") == content(tmp_path / "one")
    assert "22 predictions written to two" in result.stderr.decode()  # twice if both complete the output at once


def test_another_model_or_other_settings_are_refused(model: Path, pictures: Path, tmp_path: Path) -> None:
    write(model, tmp_path / "out", pictures)
    other = tmp_path / "other.safetensors"
    save_model(other, create_model("test_resnet", 3, img_size=32, labels=LABELS, pretrained=False), {})
    before = content(tmp_path / "out")
    changes: list[tuple[Path, dict[str, object], str]] = [
        (other, {}, "model"),
        (model, {"threshold": 0.4}, "threshold"),
        (model, {"top": 2}, "top"),
        (model, {"form": "jsonl"}, "output_format"),
        (model, {"part_size": 6}, "part_size"),
        (model, {"machine": RuntimeOptions(batch_size=8, workers=0, device="cpu")}, "batch_size"),
        (model, {"machine": RuntimeOptions(batch_size=4, precision="bf16", device="cpu")}, "precision"),
    ]
    for used, change, key in changes:
        with pytest.raises(RunError, match=rf"started with different settings \({key}\)"):
            write(used, tmp_path / "out", pictures, **change)
    assert content(tmp_path / "out") == before


def test_other_images_are_refused(model: Path, pictures: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(pictures, images)
    write(model, tmp_path / "out", images)
    shutil.copy(images / "val08.png", images / "aaa.png")
    with pytest.raises(RunError, match=r"part-000000\.csv: images were added, removed or changed after this part"):
        write(model, tmp_path / "out", images)


def test_a_folder_of_others_is_not_written_to(model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="contains files that mlrec predict did not write"):
        write(model, tmp_path / "out", pictures)
    assert list(content(tmp_path / "out")) == ["thesis.tex"]


def test_unreadable_images_are_listed(model: Path, pictures: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(pictures, images)
    (images / "train03.png").write_bytes(b"")
    (images / "val00.png").write_text("no image")
    for out, listed in (("out", "out/_unreadable.jsonl"), ("one.csv", "one.unreadable.jsonl")):
        arguments = ["predict", str(images), "--run", str(model), "--out", str(tmp_path / out), "--part-size", "5"]
        result = CliRunner().invoke(app, [*arguments, *FLAGS])
        assert isinstance(result.exception, DataError)
        assert "2 images could not be read" in str(result.exception)
        lines = [json.loads(line) for line in (tmp_path / listed).open()]
        assert [Path(line["id"]).name for line in lines] == ["train03.png", "val00.png"]
        assert "0 bytes" in lines[0]["error"]
    again = CliRunner().invoke(app, [*arguments[:5], str(tmp_path / "out"), *arguments[6:], *FLAGS])
    assert "2 images could not be read" in str(again.exception)  # a resumed run does not forget them
    assert len(list(csv.DictReader(io.StringIO((tmp_path / "one.csv").read_text())))) == 20


def test_packed_images_have_the_scores_of_files(model: Path, pictures: Path, tmp_path: Path) -> None:
    files = sorted(pictures.iterdir())
    with tarfile.open(tmp_path / "train-000000.tar", "w") as archive:
        for file in files:
            archive.add(file, file.name)
            label = tarfile.TarInfo(file.with_suffix(".cls").name)
            label.size = 1
            archive.addfile(label, io.BytesIO(b"1"))
    images = [{"bytes": file.read_bytes(), "path": file.name} for file in files]
    pa.parquet.write_table(pa.table({"image": images, "label": [0] * len(files)}), tmp_path / "train.parquet")
    bare = [file.read_bytes() for file in files]
    pa.parquet.write_table(pa.table({"jpg": bare}), tmp_path / "bare.parquet", row_group_size=4)
    expected = list(predict(model, pictures, machine=HERE))
    for name, first in (
        ("train-000000.tar", "train-000000/train00.png"),
        ("train.parquet", "train/train00.png"),
        ("bare.parquet", "bare/bare-000000.png"),
    ):
        packed = list(predict(model, tmp_path / name, machine=HERE))
        assert packed[0].id == str(tmp_path / first)
        np.testing.assert_array_equal([p.probabilities for p in packed], [p.probabilities for p in expected])
    units = list(units_of(sources_of([str(tmp_path), str(pictures)]), 10))
    assert [(unit.packed and unit.packed.name, len(unit.items)) for unit in units] == [
        ("bare.parquet", 0), ("train-000000.tar", 0), ("train.parquet", 0), (None, 10), (None, 10), (None, 2),
    ]  # fmt: skip
    write(model, tmp_path / "out", tmp_path / "train-000000.tar", tmp_path / "train.parquet", form="parquet")
    assert len(pd.read_parquet(tmp_path / "out")) == 44


def test_a_damaged_shard_ends_the_run_and_is_written_after_its_repair(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    for number in range(3):
        with tarfile.open(tmp_path / f"{number}.tar", "w") as archive:
            for file in sorted(pictures.iterdir())[:4]:
                archive.add(file, file.name)
    whole = (tmp_path / "1.tar").read_bytes()
    (tmp_path / "1.tar").write_bytes(whole[:3000])
    with pytest.raises(DataError, match=r"1\.tar: the tar file is incomplete"):
        write(model, tmp_path / "out", tmp_path)
    assert not (tmp_path / "out" / "part-000001.csv").exists()
    (tmp_path / "1.tar").write_bytes(whole)
    write(model, tmp_path / "out", *(tmp_path / f"{number}.tar" for number in range(3)))
    assert len(list((tmp_path / "out").glob("part-*"))) == 3


def test_lists_and_packed_files_are_found(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes((pictures / "val00.png").read_bytes())
    (tmp_path / "list.txt").write_text(f"a.png\n\n{pictures / 'val01.png'}\n")
    assert [item.path for item in items_of([str(tmp_path / "list.txt")])] == [
        tmp_path / "a.png",
        pictures / "val01.png",
    ]
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        archive.add(tmp_path / "a.png", "x.png")
    with pytest.raises(UsageError, match=r"matches both images .* and packed files"):
        items_of([str(tmp_path / "*")])
    assert [item.id for item in items_of([str(tmp_path / "*.tar")])] == [f"{tmp_path}/b/x.png"]
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(DataError, match="contains no images"):
        list(items_of([str(tmp_path / "empty.tar")]))
    pa.parquet.write_table(pa.table({"path": ["a.png"]}), tmp_path / "paths.parquet")
    with pytest.raises(DataError, match="no column contains image bytes"):
        list(items_of([str(tmp_path / "paths.parquet")]))


def test_images_of_a_shard_are_read_as_they_are_needed(tmp_path: Path) -> None:
    """A tar file that has no end: more than a few images are never read ahead."""
    with tarfile.open(tmp_path / "long.tar", "w") as archive:
        for number in range(200):
            member = tarfile.TarInfo(f"{number}.jpg")
            member.size = 10
            archive.addfile(member, io.BytesIO(b"0123456789"))
    items = items_of([str(tmp_path / "long.tar")])
    (tmp_path / "long.tar").write_bytes((tmp_path / "long.tar").read_bytes()[:10240])  # before the first is taken
    assert next(items).content == b"0123456789"


def test_flags_that_contradict_each_other(model: Path, pictures: Path, tmp_path: Path) -> None:
    for extra, told in (
        (["--format", "parquet"], "--out is required"),
        (["--engine", "ray"], "--out is required"),
        (["--out", "a.csv", "--format", "parquet"], "differ"),
        (["--out", "a", "--save-images", "b"], "omit --out"),
        (["https://example.com/a.jpg"], "allow-urls"),
    ):
        result = CliRunner().invoke(app, ["predict", str(pictures), "--run", str(model), *extra, *FLAGS])
        assert isinstance(result.exception, UsageError), extra
        assert told in str(result.exception)
