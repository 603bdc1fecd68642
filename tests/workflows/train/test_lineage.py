"""Every run records where its weights come from, over any number of runs and by every route."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mlrec.config import Config
from mlrec.lineage import Lineage
from mlrec.models import weights
from mlrec.models.checkpoint import read_metadata
from mlrec.reports.results import result_of
from mlrec.reports.runs_table import runs_table
from mlrec.run_folders.evaluations import evaluations
from mlrec.run_folders.record import Run, RunRecord
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.deploy.import_checkpoint import import_checkpoint
from mlrec.workflows.evaluate.evaluate import evaluate_run
from mlrec.workflows.train.run_record import starting_lineage
from mlrec.workflows.train.train import train
from tests import tiny
from tests.conftest import Notes
from tests.models import oracles
from tests.tiny import FAST, make_tiny

ONE = {**FAST, "epochs": 1, "freeze_backbone": True}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets `more` and `own`; a run `first` on more, a run `second` on own that started from it."""
    home = tmp_path_factory.mktemp("lineage")
    make_tiny(home / "own", "own")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tiny.SIZES, "train", 11)
        make_tiny(home / "more", "more")
    run(home, "first", "more")
    run(home, "second", "own", init_from=str(home / "runs/first"))
    return home


def run(home: Path, name: str, dataset: str, *, progress: Progress = SILENT, **flags: Any) -> Run:
    settings = {**ONE, "data": str(home / dataset / "data" / dataset), **flags}
    return train(settings, out=home / "runs", name=name, progress=progress)


def trainings(record: RunRecord) -> list[tuple[str, str, str]]:
    assert record.lineage is not None
    return [(step.dataset, step.split, step.run) for step in record.lineage.trainings]


@pytest.mark.parametrize("key", ["init_from", "weights"])
@pytest.mark.parametrize("form", ["folder", "file", "copy"])
def test_extra_data_is_marked_over_two_hops_by_every_route(home: Path, tmp_path: Path, key: str, form: str) -> None:
    source = home / "runs/second"
    if form != "folder":
        source = source / "model.safetensors"
    if form == "copy":
        source = Path(shutil.copy(source, tmp_path / "moved.safetensors"))
    third = run(home, f"third-{key}-{form}", "own", **{key: str(source)})
    assert [step[:2] for step in trainings(third.record)] == [("more", "train"), ("own", "train")]
    result = result_of(third)
    assert result.extra == "more"
    assert result.settings["trained before on"] == "own train"
    plain = result_of(Run.load(home / "runs/first"))
    assert plain.extra == ""
    assert result.block != plain.block


def test_the_record_names_runs_and_the_first_weights(home: Path) -> None:
    record = RunRecord.load(home / "runs/second")
    assert trainings(record) == [("more", "train", "first")]
    assert record.lineage is not None
    assert (record.lineage.weights, record.lineage.origin) == ("random", "random")
    stored = read_metadata(home / "runs/second").lineage
    assert stored is not None
    assert [step.dataset for step in stored.trainings] == ["more", "own"]
    assert stored.trainings[-1].digest == record.train.digest  # type: ignore[union-attr]


def as_earlier_version(folder: Path) -> None:
    """Take the lineage out of a run's record and model, as an earlier version wrote them."""
    record = json.loads((folder / "run.json").read_text())
    del record["lineage"]
    (folder / "run.json").write_text(json.dumps(record))
    import safetensors
    from safetensors.torch import load_file, save_file

    with safetensors.safe_open(folder / "model.safetensors", framework="pt") as opened:
        told = json.loads(opened.metadata()["mlrec"])
    del told["lineage"]
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors, folder / "model.safetensors", {"mlrec": json.dumps(told)})


