"""The commands as Python functions: the same results as the commands, clear errors, and the user's own ones."""

from __future__ import annotations

import math
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mlrec
from mlrec.run_folders import directory
from mlrec.utils.errors import ConfigError, ModelError, PredictionsError, RunError, UsageError
from mlrec.workflows.train.train import train as workflow
from tests.tiny import FAST, LABELS, make_tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


class Recorder:
    """A callback that keeps every event."""

    def __init__(self) -> None:
        self.events: list[tuple[str, mlrec.TrainEvent]] = []

    def on_step(self, event: mlrec.TrainEvent) -> None:
        self.events.append(("step", event))

    def on_epoch(self, event: mlrec.TrainEvent) -> None:
        self.events.append(("epoch", event))

    def on_end(self, event: mlrec.TrainEvent) -> None:
        self.events.append(("end", event))


RECORDER = Recorder()


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> mlrec.Run:
    out = tmp_path_factory.mktemp("runs")
    return mlrec.train(data, out=out, callbacks=[RECORDER], progress=False, eval_every=1, **FAST)


def test_train_is_the_workflow_of_the_command(run: mlrec.Run, data: Path, tmp_path: Path) -> None:
    command = workflow({**FAST, "data": str(data), "eval_every": 1}, out=tmp_path)
    assert command.config == run.config
    assert np.array_equal(command.predictions().logits, run.predictions().logits)


def test_callbacks_see_the_numbers_of_the_log(run: mlrec.Run) -> None:
    entries = directory.log_entries(run.path)
    assert [kind for kind, _ in RECORDER.events] == ["step"] * 3 + ["epoch"] + ["step"] * 3 + ["epoch", "end"]
    steps = [event for kind, event in RECORDER.events if kind == "step"]
    logged = [
        (entry["epoch"], entry["step"], entry["loss"], entry["lr"]) for entry in entries if entry["event"] == "steps"
    ]
    assert [(event.epoch, event.step, event.loss, event.lr) for event in steps] == logged
    epochs = [event for kind, event in RECORDER.events if kind == "epoch"]
    assert [event.loss for event in epochs] == [entry["loss"] for entry in entries if entry["event"] == "epoch"]
    assert [event.metrics["val/mAP"] for event in epochs] == [e["mAP"] for e in entries if e["event"] == "scored"]
    _, end = RECORDER.events[-1]
    metrics = run.metrics()
    assert (end.run, end.epoch, end.metrics["val/CF1"]) == (run.path, 2, metrics.CF1)
    assert all(math.isfinite(value) for value in end.metrics.values())


