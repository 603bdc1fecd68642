"""Trackers get the numbers of `log.jsonl`, continue after a resume, and never stop a run; with real services."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

import mlrec
from mlrec import config
from mlrec.run_folders import directory
from mlrec.training import trackers
from mlrec.training.trackers import TrackedRun, Tracker
from mlrec.utils import plugins
from mlrec.utils.errors import ConfigError, UsageError
from mlrec.utils.plugins import load_part
from tests.tiny import FAST, make_tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


class StopAt:
    """A callback that ends a run after some steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, event: mlrec.TrainEvent) -> None:
        if event.step == self.step:
            raise InterruptedError(f"step {self.step}")


def stopped_and_resumed(data: Path, out: Path, *names: str) -> mlrec.Run:
    """A run that fails after step 4 of 6, and is resumed."""
    with pytest.raises(InterruptedError, match="step 4"):
        mlrec.train(data, out=out, name="one", trackers=list(names), callbacks=[StopAt(4)], progress=False, **FAST)
    before = ids(out / "one")
    run = mlrec.train(resume=out / "one", progress=False)
    assert run.record.status == "finished"
    assert ids(run.path) == before
    return run


def ids(folder: Path) -> dict[str, str]:
    file = folder / "trackers.json"
    content: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
    return content


def logged(run: mlrec.Run, event: str, key: str) -> dict[int, float]:
    return {entry["step"]: entry[key] for entry in directory.log_entries(run.path) if entry["event"] == event}


class Memory:
    """A tracker of another package."""

    runs: ClassVar[list[Any]] = []

    def start(self, run: TrackedRun) -> str:
        self.run, self.scalars, self.pictures, self.status = run, dict[tuple[str, int], float](), list[str](), ""
        self.runs.append(self)
        print("this line must not be on stdout")
        return run.id or f"id-{len(self.runs)}"

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self.scalars |= {(name, step): value for name, value in scalars.items()}

    def log_picture(self, step: int, name: str, file: Path) -> None:
        assert file.read_bytes()[1:4] == b"PNG"
        self.pictures.append(name)

    def finish(self, status: str) -> None:
        self.status = status


class Failing(Memory):
    """A tracker whose service is gone after the first step."""

    def log_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        raise ConnectionError("503\nservice\x1b[31m unavailable")


class NeverStarts(Memory):
    def start(self, run: TrackedRun) -> str:
        raise PermissionError("not logged in")


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trackers as another package adds them, by entry points."""
    parts = {"memory": "Memory", "failing": "Failing", "never-starts": "NeverStarts"}
    points = [SimpleNamespace(name=name, value=f"{__name__}:{kind}") for name, kind in parts.items()]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "mlrec.trackers" else [])
    monkeypatch.setattr(Memory, "runs", [])


@pytest.mark.usefixtures("added")
def test_a_tracker_of_another_package_gets_every_number(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = mlrec.train(data, out=tmp_path, trackers="memory", progress=False, **FAST)
    (tracker,) = Memory.runs
    assert (tracker.run.name, tracker.run.step, tracker.run.id) == (run.path.name, 0, None)
    assert tracker.run.config == run.config
    steps = {step: value for (name, step), value in tracker.scalars.items() if name == "steps/loss"}
    assert steps == logged(run, "steps", "loss")
    metrics = run.metrics()
    assert tracker.scalars["val/mAP", 6] == metrics.mAP
    assert tracker.scalars["final/CF1", 6] == metrics.CF1
    assert (tracker.pictures, tracker.status) == (["curves"], "finished")
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("added")
def test_a_resumed_run_continues_the_run_of_its_tracker(data: Path, tmp_path: Path) -> None:
    run = stopped_and_resumed(data, tmp_path, "memory")
    first, second = Memory.runs
    assert (first.status, second.status) == ("failed", "finished")
    assert (second.run.id, second.run.step) == ("id-1", 4)
    both = first.scalars | second.scalars
    assert {step: value for (name, step), value in both.items() if name == "steps/loss"} == logged(run, "steps", "loss")


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("name", ["failing", "never-starts"])
def test_a_tracker_that_fails_warns_once_and_stops_nothing(data: Path, tmp_path: Path, name: str) -> None:
    with pytest.warns(UserWarning, match="tracker") as caught:
        run = mlrec.train(data, out=tmp_path, trackers=[name, "memory"], progress=False, **FAST)
    (warning,) = [str(one.message) for one in caught if "tracker" in str(one.message)]
    assert warning.startswith(
        f"tracker {name} failed; the run continues without the tracker, and log.jsonl is complete ("
    )
    assert warning.isprintable()
    assert run.record.status == "finished"
    assert len(logged(run, "steps", "loss")) == 6
    assert Memory.runs[-1].status == "finished"  # the other tracker is complete


def test_tensorboard_gets_the_same_numbers_before_and_after_a_resume(data: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = stopped_and_resumed(data, tmp_path, "tensorboard")
    drawn = EventAccumulator(str(run.path / "tensorboard"))
    drawn.Reload()
    losses = {point.step: point.value for point in drawn.Scalars("steps/loss")}
    assert losses == pytest.approx(logged(run, "steps", "loss"))
    assert [point.value for point in drawn.Scalars("val/mAP")] == pytest.approx([run.metrics().mAP])
    assert [picture.step for picture in drawn.Images("curves")] == [6]


def test_the_names_in_the_configuration_are_those_that_exist() -> None:
    assert tuple(trackers.TRACKERS) == config.TRACKERS
    kinds: list[Tracker] = [load_part(place)() for place in trackers.TRACKERS.values()]
    assert len(kinds) == 4


def test_unknown_trackers_are_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown tracker 'wandbb'; expected one of .*; did you mean 'wandb'"):
        mlrec.train(data, out=tmp_path, trackers="wandbb", progress=False, **FAST)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", config.TRACKERS)
def test_a_missing_package_is_an_error_before_anything_is_written(
    data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        UsageError, match=rf"^--trackers {name} requires a package .*; run pip install 'mlrec\[{name}\]'"
    ):
        mlrec.train(data, out=tmp_path / "out", trackers=[name], progress=False, **FAST)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_local_files_is_not_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(UsageError, match="requires a package"):
        trackers.check_trackers(["wandb"])
    sys.modules.pop("wandb", None)


def service(name: str) -> Any:
    return pytest.importorskip(name, reason=f"NOT RUN: needs pip install 'mlrec[{name}]'")


def records_of(content: bytes) -> list[bytes]:
    """Records of a W&B file: LevelDB's log format after a header of 7 bytes."""
    records, part, position = list[bytes](), b"", 7
    while position + 7 <= len(content):
        if 32768 - position % 32768 < 7:  # a header does not cross blocks
            position += 32768 - position % 32768
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        part += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or its last part
            records.append(part)
            part = b""
    return records