def test_records_of_earlier_versions_load_and_are_unknown_only_where_it_matters(home: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(home / "runs/first", runs / "first")
    shutil.copytree(home / "runs/second", runs / "second")
    for name in ("first", "second"):
        as_earlier_version(runs / name)
    record = json.loads((runs / "second/run.json").read_text())
    record["config"]["init_from"] = str(runs / "first")
    (runs / "second/run.json").write_text(json.dumps(record))
    first, second = (result_of(Run.load(runs / name)) for name in ("first", "second"))
    assert (first.extra, second.extra) == ("", "more")
    assert [step.dataset for step in starting_lineage(config_with(runs / "second"), "x").trainings] == [
        "more",
        "own",
    ]
    shutil.rmtree(runs / "first")
    assert result_of(Run.load(runs / "second")).extra == "unknown (first)"


def config_with(init: Path) -> Any:
    return Config(init_from=str(init))


def test_runs_that_name_each_other_are_not_followed_for_ever(home: Path, tmp_path: Path) -> None:
    for name, other in (("a", "b"), ("b", "a")):
        shutil.copytree(home / "runs/first", tmp_path / name)
        as_earlier_version(tmp_path / name)
        record = json.loads((tmp_path / name / "run.json").read_text())
        record["config"]["init_from"] = str(tmp_path / other)
        (tmp_path / name / "run.json").write_text(json.dumps(record))
    assert result_of(Run.load(tmp_path / "a")).extra == "unknown (b)"


def backbone_file(path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(oracles.resnet_state(18), path)
    return path


def test_a_file_is_of_unknown_origin_unless_its_content_is_published_or_it_is_declared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = backbone_file(tmp_path / "resnet18-f37072fd.pth")  # the name of a published file, not its content
    unknown = weights.file_lineage(file, "resnet18.a1_in1k")
    assert (unknown.origin, unknown.weights, unknown.label) == (
        "unknown", file.name, f"{file.name} (unknown origin)",
    )  # fmt: skip
    declared = weights.file_lineage(file, "resnet18", "cutmix_in1k")
    assert (declared.origin, declared.tag, declared.is_cutmix) == ("declared", "cutmix_in1k", True)
    monkeypatch.setitem(weights.PUBLISHED, "resnet18", {unknown.sha256[:8]: "tv_in1k"})
    known = weights.file_lineage(file, "resnet18.a1_in1k", "cutmix_in1k")
    assert (known.origin, known.weights) == ("timm", "resnet18.tv_in1k")


def test_timm_addresses_name_the_published_files() -> None:
    assert weights._published("resnet101")["63fe2227"] == "tv_in1k"
    assert weights._published("resnet101")["5d3b4d8f"] == "tv_in1k"
    assert weights._published("vit_base_patch16_224")["80ecf9dd"] == "orig_in21k_ft_in1k"


def test_a_run_from_a_file_is_marked(home: Path, tmp_path: Path, notes: Notes) -> None:
    file = backbone_file(tmp_path / "somewhere.pth")
    flags = {"backbone": "resnet18", "weights": str(file)}
    plain = run(home, "file", "own", **flags)
    assert any("somewhere.pth: weights of unknown origin" in line for line in notes.warnings)
    told = run(home, "told", "own", **flags, weights_origin="openimages")
    assert result_of(plain).extra == "unknown (somewhere.pth)"
    assert result_of(told).extra == "openimages"
    table = runs_table([result_of(plain), result_of(told)])
    assert len({row.group for row in table.rows}) == 2
    assert not any(str(tmp_path) in str(cell) for row in table.rows for cell in row.cells)


def test_an_imported_model_and_what_starts_from_it_are_of_unknown_origin(home: Path, tmp_path: Path) -> None:
    torch.manual_seed(1)
    state = oracles.resnet_state(18)
    heads = oracles.heads_of(1, 3, 512)
    torch.save(state | {f"classifier.multi_head.{k}.head.weight": h for k, h in enumerate(heads)}, tmp_path / "x.pth")
    imported = import_checkpoint(
        tmp_path / "x.pth", out=tmp_path / "in", lam=0.2, dataset=str(home / "own/data/own"), img_size=32
    )
    evaluate_run(imported.path, data=home / "own/data/own", split="val")
    (found,) = evaluations(tmp_path / "in")
    result = result_of(found)
    assert (result.extra, result.train) == ("unknown (x.pth)", None)
    assert result.settings == {"weights": "x.pth (unknown origin)", "training": "unknown"}
    after = run(home, "after", "own", backbone="resnet18", init_from=str(imported.path))
    assert result_of(after).extra == "unknown (x.pth)"


def test_an_evaluation_of_a_moved_model_keeps_its_lineage(home: Path, tmp_path: Path) -> None:
    file = shutil.copy(home / "runs/second/model.safetensors", tmp_path / "moved.safetensors")
    evaluation = evaluate_run(file, data=home / "own/data/own", split="val")
    (found,) = evaluations(evaluation.path)
    result = result_of(found)
    assert result.extra == "more"
    assert result.train is not None
    assert (result.train.dataset, result.train.split) == ("own", "train")


IMAGENET = (
    "tv_in1k", "augreg_in21k_ft_in1k", "mae", "dino", "fcmae_ft_in22k_in1k_384", "sw_in12k_ft_in1k", "ssld_in1k",
)  # fmt: skip
MORE = (
    "openai_ft_in1k", "laion2b_ft_in12k_in1k", "fb_wsl_ig1b_ft_in1k", "ns_jft_in1k", "dinov3_lvd1689m", "webli",
    "fb_ssl_yfcc100m_ft_in1k",
)  # fmt: skip


@pytest.mark.parametrize("tag", [*IMAGENET, *MORE])
def test_data_of_pretrained_weights_beyond_imagenet_is_extra_data(tag: str) -> None:
    lineage = Lineage(weights=f"some_model.{tag}", origin="timm")
    assert lineage.extra_data(None) == (tag if tag in MORE else "")
