"""What a training command fills in, refuses and leaves behind."""

from __future__ import annotations

import csv
import json
import math
import resource
import shutil
import signal
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlrec.datasets import dataset as folder
from mlrec.datasets.dataset import Dataset, Info
from mlrec.metrics.evaluate import evaluate
from mlrec.models.checkpoint import load_model, read_metadata
from mlrec.models.classifier import create_model
from mlrec.reports.results import result_of
from mlrec.run_folders import directory
from mlrec.run_folders.record import Run, RunRecord
from mlrec.training import state
from mlrec.training.prediction import InferenceOptions, predict
from mlrec.training.throughput import seconds_per_image
from mlrec.utils.errors import ConfigError, DataError, MlrecError, ModelError, RunError, UsageError
from mlrec.utils.progress import SILENT, RunProgress, Silent, Step
from mlrec.utils.signals import Interrupted
from mlrec.workflows.train.train import resume, train
from tests.conftest import Notes
from tests.tiny import FAST, LABELS, make_tiny

FILES = {
    "config.toml", "run.json", "log.jsonl", "metrics.json", "predictions.npz", "per_label.csv", "model.safetensors",
    "curves.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("train"))


@pytest.fixture(scope="module")
def run(data: Path) -> Run:
    flags = {**FAST, "data": str(data), "eval_every": 1, "temperatures": [1.0, math.inf]}
    return train(flags, out=data.parents[1] / "runs", command=["mlrec", "train"])


def test_the_run_folder_holds_what_is_promised_and_nothing_else(run: Run) -> None:
    assert {entry.name for entry in run.path.iterdir()} == FILES | {directory.LOCK}
    record = RunRecord.load(run.path)
    assert (record.status, record.recipe, record.command) == ("finished", "paper", ["mlrec", "train"])
    assert (record.sources["lr"], record.sources["momentum"], record.sources["ema"]) == (
        "flag",
        "recipe paper",
        "default",
    )
    assert record.train is not None
    assert record.scored is not None
    assert (record.train.split, record.train.samples) == ("train", 13)
    assert (record.scored.split, record.scored.samples, record.scored.dataset) == ("val", 9, "tiny")
    assert record.finished is not None
    assert record.finished > record.started
    assert {"train", "eval"} <= set(record.seconds)
    assert record.environment["torch"]
    assert record.model["head_parameters"] == 2 * 3 * load_model(run.path).backbone.num_features


def test_the_numbers_are_those_of_the_model_that_was_stored(run: Run, data: Path) -> None:
    predictions = run.predictions()
    again = predict(
        load_model(run.path),
        Dataset.load(data).manifest("val"),
        InferenceOptions(batch_size=4, workers=0, device="cpu"),
    )
    assert np.array_equal(predictions.logits, again.logits)
    assert predictions.targets is not None
    metrics = evaluate(predictions.logits, predictions.targets, labels=LABELS)
    assert replace(run.metrics(), by_frequency={}) == metrics
    assert {name: group.labels for name, group in run.metrics().by_frequency.items()} == {"tail": 3}
    rows = list(csv.DictReader((run.path / "per_label.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == list(LABELS)
    assert [float(row["AP"]) for row in rows] == [metrics.average_precision[name] for name in LABELS]
    assert [float(row["F1"]) for row in rows] == [metrics.per_label[name].F1 for name in LABELS]
    assert sum(int(row["support"]) for row in rows) == metrics.counts["positives"]
    assert sum(int(row["unknown"]) for row in rows) == metrics.counts["unknown"] == 1
    assert result_of(run).values["mAP"] == metrics.mAP


def test_config_toml_repeats_the_run(run: Run, tmp_path: Path) -> None:
    content = tomllib.loads((run.path / "config.toml").read_text())
    assert content["temperatures"] == [1.0, math.inf]
    again = train({}, file=run.path / "config.toml", out=tmp_path)
    assert read_metadata(again.path).sha256 == read_metadata(run.path).sha256
    assert json.loads((run.path / "run.json").read_text())["config"]["temperatures"] == [1.0, "inf"]


def test_the_log_tells_steps_epochs_and_scores_in_order(run: Run) -> None:
    entries = directory.log_entries(run.path)
    assert [entry["event"] for entry in entries] == [*["steps"] * 3, "epoch", "scored"] * 2
    assert [e["step"] for e in entries if e["event"] == "steps"] == [1, 2, 3, 4, 5, 6]
    assert [e["epoch"] for e in entries if e["event"] == "scored"] == [1, 2]
    losses = [e["loss"] for e in entries if e["event"] == "steps"]
    assert [e["loss"] for e in entries if e["event"] == "epoch"] == pytest.approx(
        [sum(losses[:3]) / 3, sum(losses[3:]) / 3]
    )


def test_the_best_epoch_is_marked_only_where_epochs_were_scored(run: Run, data: Path, tmp_path: Path) -> None:
    scored = [e for e in directory.log_entries(run.path) if e["event"] == "scored"]
    best = max(scored, key=lambda e: (e["mAP"], -e["epoch"]))
    assert run.record.best == {"epoch": best["epoch"], "split": "val", "mAP": best["mAP"]}
    assert run.metrics().mAP == scored[-1]["mAP"]
    once = train({**FAST, "data": str(data), "epochs": 1}, out=tmp_path)
    assert once.record.best is None


def test_a_selection_split_keeps_the_best_and_stops_early(data: Path, tmp_path: Path) -> None:
    dataset = Dataset.load(data)
    three = tmp_path / "three"
    three.mkdir()
    parts = [
        dataset.manifest("train").subset(range(9), "train"),
        dataset.manifest("train").subset(range(9, 13), "hold"),
    ]
    info = Info("three", {"kind": "csv"}, "paper", list(LABELS), {"train": 9, "hold": 4, "val": 9})
    folder.write(three, info, [*parts, dataset.manifest("val")])
    flags = {**FAST, "data": str(three), "select_split": "hold", "patience": 2, "epochs": 20, "lr": 1e-9}
    run = train(flags, out=tmp_path)
    chosen = [e for e in directory.log_entries(run.path) if e["event"] == "scored" and e["split"] == "hold"]
    assert [e["epoch"] for e in chosen] == [1, 2, 3]
    assert run.record.best == {"epoch": 1, "split": "hold", "mAP": chosen[0]["mAP"]}
    assert (run.path / directory.BEST).is_file()
    assert [e["split"] for e in directory.log_entries(run.path) if e["event"] == "scored"].count("val") == 1
    with pytest.raises(UsageError, match="hold out a different split"):
        train({**flags, "train_split": "hold"}, out=tmp_path)
    with pytest.raises(ConfigError, match="patience"):
        train({**FAST, "data": str(data), "patience": 2}, out=tmp_path)


def test_frozen_features_are_the_same_code_path_and_are_noted(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data), "freeze_backbone": True}
    run = train(flags, out=tmp_path)
    assert run.record.notes == ["frozen, no augmentation"]
    assert "features" in run.record.seconds
    start = train({**flags, "lr": 1e-30, "epochs": 1}, out=tmp_path)
    ours, theirs = load_model(run.path), load_model(start.path)
    assert all(
        torch.equal(a, b)
        for a, b in zip(ours.backbone.state_dict().values(), theirs.backbone.state_dict().values(), strict=True)
    )
    assert not torch.equal(next(ours.head.parameters()), next(theirs.head.parameters()))
    again = predict(ours, Dataset.load(data).manifest("val"), InferenceOptions(batch_size=4, workers=0, device="cpu"))
    np.testing.assert_array_equal(again.logits, run.predictions().logits)
    assert train({**flags, "feature_copies": 2}, out=tmp_path).record.notes == ["frozen, 2 augmented copies"]


def test_a_frozen_backbone_computes_in_the_precision_that_was_asked_for(
    data: Path, tmp_path: Path, notes: Notes
) -> None:
    flags = {**FAST, "data": str(data), "freeze_backbone": True, "epochs": 1, "precision": "bf16"}
    run = train(flags, out=tmp_path)
    assert any(line.startswith("features: 1 x 13 x") and " bfloat16," in line for line in notes.lines)
    again = predict(
        load_model(run.path),
        Dataset.load(data).manifest("val"),
        InferenceOptions(batch_size=4, workers=0, precision="bf16"),
    )
    np.testing.assert_array_equal(again.logits, run.predictions().logits)


@pytest.mark.parametrize("head", ["average", "spatial", "gcn"])
def test_every_head_trains(data: Path, tmp_path: Path, head: str) -> None:
    run = train({**FAST, "data": str(data), "head": head, "epochs": 1}, out=tmp_path)
    assert load_model(run.path).architecture.head == head


def test_a_config_error_comes_before_any_data_is_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'lr'"):
        train({"learning_rat": 1}, data_root=tmp_path / "absent", out=tmp_path / "runs")
    with pytest.raises(DataError, match="no prepared dataset"):
        train({}, data_root=tmp_path / "absent", out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_weights_out_of_reach_leave_no_folder(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlrec.models.hub._answers", lambda _: False)
    with pytest.raises(ModelError, match="did not respond"):
        train({**FAST, "data": str(data), "pretrained": True, "backbone": "test_vit"}, out=tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("*"))


def test_a_name_that_exists_is_refused_before_work(data: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(RunError, match="already exists"):
        train({**FAST, "data": str(data)}, out=tmp_path, name="taken")


def test_a_compiler_that_fails_is_named_and_no_bug_of_ours(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*_: object) -> None:
        from torch._inductor.exc import CppCompileError

        raise CppCompileError(["g++"], "no such option")

    monkeypatch.setattr("mlrec.training.loop.train_step", step)
    with pytest.raises(RunError, match=r"torch.compile failed \(C\+\+ compile error\); .*train without --compile"):
        train({**FAST, "data": str(data), "compile": True}, out=tmp_path)


def test_a_run_that_diverges_says_so_and_keeps_what_was_good(data: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"at step \d+ .*last good checkpoint: step 0"):
        train({**FAST, "data": str(data), "lr": 1e30}, out=tmp_path, name="run")
    assert RunRecord.load(tmp_path / "run").status == "failed"
    assert not (tmp_path / "run" / directory.MODEL).exists()


def test_memory_that_runs_out_is_told_with_what_to_try(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("mlrec.training.loop.train_step", full)
    with pytest.raises(
        RunError, match=r"batch size 4 in 1 part, 32 px, fp32; try --grad-accum-steps 2 \(parts of 2\) or --precision"
    ):
        train({**FAST, "data": str(data)}, out=tmp_path)


def test_an_image_that_cannot_be_read_names_it_and_the_run_resumes_once_it_can(tmp_path: Path) -> None:
    data = make_tiny(tmp_path)
    picture = tmp_path / "pictures" / "train05.png"
    whole = picture.read_bytes()
    picture.write_bytes(whole[:100])
    with pytest.raises(MlrecError, match=r"train05\.png"):
        train({**FAST, "data": str(data)}, out=tmp_path, name="run")
    picture.write_bytes(whole)
    assert resume(tmp_path / "run").record.status == "finished"


def test_a_run_starts_from_the_backbone_of_another_with_a_new_head(data: Path, tmp_path: Path, notes: Notes) -> None:
    first = train({**FAST, "data": str(data), "epochs": 1}, out=tmp_path)
    flags = {**FAST, "data": str(data), "init_from": str(first.path), "epochs": 1, "lr": 1e-30, "freeze_backbone": True}
    second = train(flags, out=tmp_path)
    ours, theirs = load_model(second.path).state_dict(), load_model(first.path).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if key.startswith("backbone."))
    assert not torch.equal(ours["head.weight"], theirs["head.weight"])
    count = len([key for key in ours if key.startswith("backbone.")])
    assert any(line.startswith("weights: ") and f"{count} of {count} tensors" in line for line in notes.lines)


def test_a_backbone_keeps_the_normalisation_it_was_trained_with(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data), "epochs": 1, "freeze_backbone": True}
    first = train({**flags, "normalization": "unit"}, out=tmp_path, name="first")
    assert load_model(first.path).preprocessing.mean == (0, 0, 0)
    with pytest.raises(Interrupted):
        train({**flags, "init_from": str(first.path)}, out=tmp_path, name="second", progress=Signalling(6))
    shutil.rmtree(first.path)  # what was begun needs it no more
    second = load_model(resume(tmp_path / "second").path).preprocessing
    assert (second.mean, second.std) == ((0, 0, 0), (1, 1, 1))


def of_one_image(root: Path) -> Path:
    """The tiny dataset with one image to train on."""
    dataset = Dataset.load(make_tiny(root))
    single, scored = dataset.manifest("train").subset([0]), dataset.manifest("val")
    folder.write(
        dataset.path, Info("tiny", {"kind": "csv"}, "paper", list(LABELS), {"train": 1, "val": 9}), [single, scored]
    )
    return dataset.path


def test_one_image_trains_where_its_map_has_more_than_one_location(tmp_path: Path) -> None:
    data = of_one_image(tmp_path)
    assert train({**FAST, "data": str(data), "img_size": 64}, out=tmp_path).record.status == "finished"
    with pytest.raises(RunError, match="increase --img-size or --batch-size"):
        train({**FAST, "data": str(data)}, out=tmp_path)


class Signalling(Silent):
    """A progress that sends this process a signal at the n-th step it is told of."""

    def __init__(self, at: int) -> None:
        self.left = at

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        def step(done: int = 1, facts: str = "") -> None:
            self.left -= 1
            if not self.left:
                signal.raise_signal(signal.SIGTERM)  # to this thread, so that it is handled in this step

        yield step


def test_a_long_training_on_a_cpu_is_announced_with_a_quick_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    monkeypatch.setattr("mlrec.utils.weight_packages.installed", lambda _: True)
    monkeypatch.setattr("mlrec.workflows.train.trainer.seconds_per_image", lambda *_: 100.0)
    train({**FAST, "data": str(data)}, out=tmp_path)
    # 13 samples, 2 epochs, three times a forward pass; 9 samples scored once: 8,700 s
    (line,) = [line for line in notes.lines if "on this CPU" in line]
    assert "training test_efficientnet at 32 px on this CPU will take about 2.4 h" in line
    assert f"mlrec train --data {data} --train-split train --split val --recipe demo" in line
    notes.lines.clear()
    train({**FAST, "data": str(data)}, out=tmp_path, progress=RunProgress(SILENT))  # as mlrec fit does
    assert not any("on this CPU" in line for line in notes.lines)
    for other in ({"freeze_backbone": True}, {"img_size": 33}):
        if "img_size" in other:
            monkeypatch.setattr("mlrec.workflows.train.trainer.seconds_per_image", lambda *_: 0.01)
        notes.lines.clear()
        train({**FAST, "data": str(data), "epochs": 1, **other}, out=tmp_path)
        assert not any("on this CPU" in line for line in notes.lines)


@pytest.mark.parametrize("training", [True, False])
def test_measuring_the_speed_changes_neither_model_nor_random_numbers(training: bool) -> None:
    model = create_model("test_efficientnet", 3, img_size=32).train(training)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    assert seconds_per_image(model, torch.device("cpu"), "fp32") > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training is training
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


class Named(Silent):
    """A progress that records the names of tasks."""

    def __init__(self) -> None:
        self.names: list[str] = []

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        self.names.append(name)
        yield lambda done=1, facts="": None


def test_the_bar_of_each_epoch_shows_its_number(data: Path, tmp_path: Path) -> None:
    bars = Named()
    train({**FAST, "data": str(data), "epochs": 4}, out=tmp_path, progress=bars)
    shown = [name for name in bars.names if name.startswith("epoch")]
    assert shown == ["epoch 1/4", "epoch 2/4", "epoch 3/4", "epoch 4/4"]


def test_the_bars_of_a_resumed_run_go_on_counting(data: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):  # three steps per epoch: the fourth is in the second epoch
        train({**FAST, "data": str(data), "epochs": 4}, out=tmp_path, name="run", progress=Signalling(4))
    bars = Named()
    resume(tmp_path / "run", progress=bars)
    assert [name for name in bars.names if name.startswith("epoch")] == ["epoch 2/4", "epoch 3/4", "epoch 4/4"]


@pytest.mark.parametrize("at", [2, 5])  # in training, and in scoring
def test_a_signal_interrupts_and_what_handled_signals_before_does_again(data: Path, tmp_path: Path, at: int) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="resume: mlrec train --resume") as caught:
        train({**FAST, "data": str(data), "eval_every": 1}, out=tmp_path, name="run", progress=Signalling(at))
    assert caught.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) is before
    assert RunRecord.load(tmp_path / "run").status == "interrupted"
    assert resume(tmp_path / "run").record.status == "finished"


@pytest.mark.parametrize(
    ("backbone", "lr", "frozen"),
    [
        ("test_efficientnet", 0.005, [0.739437, 0.587535, 0.668629]),
        ("test_vit", 0.01, [1.84881, 0.879332, 0.451658]),
    ],
)
def test_losses_of_a_known_start_stay_what_they_were(
    data: Path, tmp_path: Path, backbone: str, lr: float, frozen: list[float]
) -> None:
    """Frozen numbers: a change of the data path, the model, the loss or the optimiser shows here first.

    Other processors and versions of torch round otherwise. At 64 px and these rates noise of 1e-5 in the weights stays
    below 1e-3 in the losses; at 32 px, where BatchNorm has one location an image, it grows to a third of them.
    """
    flags = {**FAST, "data": str(data), "epochs": 3, "heads": 2, "lam": 0.5, "img_size": 64, "lr": lr}
    run = train({**flags, "backbone": backbone}, out=tmp_path)
    losses = [entry["loss"] for entry in directory.log_entries(run.path) if entry["event"] == "epoch"]
    assert losses == pytest.approx(frozen, rel=0.01)


def test_a_full_disk_leaves_the_checkpoint_before_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file above the limit cannot be written, as on a full disk."""
    save, calls = state.save, []
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def limited(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        save(*arguments)

    monkeypatch.setattr(state, "save", limited)
    told = r"cannot write .*last\.pt: File too large, [\d,]+ bytes needed, [\d,]+ bytes free"
    try:
        with pytest.raises(MlrecError, match=told):
            train({**FAST, "data": str(data)}, out=tmp_path, name="run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list((tmp_path / "run").glob(".*.tmp-*"))
    assert resume(tmp_path / "run").record.status == "finished"


def test_little_room_on_the_disk_is_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Notes
) -> None:
    room = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr("mlrec.workflows.train.run_record.shutil.disk_usage", lambda _: room)
    train({**FAST, "data": str(data), "epochs": 1}, out=tmp_path)
    assert any("1 MB free; a run keeps two checkpoints of 1 MB" in line for line in notes.lines)