@pytest.mark.parametrize(("method", "step"), [("on_step", 2), ("on_epoch", 3), ("on_end", 6)])
@pytest.mark.parametrize(
    "error",
    [KeyError("mine"), RuntimeError("CUDA out of memory, in my own code"), ConfigError("my own")],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_a_callback_is_raised_with_its_traceback_and_the_run_resumes(
    data: Path, run: mlrec.Run, tmp_path: Path, method: str, step: int, error: Exception
) -> None:
    def broken(event: mlrec.TrainEvent) -> None:
        if event.step == step:
            raise error

    settings: dict[str, Any] = {**FAST, "eval_every": 1}
    with pytest.raises(type(error)) as caught:
        mlrec.train(
            data, out=tmp_path, name="r", callbacks=[type("Own", (), {method: staticmethod(broken)})], progress=False,
            **settings,
        )  # fmt: skip
    assert caught.value is error
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "broken"
    status = mlrec.load_run(tmp_path / "r").record.status
    if method == "on_end":
        assert status == "finished"
        return
    assert status == "failed"
    again = mlrec.train(resume=tmp_path / "r", progress=False)
    assert np.array_equal(again.predictions().logits, run.predictions().logits)


def test_a_callback_without_a_known_method_is_refused(data: Path, tmp_path: Path) -> None:
    class Mine:
        def on_epoch_end(self) -> None:
            pass

    message = (
        r"^callback Mine has none of the methods on_step, on_epoch, on_end \(found a similar name: on_epoch_end\); "
    )
    with pytest.raises(UsageError, match=message):
        mlrec.train(data, out=tmp_path / "out", callbacks=[Mine()], **FAST)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learning_rate": 0.1}, "^mlrec.train: unknown key 'learning_rate'; did you mean 'lr'"),
        ({"epochs": 1.5}, "^mlrec.train: epochs = 1.5"),
        ({"lr": "fast"}, "^mlrec.train: lr = 'fast'"),
        ({"resume": "runs/x", "recipe": "paper"}, "^recipe, config and name cannot be used with resume"),
    ],
)
def test_invalid_settings_are_refused(data: Path, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mlrec.train(data, out=tmp_path / "out", progress=False, **settings)
    assert not (tmp_path / "out").exists()


def test_texts_are_parsed_as_on_the_command_line(data: Path, tmp_path: Path) -> None:
    settings = {**FAST, "lr": "0.02", "temperatures": "1,inf", "epochs": 1, "init_from": None}
    with pytest.raises(ConfigError, match="init_from"):
        mlrec.train(data, out=tmp_path, **{**settings, "init_from": 3})
    trained = mlrec.train(data, out=tmp_path, progress=False, **settings)
    assert (trained.config["lr"], trained.config["temperatures"]) == (0.02, [1.0, "inf"])


def test_without_progress_a_warning_is_one_of_python(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.warns(UserWarning, match="split 'train' shares 13 images with the training split 'train'"):
        mlrec.train(data, out=tmp_path, train_split="train", split="train", progress=False, **{**FAST, "epochs": 1})
    assert capsys.readouterr() == ("", "")
    with warnings.catch_warnings():
        mlrec.train(data, out=tmp_path, train_split="train", split="train", **{**FAST, "epochs": 1})
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "warning: split 'train' shares 13 images" in printed.err


def test_evaluate_run_gives_the_metrics_of_the_command(run: mlrec.Run, data: Path) -> None:
    assert mlrec.evaluate_run(run, progress=False) == run.metrics()
    assert (run.path / "eval-tiny-val" / "metrics.json").is_file()
    one = mlrec.evaluate_run(run.path, data, "train", labels=["red"], conventions="csra", device="cpu", progress=False)
    assert (list(one.average_precision), one.counts["samples"], one.conventions.name) == (["red"], 13, "csra")
    mlrec.evaluate_run(run, tta="flip", progress=False)
    assert (run.path / "eval-tta-tiny-val" / "metrics.json").is_file()
    with pytest.raises(PredictionsError, match="no label 'redd'"):
        mlrec.evaluate_run(run, labels=["redd"], progress=False)


def test_load_run_opens_everything_of_a_run(run: mlrec.Run, data: Path) -> None:
    opened = mlrec.load_run(str(run.path))
    assert opened.config["backbone"] == FAST["backbone"]
    assert opened.metrics() == run.metrics()
    assert opened.manifest().sample_ids == opened.predictions().sample_ids
    assert len(opened.manifest("train")) == 13
    ours, same = opened.load_model().state_dict(), mlrec.load_model(opened).state_dict()
    assert all(np.array_equal(ours[key], same[key]) for key in same)
    with pytest.raises(RunError, match="not a run folder"):
        mlrec.load_run(data)


def test_attention_maps_sum_to_the_logit(run: mlrec.Run) -> None:
    manifest, predictions = run.manifest(), run.predictions()
    files = [manifest.root / name for name in manifest.images]
    maps = mlrec.attention(run, files, labels=["red", "blue"], device="cpu")
    columns = [LABELS.index("red"), LABELS.index("blue")]
    sums = np.array([one.maps.sum((1, 2)) for one in maps])
    np.testing.assert_allclose(sums, predictions.logits[:, columns], atol=1e-4)
    loaded = mlrec.attention(run.load_model(), iter(files), labels=["red", "blue"], batch_size=4)
    assert all(np.allclose(one.maps, other.maps, atol=1e-4) for one, other in zip(maps, loaded, strict=True))
    (attended,) = mlrec.attention(run, files[0], labels=["red"], temperature=1.0)
    assert attended.maps.sum() == pytest.approx(1)
    (best,) = mlrec.attention(run, files[0], top=1)
    assert best.labels == (LABELS[int(predictions.logits[0].argmax())],)


def test_attention_names_what_is_wrong(run: mlrec.Run, tmp_path: Path) -> None:
    photo = run.manifest().root / run.manifest().images[0]
    with pytest.raises(PredictionsError, match=f"{run.path.name}: no label 'cat'"):
        mlrec.attention(run, photo, labels=["cat"])
    with pytest.raises(PredictionsError, match="the model: no label 'cat'"):
        mlrec.attention(run.load_model(), photo, labels=["cat"])
    with pytest.raises(UsageError, match=r"missing\.png"):
        mlrec.attention(run, tmp_path / "missing.png")
    with pytest.raises(ModelError, match="not a model; pass a run folder"):
        mlrec.attention(tmp_path, photo)
