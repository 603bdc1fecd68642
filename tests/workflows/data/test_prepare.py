"""The whole of `prepare`: everything checked, all faults told, written once or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets.dataset import Dataset
from mlrec.datasets.images.decode import decode_box
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.registry import READERS, Reading, ReadOptions, reader_of
from mlrec.utils.errors import DataError, UsageError, ValidationReport
from mlrec.workflows.data import prepare as workflow
from mlrec.workflows.data.duplicates import find_duplicates
from mlrec.workflows.data.prepare import prepare, summary
from tests.conftest import Notes
from tests.processes import family, started, until_alive


def photograph(path: Path, seed: int, size: tuple[int, int] = (16, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def csv(root: Path, rows: str = "a.jpg,1,0\nb.jpg,0,1\nc.jpg,-1,1\n", header: str = "filename,cat,dog\n") -> Path:
    """A CSV dataset of images a, b, c, ...; what `rows` does not name is not drawn."""
    for seed, row in enumerate(rows.splitlines()):
        photograph(root / row.partition(",")[0], seed)
    (root / "pets.csv").write_text(header + rows)
    return root / "pets.csv"


def left(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


class Heard:
    """A `Progress` that counts the steps."""

    def __init__(self) -> None:
        self.steps = 0

    def task(self, name: str, total: int | None = None) -> Any:
        import contextlib

        @contextlib.contextmanager
        def bar() -> Any:
            def step(done: int = 1, facts: str = "") -> None:
                self.steps += done

            yield step

        return bar()


def test_a_dataset_is_written_and_reported(tmp_path: Path) -> None:
    heard = Heard()
    dataset = prepare("csv", csv(tmp_path), out=tmp_path / "data", progress=heard)
    assert dataset.path == tmp_path / "data" / "pets"
    assert left(tmp_path / "data") == ["pets/all.jsonl", "pets/dataset.json"]
    assert heard.steps == 3
    info = json.loads((dataset.path / "dataset.json").read_text())
    assert (info["name"], info["labels"], info["splits"], info["recipe"]) == (
        "pets",
        ["cat", "dog"],
        {"all": 3},
        "paper",
    )
    assert info["source"]["kind"] == "csv"
    manifest = Dataset.load(dataset.path).manifest("all")
    assert manifest.targets.tolist() == [[1, 0], [0, 1], [-1, 1]]
    table = summary(dataset)
    assert [column.key for column in table.columns] == [
        "split", "images", "samples", "labels_per_sample", "positives", "unknown",
    ]  # fmt: skip
    assert [row.cells for row in table.rows] == [("all", 3, 3, 1.0, 3, 1)]
    assert [table.columns[3].show(mean) for mean in (1.0, 1.4, 1.38)] == ["1.00", "1.40", "1.38"]


def test_what_is_remembered_does_not_hang_on_where_the_command_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = csv(tmp_path / "pets")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    options = ReadOptions(images=Path("../pets"))
    dataset = prepare("csv", "../pets/pets.csv", options=options)
    assert dataset.manifest("all").root == tmp_path / "pets"
    assert dataset.info.source["path"] == str(file)
    assert dataset.info.source["options"] == {"images": str(tmp_path / "pets")}


def test_preparing_again_replaces_the_whole_and_nothing_else_is_touched(tmp_path: Path) -> None:
    source = csv(tmp_path)
    dataset = prepare("csv", source, out=tmp_path / "data")
    (dataset.path / "stale.jsonl").touch()
    find_duplicates(dataset.path)  # keeps fingerprints there
    prepare("csv", source, out=tmp_path / "data")
    assert left(dataset.path) == ["all.jsonl", "dataset.json"]
    foreign = tmp_path / "data" / "thesis"
    foreign.mkdir()
    (foreign / "chapter.tex").touch()
    with pytest.raises(DataError, match="not a prepared dataset; remove it or choose a different --name"):
        prepare("csv", source, out=tmp_path / "data", name="thesis")
    assert left(foreign) == ["chapter.tex"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("notes.txt", "mine", r"notes\.txt: this path was not written by mlrec and would be deleted"),
        ("photos/a.txt", "mine", "photos: this path was not written by mlrec and would be deleted"),
        ("dataset.json", '{"name": "mine"}', r"dataset\.json: .*remove the folder, or choose a different --name"),
    ],
)
def test_a_folder_that_holds_more_than_a_prepare_is_never_replaced(
    tmp_path: Path, name: str, content: str, told: str
) -> None:
    source = csv(tmp_path)
    dataset = prepare("csv", source, out=tmp_path / "data")
    (dataset.path / name).parent.mkdir(exist_ok=True)
    (dataset.path / name).write_text(content)
    with pytest.raises(DataError, match=told):
        prepare("csv", source, out=tmp_path / "data")
    assert (dataset.path / name).read_text() == content


def test_a_failure_leaves_what_was_there_and_a_list_of_all_faults(tmp_path: Path) -> None:
    source = csv(tmp_path, "".join(f"{k}.jpg,1,0\n" for k in range(14)))
    dataset = prepare("csv", source, out=tmp_path / "data")
    before = (dataset.path / "all.jsonl").read_bytes()
    for k in range(1, 13):
        (tmp_path / f"{k}.jpg").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        prepare("csv", source, out=tmp_path / "data")
    heading, *lines = str(caught.value).splitlines()
    log = tmp_path / "data" / "pets.bad.log"
    assert heading.endswith("cannot be used: 12 errors")
    assert len(lines) == 11
    assert lines[-1] == f"  ... and 2 more (full list: {log})"
    faults = log.read_text().splitlines()
    assert [Path(line.partition(": ")[0]).stem for line in faults] == [str(k) for k in range(1, 13)]
    assert all("is empty (0 bytes)" in line for line in faults)
    assert (dataset.path / "all.jsonl").read_bytes() == before
    prepare("csv", source, out=tmp_path / "data", skip_bad_images=True)
    assert not log.exists()


def test_faults_of_the_reader_come_before_any_image_is_decoded(tmp_path: Path) -> None:
    heard = Heard()
    with pytest.raises(DataError, match="'yes' is not 0, 1 or -1"):
        prepare("csv", csv(tmp_path, "a.jpg,yes,0\n"), out=tmp_path / "data", progress=heard)
    assert heard.steps == 0
    assert left(tmp_path / "data") == []


def test_a_single_error_leaves_no_list_behind_not_even_of_an_earlier_attempt(tmp_path: Path) -> None:
    for rows, logs in (("a.jpg,yes,0\nb.jpg,no,0\n", ["pets.bad.log"]), ("a.jpg,yes,0\n", [])):
        with pytest.raises(DataError, match="'yes' is not 0, 1 or -1"):
            prepare("csv", csv(tmp_path, rows), out=tmp_path / "data")
        assert left(tmp_path / "data") == logs


def test_a_folder_with_a_dot_in_its_name_keeps_it(tmp_path: Path) -> None:
    csv(tmp_path / "my.v1").rename(tmp_path / "my.v1" / "train.csv")
    dataset = prepare("csv", tmp_path / "my.v1", out=tmp_path / "data")
    assert (dataset.info.name, dataset.path.name, dataset.manifest("train").name) == ("my.v1", "my.v1", "my.v1")


def test_the_spelling_of_a_path_is_kept_where_it_leads_to_the_same_place(tmp_path: Path) -> None:
    csv(tmp_path / "store" / "of 2024")
    (tmp_path / "mine").symlink_to(tmp_path / "store" / "of 2024")
    (tmp_path / "here").mkdir()
    dataset = prepare("csv", tmp_path / "here" / ".." / "mine" / "pets.csv", out=tmp_path / "data")
    assert dataset.manifest("all").root == tmp_path / "mine"


def test_names_that_look_the_same_are_matched_to_their_files_with_a_warning(tmp_path: Path, notes: Notes) -> None:
    nfd, nfc = "cafe\u0301.jpg", "caf\u00e9.jpg"
    for seed, name in enumerate((nfd, "sub/b.jpg", "c.PNG", "deep/er/d.jpg")):
        photograph(tmp_path / name, seed)
    (tmp_path / "pets.csv").write_text(f"filename,cat\n{nfc},1\nsub\\b.jpg,0\nc,1\ner/d.jpg,0\n", encoding="utf-8")
    dataset = prepare("csv", tmp_path / "pets.csv", out=tmp_path / "data")
    manifest = dataset.manifest("all")
    assert manifest.images == (nfd, "sub/b.jpg", "c.PNG", "deep/er/d.jpg")
    assert manifest.targets.ravel().tolist() == [1, 0, 1, 0]
    assert any("names were matched to files with a different spelling: 4 times" in line for line in notes.warnings)


def test_two_names_of_one_file_and_a_name_of_two_files_are_errors(tmp_path: Path) -> None:
    for seed, name in enumerate(("sub/b.jpg", "x/c.jpg", "y/c.jpg")):
        photograph(tmp_path / name, seed)
    (tmp_path / "pets.csv").write_text("filename,cat\nsub/b.jpg,1\nsub\\b.jpg,0\nc.jpg,1\n")
    with pytest.raises(DataError) as caught:
        prepare("csv", tmp_path / "pets.csv", out=tmp_path / "data")
    text = str(caught.value)
    assert "same file as sub/b.jpg, which is also annotated" in text
    assert "a similar name (x/c.jpg, y/c.jpg); write the full path" in text


def test_of_a_name_in_other_capitals_the_error_names_the_file_that_is_there(tmp_path: Path) -> None:
    photograph(tmp_path / "Sub" / "A.JPG", 0)
    (tmp_path / "pets.csv").write_text("filename,cat\nsub/a.jpg,1\n")
    with pytest.raises(DataError, match=r"no such image file, but there is .*/Sub/A\.JPG; use that name"):
        prepare("csv", tmp_path / "pets.csv", out=tmp_path / "data")


def test_errors_of_all_tables_of_a_folder_are_reported_at_once(tmp_path: Path) -> None:
    for name in ("train", "val"):
        (tmp_path / f"{name}.csv").write_text("dog,cat\n0,1\n")
    (tmp_path / "test.xlsx").write_bytes(b"")
    findings = ValidationReport()
    reader_of("csv")(tmp_path, ReadOptions(), findings)
    assert [Path(line.partition(":")[0]).name for line in findings.errors] == ["train.csv", "val.csv"]
    assert findings.warnings == [
        f"tables whose format differs from that of the first table were not used: {tmp_path}/test.xlsx"
    ]


def test_bad_images_are_skipped_when_asked(tmp_path: Path, notes: Notes) -> None:
    source = csv(tmp_path)
    data = (tmp_path / "b.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(data[:-2])
    with pytest.raises(DataError, match=r"b\.jpg: truncated"):
        prepare("csv", source, out=tmp_path / "data")
    dataset = prepare("csv", source, out=tmp_path / "data", skip_bad_images=True)
    assert dataset.manifest("all").images == ("a.jpg", "c.jpg")
    assert dataset.info.skipped == {"images that cannot be used": 1}
    assert any("b.jpg: truncated" in line for line in notes.warnings)
    assert summary(dataset).footnotes[-1] == "skipped: 1 image that cannot be used"
    for name in ("a.jpg", "c.jpg"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match="split 'all': the split has no samples"):
        prepare("csv", source, out=tmp_path / "data", skip_bad_images=True)


def test_without_verification_no_image_is_touched(tmp_path: Path) -> None:
    source = csv(tmp_path)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).unlink()
    assert len(prepare("csv", source, out=tmp_path / "data", verify=False).manifest("all")) == 3


def test_a_link_to_a_file_elsewhere_is_refused_and_a_link_to_a_folder_is_not(tmp_path: Path) -> None:
    source = csv(tmp_path / "set", "a.jpg,1,0\nmore/b.jpg,0,1\n")
    shutil.move(tmp_path / "set" / "more", tmp_path / "store")
    (tmp_path / "set" / "more").symlink_to(tmp_path / "store")
    assert len(prepare("csv", source, out=tmp_path / "data").manifest("all")) == 2
    shutil.move(tmp_path / "set" / "a.jpg", tmp_path / "a.jpg")
    (tmp_path / "set" / "a.jpg").symlink_to(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: the link points to a file outside the dataset"):
        prepare("csv", source, out=tmp_path / "data")


@pytest.mark.parametrize(
    "splits",
    [("train", "test"), ("trainval", "test"), ("train", "val"), ("a", "b"), ("test", "a"), ("Testing", "dev")],
)
@pytest.mark.parametrize("by_content", [False, True])
def test_no_image_is_in_two_splits(tmp_path: Path, splits: tuple[str, ...], by_content: bool, notes: Notes) -> None:
    folder = tmp_path / "pets"
    for k, split in enumerate(splits):
        photograph(tmp_path / "images" / f"{split}.jpg", k)
        shared = f"copy of {split}.jpg" if by_content else "shared.jpg"
        photograph(tmp_path / "images" / shared, 99)
        folder.mkdir(exist_ok=True)
        (folder / f"{split}.csv").write_text(f"filename,dog\n{split}.jpg,1\n{shared},1\n")
    options = ReadOptions(images=tmp_path / "images")
    said = "has the same pixels as copy of" if by_content else "shared.jpg is in both"
    with pytest.raises(DataError, match=said) as caught:
        prepare("csv", folder, out=tmp_path / "data", options=options)
    assert "--allow-overlap" in str(caught.value)
    prepare("csv", folder, out=tmp_path / "data", options=options, allow_overlap=True)
    assert any("share images (permitted by --allow-overlap)" in line for line in notes.warnings)


def test_labels_are_a_choice_of_any_source_s_labels(tmp_path: Path) -> None:
    pixels = np.zeros((9, 9, 3), np.uint8)
    for place in ("images", "labels"):
        (tmp_path / place).mkdir()
    for name, label in (("a", 0), ("b", 2)):
        Image.fromarray(pixels + label).save(tmp_path / f"images/{name}.png")
        (tmp_path / f"labels/{name}.txt").write_text(f"{label} .5 .5 .1 .1\n")
    (tmp_path / "data.yaml").write_text("train: images\nnames: [cat, dog, 'caf\u00e9']\n", encoding="utf-8")
    options = ReadOptions(labels=("cafe\u0301", "cat"), year="2014")
    dataset = prepare("yolo", tmp_path, out=tmp_path / "data", options=options)
    assert dataset.manifest("train").labels == ("caf\u00e9", "cat")
    assert dataset.manifest("train").targets.tolist() == [[0, 1], [1, 0]]
    warned = " ".join(dataset.info.warnings)
    assert "options that the dataset format does not use were ignored: year for yolo" in warned
    with pytest.raises(UsageError, match="--labels: 'cat' is listed twice"):
        prepare("yolo", tmp_path, out=tmp_path / "data", options=ReadOptions(labels=("cat", "cat ")))
    with pytest.raises(DataError, match="no label 'Cat'; did you mean 'cat'"):
        prepare("yolo", tmp_path, out=tmp_path / "data", options=ReadOptions(labels=("Cat",)))


def test_the_path_need_not_be_said_where_annotations_says_all(tmp_path: Path) -> None:
    photograph(tmp_path / "photos/a.jpg", 0)
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "cats.json").write_text(json.dumps(content))
    words = ["prepare", "coco", "--annotations", str(tmp_path / "cats.json"), "--images", str(tmp_path / "photos")]
    words += ["--split", "dev", "--out", str(tmp_path / "data")]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    dataset = Dataset.load(tmp_path / "data/cats")
    assert dataset.info.splits == {"val": 1}
    assert dataset.manifest("val").root == tmp_path / "photos"
    with pytest.raises(UsageError, match="PATH is missing"):
        CliRunner().invoke(app, ["prepare", "voc2007"], catch_exceptions=False)


def test_labels_without_a_positive_are_named(tmp_path: Path, notes: Notes) -> None:
    prepare("csv", csv(tmp_path, "a.jpg,0,1\nb.jpg,-1,0\n"), out=tmp_path / "data")
    assert notes.warnings == [
        "split 'all' has no positives for 1 of 2 labels, so the AP of these labels is undefined: cat"
    ]


def people(root: Path) -> Reading:
    """A reading with boxes, as a source of persons gives it; image sizes are 16 x 12."""
    photograph(root / "a.jpg", 0)
    boxes = [[-2, 3, 10, 20], [9, 8, -4, -5], [2, 2, 0, 5], [20, 1, 5, 5]]
    ids = tuple(f"a.jpg#{k}" for k in range(4))
    targets = np.ones((4, 1), dtype=np.int8)
    manifest = Manifest("people", "test", root, ("hat",), ("a.jpg",) * 4, targets, np.array(boxes, np.float64), ids)
    other = Manifest("people", "trainval", root, ("cap",), ("b.jpg",), np.ones((1, 1), dtype=np.int8))
    return Reading("people", [manifest, other], {"kind": "people"}, stated_sizes={"a.jpg": (99, 12)})


@pytest.fixture
def source_of_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reading:
    reading = people(tmp_path)
    del reading.manifests[1]

    def read(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
        return reading

    monkeypatch.setitem(READERS, "people", "")
    monkeypatch.setattr(workflow, "reader_of", lambda kind: read)
    return reading


def test_boxes_are_repaired_and_those_without_area_left_out(
    tmp_path: Path, source_of_people: Reading, notes: Notes
) -> None:
    dataset = prepare("people", tmp_path, out=tmp_path / "data")
    manifest = dataset.manifest("test")
    assert manifest.sample_ids == ("a.jpg#0", "a.jpg#1")
    assert manifest.boxes is not None
    assert manifest.boxes.tolist() == [[0, 3, 8, 9], [5, 3, 4, 5]]
    assert dataset.info.skipped == {"boxes without area": 2}
    assert notes.warnings[0] == "the annotated size differs from the image size: a.jpg (annotated 99x12, actual 16x12)"
    assert "boxes with swapped corners were corrected: a.jpg#1" in notes.warnings
    assert "boxes without area inside the image were skipped: 2 times, first a.jpg#2" in notes.warnings


def test_a_box_that_two_splits_have_is_counted_once_and_one_that_no_pixel_fills_is_none(
    tmp_path: Path, source_of_people: Reading
) -> None:
    (manifest,) = source_of_people.manifests
    assert manifest.boxes is not None
    manifest.boxes[0] = [2.6, 3, 0.7, 5]  # 3 to 3 in whole pixels: a crop of nothing
    manifest.boxes[1] = [2.4, 3, 0.2, 5]  # 2 to 3
    source_of_people.manifests[:] = [replace(manifest, split="train"), replace(manifest, split="trainval")]
    dataset = prepare("people", tmp_path, out=tmp_path / "data")
    assert dataset.manifest("trainval").sample_ids == dataset.manifest("train").sample_ids == ("a.jpg#1",)
    assert decode_box(tmp_path / "a.jpg", (2.4, 3, 0.2, 5)).shape == (5, 1, 3)
    assert dataset.info.skipped == {"boxes without area": 3}


def test_without_verification_boxes_are_cut_at_zero_only(tmp_path: Path, source_of_people: Reading) -> None:
    manifest = prepare("people", tmp_path, out=tmp_path / "data", verify=False).manifest("test")
    assert manifest.boxes is not None
    assert manifest.boxes.tolist() == [[0, 3, 8, 20], [5, 3, 4, 5], [20, 1, 5, 5]]


def test_splits_must_have_the_same_labels(tmp_path: Path, source_of_people: Reading) -> None:
    source_of_people.manifests.append(people(tmp_path).manifests[1])
    with pytest.raises(DataError, match=r"split 'trainval': label sets differ .*missing 'hat'; unexpected 'cap'"):
        prepare("people", tmp_path, out=tmp_path / "data", verify=False)


def test_an_animation_is_a_warning(tmp_path: Path, notes: Notes) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "pets.csv").write_text("filename,dog,cat\na.gif,1,0\nb.png,0,1\n")
    photograph(tmp_path / "b.png", 0)
    prepare("csv", tmp_path / "pets.csv", out=tmp_path / "data")
    assert notes.warnings == ["only the first frame of an animated image is used: a.gif"]


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "a\nb"])
def test_a_name_is_a_plain_folder_name(tmp_path: Path, name: str) -> None:
    if name:
        with pytest.raises(UsageError, match="is not a valid folder name"):
            prepare("csv", csv(tmp_path), out=tmp_path / "data", name=name)
    with pytest.raises(UsageError, match=r"unknown dataset format 'csb'; .*; did you mean 'csv'\?"):
        prepare("csb", tmp_path)


def many(root: Path, count: int, size: tuple[int, int] = (40, 30)) -> Path:
    """A dataset of so many links to one image."""
    photograph(root / "0.jpg", 0, size)
    for k in range(1, count):
        os.link(root / "0.jpg", root / f"{k}.jpg")
    (root / "pets.csv").write_text("filename,dog\n" + "".join(f"{k}.jpg,1\n" for k in range(count)))
    return root / "pets.csv"


def test_threads_find_all_faults_in_order(tmp_path: Path) -> None:
    source = many(tmp_path, 100)
    for k in (7, 70):
        (tmp_path / f"{k}.jpg").unlink()
    (tmp_path / "7.jpg").write_bytes(b"<html>")
    with pytest.raises(DataError) as caught:
        prepare("csv", source, out=tmp_path / "data")
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert "7.jpg: the file is an HTML page" in lines[1]
    assert "70.jpg: no such image file" in lines[2]


@pytest.mark.parametrize(
    ("sent", "code", "told"),
    [
        (signal.SIGINT, 130, b"error: interrupted\n"),
        (signal.SIGTERM, 143, b"error: terminated\n"),
        (signal.SIGKILL, -9, b""),
    ],
)
def test_an_interrupted_prepare_leaves_nothing(tmp_path: Path, sent: signal.Signals, code: int, told: bytes) -> None:
    source = many(tmp_path, 5000, (2000, 1500))  # far more than any machine decodes in two seconds
    out = tmp_path / "data"
    command = [sys.executable, "-m", "mlrec", "prepare", "csv", str(source), "--out", str(out)]
    with started(command) as process:
        until_alive(process.pid)
        time.sleep(1)  # into the decoding
        process.send_signal(sent)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == code, errors
        assert errors == told
        assert not out.exists() or left(out) == []
        assert family(process.pid) == []


def test_shared_files_of_train_and_val_are_a_warning_next_to_trainval(tmp_path: Path) -> None:
    for k, name in enumerate(("shared.jpg", "a.jpg", "b.jpg")):
        photograph(tmp_path / "images" / name, k)
    for split, rows in (("train", "shared a"), ("val", "shared b"), ("trainval", "shared a b")):
        lines = [f"{name}.jpg,{int(name == 'shared')}" for name in rows.split()]
        (tmp_path / f"{split}.csv").write_text("\n".join(["filename,dog", *lines]) + "\n")
    dataset = prepare("csv", tmp_path, out=tmp_path / "data", options=ReadOptions(images=tmp_path / "images"))
    assert dataset.info.warnings == ["splits 'val' and 'train' share images: shared.jpg is in both"]


def test_the_same_pixels_in_another_format_are_the_same_image(tmp_path: Path) -> None:
    photograph(tmp_path / "a.png", 0)
    Image.open(tmp_path / "a.png").save(tmp_path / "b.bmp")
    photograph(tmp_path / "c.png", 1)
    table = tmp_path / "pets.csv"
    table.write_text("filename,split,dog\na.png,Training,1\nb.bmp,testing,1\nc.png,testing,0\n")
    with pytest.raises(DataError, match=r"b\.bmp has the same pixels as a\.png; remove the image from one split"):
        prepare("csv", table, out=tmp_path / "data")


def test_benchmarks_may_hold_a_photograph_twice_in_train_and_val(tmp_path: Path) -> None:
    for k, name in enumerate(("a.png", "b.png", "c.png", "d.png")):
        photograph(tmp_path / "images" / name, k % 2 if k < 3 else 9)
    for split, rows in (("train", "ab"), ("val", "cd"), ("trainval", "abcd")):
        lines = [f"{name}.png,{int(name in 'ac')}" for name in rows]
        (tmp_path / f"{split}.csv").write_text("\n".join(["filename,dog", *lines]) + "\n")
    dataset = prepare("csv", tmp_path, out=tmp_path / "data", options=ReadOptions(images=tmp_path / "images"))
    assert dataset.info.warnings == ["splits 'val' and 'train' share images: c.png has the same pixels as a.png"]


def test_labels_without_a_known_negative_are_counted_and_named(tmp_path: Path) -> None:
    dataset = prepare("csv", csv(tmp_path, "a.jpg,1,1\nb.jpg,-1,0\n"), out=tmp_path / "data")
    assert dataset.info.warnings == [
        "split 'all' has no known negatives for 1 of 2 labels, so the AP of these labels is undefined: cat"
    ]


def test_the_labels_that_were_taken_are_listed(tmp_path: Path) -> None:
    dataset = prepare("csv", csv(tmp_path, "a.jpg,1,0\nb.jpg,1,0\n"), out=tmp_path / "data")
    assert summary(dataset).footnotes == ("labels: cat, dog", "rarest: cat (2)", "never positive: dog")


def test_of_many_labels_the_number_and_the_first_ten_are_listed(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg", 0)
    names = [f"label{k}" for k in range(25)]
    table = tmp_path / "many.csv"
    table.write_text(f"filename,{','.join(names)}\na.jpg,{','.join('1' * 24)},0\n")
    footnotes = summary(prepare("csv", table, out=tmp_path / "data")).footnotes
    assert footnotes == (
        "labels: 25, the first 10: " + ", ".join(names[:10]),
        "rarest: label0 (1), label1 (1), label2 (1)",
        "never positive: label24",
    )


def test_the_command_takes_values_and_names_of_splits(tmp_path: Path) -> None:
    source = csv(tmp_path, "a.jpg,north,1,-1\nb.jpg,south,-1,1\n", "filename,split,cat,dog\n")
    words = ["prepare", "csv", str(source), "--out", str(tmp_path / "data"), "--splits", "north=train,south=testing"]
    CliRunner().invoke(app, [*words, "--negative", "-1"], catch_exceptions=False)
    dataset = Dataset.load(tmp_path / "data/pets")
    assert dataset.info.splits == {"train": 1, "test": 1}
    assert dataset.manifest("train").targets.tolist() == [[1, 0]]
    assert dataset.info.source["options"] == {"split_names": {"north": "train", "south": "test"}, "negative": "-1"}
    with pytest.raises(DataError, match="--negative -1 or --unknown -1"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    with pytest.raises(UsageError, match="use NAME=train"):
        CliRunner().invoke(app, [*words, "--splits", "north"], catch_exceptions=False)