@pytest.mark.long
def test_wandb_has_the_run_once_after_a_resume(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    run = stopped_and_resumed(data, tmp_path, "wandb")
    losses, pictures = dict[int, float](), list[Path]()
    for file in sorted((run.path / "wandb").rglob("*.wandb")):
        assert file.name == f"run-{ids(run.path)['wandb']}.wandb"
        pictures += (file.parent / "files").rglob("*.png")
        for content in records_of(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            values = {item.key or item.nested_key[-1]: json.loads(item.value_json) for item in record.history.item}
            if "steps/loss" in values:
                losses[values["_step"]] = values["steps/loss"]
    assert losses == pytest.approx(logged(run, "steps", "loss"))
    assert len(pictures) == 1


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy
def test_mlflow_has_the_run_once_after_a_resume(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = service("mlflow")
    monkeypatch.chdir(tmp_path)  # artifacts are written to ./mlruns
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    run = stopped_and_resumed(data, tmp_path, "mlflow")
    client = mlflow.MlflowClient()
    (found,) = client.search_runs([client.get_experiment_by_name("mlrec").experiment_id])
    assert (found.info.run_id, found.info.run_name, found.info.status) == (ids(run.path)["mlflow"], "one", "FINISHED")
    assert found.data.params["lr"] == "0.02"
    history = client.get_metric_history(found.info.run_id, "steps/loss")
    assert {point.step: point.value for point in history} == pytest.approx(logged(run, "steps", "loss"))
    assert found.data.metrics["final/mAP"] == pytest.approx(run.metrics().mAP)
    assert [file.path for file in client.list_artifacts(found.info.run_id, "curves")] == ["curves/curves.png"]


@pytest.mark.long
def test_trackio_has_the_run_once_after_a_resume(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trackio = service("trackio")
    storage = pytest.importorskip("trackio.sqlite_storage")
    monkeypatch.setattr(storage, "TRACKIO_DIR", tmp_path / "trackio")
    monkeypatch.setattr(trackio.utils, "TRACKIO_DIR", tmp_path / "trackio")
    run = stopped_and_resumed(data, tmp_path, "trackio")
    name = ids(run.path)["trackio"]
    assert storage.SQLiteStorage.get_runs("mlrec") == [name]
    points = [point for point in storage.SQLiteStorage.get_logs("mlrec", name) if "steps/loss" in point]
    assert {point["step"]: point["steps/loss"] for point in points} == pytest.approx(logged(run, "steps", "loss"))
