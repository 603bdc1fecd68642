"""`mlrec fit`: what an interrupted fit resumes, and how it counts the time; nothing is trained here."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.run_folders import directory
from mlrec.run_folders.record import Run, RunRecord
from mlrec.utils.errors import UsageError
from mlrec.utils.signals import Interrupted
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.fit import candidates
from mlrec.workflows.fit import fit as workflow
from mlrec.workflows.fit.fit import _Fit
from mlrec.workflows.fit.splits import fit_splits, limited, restored
from mlrec.workflows.fit.state import FILE, PAGE, Candidate, FitState, dataset_of, state_at
from mlrec.workflows.fit.timing import OtherPace
from tests.conftest import Notes
from tests.tiny import make_tiny
from tests.workflows.data.test_split import dataset, ids

FLAGS = {"backbone": "fast", "batch_size": 4}


def candidate(name: str, mAP: float, seconds: float = 1.0, backbone: str = "fast", pair: str = "") -> Candidate:
    flags = {**FLAGS, "backbone": backbone}
    return Candidate(name=name, pair=pair or name, stage="frozen", mAP=mAP, seconds=seconds, flags=flags)


def a_fit(root: Path, minutes: float = 10.0, **speeds: float) -> _Fit:
    """A fit of a dataset with 10 training images, 3 held-out images and 9 reported images."""
    data = Dataset.load(make_tiny(root / "tiny"))
    flags, only = {"device": "cpu"}, (None, None)
    fit = _Fit(data, root / "fit", minutes, time.monotonic(), flags, only, data.path, workflow.SILENT)
    fit.per_image = {"fast": 0.001, **speeds}
    fit._save(candidates=[candidate("fast-average", 0.5)])
    return fit


def test_random_parts_that_prepare_has_removed_are_made_again(tmp_path: Path) -> None:
    splits = fit_splits(Dataset.load(dataset(tmp_path, "all", samples=200)))
    part, name = limited(splits.dataset, splits.train, 50)
    before = ids(part.path, name)
    data = Dataset.load(dataset(tmp_path, "all", samples=200))
    assert list(data.info.splits) == ["all"]
    again = restored(fit_splits(data), {"train": "fit-train", "sample": name, "val": "fit-val", "test": "fit-test"})
    assert (again.train, again.sample, again.val, again.test) == ("fit-train", name, "fit-val", "fit-test")
    assert ids(data.path, name) == before
    earlier = restored(fit_splits(again.dataset), {"train": name, "val": "fit-val", "test": "fit-test"})  # no `sample`
    assert (earlier.train, earlier.sample) == (name, name)
    assert restored(again, {}) is again
    with pytest.raises(UsageError, match="split val no longer exists"):
        restored(again, {"train": "fit-train", "val": "val", "test": "fit-test"})


def test_a_held_out_part_of_one_image_is_refused_at_the_start(tmp_path: Path) -> None:
    rows = "".join(f"{k}.jpg,1\n" for k in range(5))
    (tmp_path / "pets.csv").write_text("filename,cat\n" + rows)
    few = prepare("csv", tmp_path / "pets.csv", out=tmp_path / "data", options=ReadOptions(), verify=False)
    with pytest.raises(UsageError, match="too few samples to divide"):
        fit_splits(few)


def test_a_fit_is_finished_when_its_page_is_written(tmp_path: Path) -> None:
    data = Dataset.load(dataset(tmp_path, "all"))
    folder, options = tmp_path / "fit", {"backbone": "fast", "seed": 0, "file": Path("a")}
    state = state_at(folder, 5, data, options, tmp_path)
    folder.mkdir()
    (folder / FILE).write_bytes(workflow.msgspec.json.encode(workflow.msgspec.structs.replace(state, best="fast")))
    assert state_at(folder, 7, data, options, tmp_path).minutes == 7
    with pytest.raises(UsageError, match=r"other options \(img_size not set, seed 0\)"):
        state_at(folder, 5, data, {**options, "seed": 1, "img_size": 64}, tmp_path)
    (folder / PAGE).touch()
    with pytest.raises(UsageError, match="this fit is finished"):
        state_at(folder, 5, data, options, tmp_path)


def test_the_dataset_of_an_earlier_fit_is_not_prepared_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, source = Dataset.load(dataset(tmp_path, "all")), tmp_path / "pets.csv"
    state = state_at(tmp_path / "pets-fit", 5, data, {}, source)
    for name in ("pets-fit", "other", "damaged"):
        (tmp_path / name).mkdir()
        (tmp_path / name / FILE).write_bytes(b"{" if name == "damaged" else workflow.msgspec.json.encode(state))
    for name in (None, "pets-fit", "other"):
        assert dataset_of(source, tmp_path, name) == data
    for path, name in ((source, "a third"), (source, "damaged"), (tmp_path / "cars.csv", None)):
        assert dataset_of(path, tmp_path, name) is None
    monkeypatch.setattr(workflow, "prepare", lambda *_, **__: pytest.fail("the data was prepared again"))
    monkeypatch.setattr(workflow, "_Fit", lambda data, *_: SimpleNamespace(run=lambda: data))
    assert workflow.fit(source, out=tmp_path) == data


def test_a_file_of_an_earlier_version_can_be_resumed(tmp_path: Path) -> None:
    data = Dataset.load(dataset(tmp_path, "all"))
    (tmp_path / FILE).write_text(json.dumps({"minutes": 5, "data": str(data.path)}))
    state = state_at(tmp_path, 5, data, {"seed": 1}, tmp_path)
    assert state == FitState(minutes=5, data=str(data.path), options={"seed": 1})


def started(place: Path, split: str, epochs: int, **seconds: float) -> Run:
    """The folder of a run that was stopped."""
    place.mkdir(parents=True)
    config = {"epochs": epochs, "train_split": split}
    record = RunRecord(name=place.name, status="interrupted", config=config, seconds=seconds)
    record.save(place)
    (place / directory.RESUME).touch()
    return Run(place, record)


def scored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "metrics", lambda own: SimpleNamespace(mAP=0.7))


def test_the_last_forecast_starts_a_new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit, trained = a_fit(tmp_path), []

    def slow(keys: dict[str, Any], *, out: Path, name: str, callbacks: list[Any], **_: Any) -> Run:
        trained.append((keys["train_split"], keys["epochs"]))
        run = started(out / name, keys["train_split"], keys["epochs"])
        if callbacks:
            raise OtherPace(200.0 if len(trained) == 1 else 300.0)  # seconds of a step
        return run

    scored(monkeypatch)
    monkeypatch.setattr(workflow, "train", slow)
    monkeypatch.setattr(workflow, "resume", lambda *_, **__: pytest.fail("an abandoned run was resumed"))
    assert fit._fine_tuned("fast-tuned", "fast", dict(FLAGS), 500.0)
    assert trained == [("fit-train", 30), ("fit-train-8", 1), ("fit-train-6", 1)]  # 3 steps are 10 images
    assert [name for name in Dataset.load(fit.splits.dataset.path).info.splits if "train-" in name] == ["fit-train-6"]
    assert fit.state.candidates[-1].flags["epochs"] == 1


@pytest.mark.parametrize(("allowed", "resumed"), [(50.0, True), (20.0, False)])
def test_an_interrupted_fine_tuning_is_resumed_if_it_ends_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: float, resumed: bool
) -> None:
    fit, taken = a_fit(tmp_path), []
    run = started(tmp_path / "fit" / workflow.CANDIDATES / "fast-tuned", "fit-train", 10, train=50.0)

    def resuming(place: Path, *, callbacks: list[Any], **_: Any) -> Run:
        taken.append(callbacks[0])
        if 3.0 * callbacks[0].total > 1.1 * callbacks[0].allowed:
            raise OtherPace(3.0)
        return run

    scored(monkeypatch)
    monkeypatch.setattr(workflow, "resume", resuming)
    monkeypatch.setattr(workflow, "train", lambda keys, *, out, name, **_: started(out / name, "fit-train", 1))
    assert fit._fine_tuned("fast-tuned", "fast", dict(FLAGS), allowed)
    assert (taken[0].total, taken[0].can_grow) == (30, False)
    assert taken[0].allowed == pytest.approx(allowed + 50.0, abs=2)
    assert (fit.state.candidates[-1].flags["epochs"] == 10) is resumed


def test_the_reserve_is_that_of_backbones_with_candidates(tmp_path: Path) -> None:
    fit = a_fit(tmp_path, slow=100.0)
    constant = workflow.ENDING + 3 * workflow.ENDING_LABEL
    assert fit._reserve() == pytest.approx(constant + 9 * 0.001)
    fit._save(candidates=[*fit.state.candidates, candidate("slow-average", 0.4, backbone="slow")])
    assert fit._reserve() == pytest.approx(constant + 9 * 100.0)


def test_time_of_features_is_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit, clock = a_fit(tmp_path, fast=2.0), [1000.0]
    record = RunRecord(name="run", status="finished", config={}, seconds={"features": 40.0, "train": 3.0})

    def trained(*_: object) -> Run:
        clock[0] += 45.0
        return Run(tmp_path, record)

    scored(monkeypatch)
    monkeypatch.setattr(workflow.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(fit, "_trained", trained)
    fit.begun = clock[0]
    assert not fit._has_time(FLAGS, until=44.0)  # 22 images: 10 for training, 3 held out, 9 reported
    assert fit._has_time(FLAGS, until=46.0)
    fit._train("fast-csra", "fast-csra", "frozen", FLAGS, "fit-train")
    assert fit.state.candidates[-1].seconds == 5.0
    assert fit._has_time(FLAGS, until=45.0 + 6.0)
    assert not fit._has_time({**FLAGS, "backbone": "not measured"}, until=46.0)


def test_two_different_heads_are_tried_on_other_backbones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit, tried = a_fit(tmp_path, slow=0.001), []
    known = [candidate(f"fast-{head}", 0.5 - 0.01 * k) for k, head in enumerate(candidates.HEADS)]
    fit._save(candidates=[*known, candidate("fast-average-lr0.01", 0.495, pair="fast-average")])
    monkeypatch.setattr(fit, "_frozen", lambda name, *_: tried.append(name))
    both = [candidates.Pretrained(name, {"backbone": name, "weights": None}) for name in ("fast", "slow")]
    fit.compare_frozen(both, 600.0)
    assert tried[-2:] == ["slow-average", "slow-csra-H1-lam0.1"]


def test_a_note_is_written_once(tmp_path: Path) -> None:
    fit = a_fit(tmp_path)
    fit._note("too little time")
    fit._note("too little time")
    assert fit.state.notes == ["too little time"]


def test_the_message_of_an_interrupted_fit_names_the_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    fit = a_fit(tmp_path)
    fit._save(splits={"train": "fit-train"})

    def stopped() -> None:
        raise Interrupted("stopped at epoch 3, step 4; resume: mlrec train --resume runs/x", 2)

    monkeypatch.setattr(fit, "train_candidates", stopped)
    with pytest.raises(Interrupted, match="run the same command again to resume this fit") as raised:
        fit.run()
    assert raised.value.exit_code == 130
    assert any(line.startswith(f"resuming {tmp_path / 'fit'} after ") for line in notes.lines)
