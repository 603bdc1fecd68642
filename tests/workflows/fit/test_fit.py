"""`mlrec fit`: which splits it takes, how it keeps to its time, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlrec.config_layers import recipe_chain, resolve
from mlrec.datasets.dataset import Dataset
from mlrec.run_folders.record import Run
from mlrec.utils.errors import UsageError
from mlrec.utils.files import MODEL_FILE
from mlrec.workflows.evaluate.evaluate import evaluate_run
from mlrec.workflows.fit import candidates, timing
from mlrec.workflows.fit import fit as workflow
from mlrec.workflows.fit.fit import fit, summary
from mlrec.workflows.fit.splits import fit_splits, limited
from mlrec.workflows.fit.timing import OtherPace, Pace
from mlrec.workflows.runtime import RuntimeOptions
from tests.tiny import make_tiny
from tests.workflows.data.test_split import dataset

TINY: dict[str, Any] = {"pretrained": False, "img_size": 32, "workers": 0, "device": "cpu", "threads": 1}


def ids(data: Dataset, name: str) -> set[str]:
    return set(data.manifest(name).sample_ids)


def test_a_dataset_of_one_split_is_divided_in_three(tmp_path: Path) -> None:
    data = Dataset.load(dataset(tmp_path, "all", samples=200))
    splits = fit_splits(data)
    parts = [ids(splits.dataset, name) for name in (splits.train, splits.val, splits.test)]
    assert [len(part) for part in parts] == [120, 40, 40]
    assert set.union(*parts) == ids(data, "all")
    assert list(data.info.splits) == ["all"]
    again = fit_splits(splits.dataset)
    assert (again.train, again.val, again.test) == ("fit-train", "fit-val", "fit-test")
    assert again.dataset is splits.dataset


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        (("train", "val", "test"), ("train", "val", "test")),
        (("train", "test"), ("fit-train", "fit-val", "test")),
        (("trainval", "test"), ("fit-train", "fit-val", "test")),
        (("train", "val", "trainval", "test"), ("fit-train", "fit-val", "test")),
        (("train", "val"), ("fit-train", "fit-val", "val")),
    ],
)
def test_the_reported_split_is_the_datasets_own(
    tmp_path: Path, own: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    data = Dataset.load(dataset(tmp_path, *own))
    before = {name: data.manifest(name).digest for name in own}
    splits = fit_splits(data)
    if splits.val == "fit-val":  # a fifth of the training split is held out
        pool = ids(data, "trainval" if "trainval" in own else "train")
        assert ids(splits.dataset, splits.train) | ids(splits.dataset, splits.val) == pool
        assert len(ids(splits.dataset, splits.val)) == pytest.approx(0.2 * len(pool), abs=2)
    assert (splits.train, splits.val, splits.test) == expected
    assert not ids(splits.dataset, splits.train) & ids(splits.dataset, splits.val)
    assert not (ids(splits.dataset, splits.train) | ids(splits.dataset, splits.val)) & ids(splits.dataset, splits.test)
    assert {name: Dataset.load(data.path).manifest(name).digest for name in own} == before


def test_a_large_split_is_replaced_by_a_random_part(tmp_path: Path) -> None:
    data = Dataset.load(dataset(tmp_path, "train"))
    assert limited(data, "train", 80) == (data, "train")
    smaller, name = limited(data, "train", 30)
    assert name == "fit-train-30"
    assert len(ids(smaller, name)) == 30
    assert ids(smaller, name) < ids(data, "train")


@pytest.mark.parametrize(
    ("seconds", "can_grow", "changes"),
    [
        (1.0, True, False),
        (1.05, True, False),
        (1.2, True, True),
        (0.8, True, False),
        (0.5, True, True),
        (0.5, False, False),
    ],
)
def test_another_pace_starts_training_again(
    seconds: float, can_grow: bool, changes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace = Pace(total=100, allowed=100.0, can_grow=can_grow)
    clock = iter(np.arange(100) * seconds)
    monkeypatch.setattr(timing.time, "monotonic", lambda: float(next(clock)))
    raised = None
    try:
        for _ in range(20):
            pace.on_step(None)
    except OtherPace as error:
        raised = error.seconds
    assert (raised is not None) == changes
    assert raised is None or raised == pytest.approx(seconds)


def test_fit_leaves_a_model_a_page_label_errors_and_its_choices(tmp_path: Path) -> None:
    data = make_tiny(tmp_path / "tiny")
    result = fit(data, minutes=0.25, out=tmp_path / "runs", backbone="test_resnet", flags=TINY)
    state = json.loads((result.folder / "fit.json").read_text())
    scores = {one["name"]: one["mAP"] or -1 for one in state["candidates"]}
    assert state["best"] == max(scores, key=lambda name: scores[name])
    assert state["candidates"][0]["stage"] == "frozen"
    best = result.folder / "best"
    assert Run.load(best).record.scored is not None
    assert Run.load(best).record.scored.split == state["splits"]["val"]
    assert (
        evaluate_run(
            best, data=data, split=state["splits"]["test"], machine=RuntimeOptions(workers=0, device="cpu")
        ).metrics
        == result.metrics
    )
    assert (best / "thresholds.json").is_file()
    assert (result.folder / "report.html").stat().st_size > 10_000
    page = (result.folder / "report.html").read_text()
    assert "highest mAP on tiny val" in page  # the reported split, not the held-out split
    assert "tiny fit-val" not in page
    assert (result.folder / "label-errors" / "label_errors.csv").is_file()
    assert not list((result.folder / "candidates").glob(f"*/{MODEL_FILE}"))
    assert {str(row.cells[0]) for row in summary(result).rows} == set(scores)
    with pytest.raises(UsageError, match="this fit is finished"):
        fit(data, minutes=0.25, out=tmp_path / "runs", backbone="test_resnet", flags=TINY)


def test_an_interrupted_fit_does_not_train_again_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_tiny(tmp_path / "tiny")
    how: dict[str, Any] = {"minutes": 0.1, "out": tmp_path / "runs", "backbone": "test_resnet", "flags": TINY}

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(workflow._Fit, "fine_tune", killed)
        with pytest.raises(Killed):
            fit(data, **how)
    folder = tmp_path / "runs" / "tiny-fit"
    first = json.loads((folder / "fit.json").read_text())
    assert first["candidates"]
    assert first["spent"] > 0
    times = {
        one["name"]: (folder / "candidates" / one["name"] / "run.json").stat().st_mtime_ns
        for one in first["candidates"]
    }
    with monkeypatch.context() as patch:
        patch.setattr(workflow, "label_errors", killed)  # after the best model was chosen and moved
        with pytest.raises(Killed):
            fit(data, **how)
    chosen = json.loads((folder / "fit.json").read_text())
    result = fit(data, **how)
    assert result.state.best == chosen["best"] is not None
    assert [one.name for one in result.state.candidates] == [one["name"] for one in chosen["candidates"]]
    assert (folder / "report.html").is_file()
    for one in result.state.candidates[: len(times)]:
        place = folder / "best" if one.name == result.state.best else folder / "candidates" / one.name
        assert (place / "run.json").stat().st_mtime_ns == times[one.name]
    assert result.state.spent > first["spent"]


def test_options_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must be above 0"):
        fit(tmp_path, minutes=0)
    with pytest.raises(UsageError, match="--weights requires --backbone"):
        fit(tmp_path, weights="efficientnet-lite0")


def test_time_left_by_fine_tuning_goes_to_further_heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    after_first_pass = []
    monkeypatch.setattr(workflow, "FROZEN_SHARE", 0.0)
    monkeypatch.setattr(workflow._Fit, "fine_tune", lambda own: after_first_pass.extend(own.state.candidates))
    state = fit(
        make_tiny(tmp_path / "tiny"), minutes=3, out=tmp_path / "runs", backbone="test_resnet", flags=TINY
    ).state
    assert [one.name for one in after_first_pass] == ["test_resnet-average"]
    assert {one.pair for one in state.candidates} == {f"test_resnet-{head}" for head in candidates.HEADS}
    assert not [note for note in state.notes if "not tried" in note]


def test_heads_are_compared_on_a_part_and_the_best_is_trained_on_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow, "PROBED", 8)
    monkeypatch.setattr(workflow, "SHARES", {"sample": 0.0, "val": 0.5, "test": 0.5})
    monkeypatch.setattr(workflow._Fit, "fine_tune", lambda own: None)
    result = fit(make_tiny(tmp_path / "tiny"), minutes=3, out=tmp_path / "runs", backbone="test_resnet", flags=TINY)
    state = result.state
    assert state.splits["sample"] == f"fit-{state.splits['train'].removeprefix('fit-')}-8"
    used = {one.name: _train_split(result.folder, one.name, state.best) for one in state.candidates}
    on_all = {name for name, split in used.items() if split == state.splits["train"]}
    assert len(on_all) == 1
    assert {split for name, split in used.items() if name not in on_all} == {state.splits["sample"]}
    assert next(iter(on_all)).endswith("-all")


def test_fine_tuning_takes_a_part_of_an_epoch_if_no_epoch_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow._Fit, "_training_seconds", lambda own, flags: 1.0)  # of each image
    monkeypatch.setattr(workflow._Fit, "_seconds_per_image", lambda own, flags: 1e-6)
    monkeypatch.setattr(workflow, "MOST_FORECASTS", 1)
    monkeypatch.setattr(workflow._Fit, "left", lambda own: 12.0)
    monkeypatch.setattr(workflow._Fit, "_reserve", lambda own: 4.5)  # so there is time for 7 images
    monkeypatch.setattr(workflow, "FROZEN_SHARE", 0.0)
    result = fit(make_tiny(tmp_path / "tiny"), minutes=1, out=tmp_path / "runs", backbone="test_resnet", flags=TINY)
    tuned = [one for one in result.state.candidates if one.stage == "fine-tuned"]
    assert tuned
    for one in tuned:
        assert one.flags["epochs"] == 1
        assert _train_split(result.folder, one.name, result.state.best) == "fit-train-7"
    assert any("because a whole epoch takes too long" in note for note in result.state.notes)


def _train_split(folder: Path, name: str, best: str | None) -> str:
    place = folder / "best" if name == best else folder / "candidates" / name
    train = Run.load(place).record.train
    assert train is not None
    return train.split


@pytest.mark.parametrize("head", ["average", "csra"])
def test_fine_tuning_is_that_of_recipe_mlrec(head: str) -> None:
    flags = candidates.fine_tuned()
    recipe = resolve(("flag", {"head": head}), *recipe_chain("mlrec")).config
    assert {key: getattr(recipe, key) for key in flags} == flags
    assert recipe.lr == candidates.FINE_TUNED_LRS[0]
