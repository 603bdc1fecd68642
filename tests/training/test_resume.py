"""A run that was killed at any step ends, once resumed, in the same bits as one that was not."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch

from mlrec.datasets import dataset as dataset_folder
from mlrec.datasets.dataset import Dataset, Info
from mlrec.models.checkpoint import read_metadata
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord
from mlrec.training import state
from mlrec.utils.errors import MlrecError, RunError, UsageError
from mlrec.utils.files import sha256
from mlrec.utils.progress import Silent, Step
from mlrec.workflows.train import trainer
from mlrec.workflows.train.train import resume, train
from tests.conftest import Notes
from tests.processes import started
from tests.tiny import FAST, LABELS, make_tiny

REPOSITORY = Path(__file__).parents[2]
HARD = {**FAST, "ema": True, "head_dropout": 0.5, "save_every": 2, "grad_accum_steps": 2, "eval_every": 1}
ARTEFACTS = (directory.PREDICTIONS, directory.METRICS, directory.PER_LABEL)


class Killed(BaseException):
    """As kill -9, for everything but the process: nothing of the program may catch it."""


class Deadly(Silent):
    """A progress that ends the run at the n-th call of a step, of training or of scoring."""

    def __init__(self, at: int) -> None:
        self.left = at

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        def step(done: int = 1, facts: str = "") -> None:
            self.left -= 1
            if not self.left:
                raise Killed

        yield step


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("resume"))


@pytest.fixture(scope="module")
def straight(data: Path) -> dict[str, str]:
    run = train({**HARD, "data": str(data)}, out=data.parents[1] / "straight")
    return fingerprint(run.path)


def fingerprint(folder: Path) -> dict[str, str]:
    digests = {name: sha256(folder / name) for name in ARTEFACTS}
    speed = {"images_per_second", "data_seconds", "mfu", "peak_memory"}
    lines = [{k: v for k, v in e.items() if k not in speed} for e in directory.log_entries(folder)]
    weights = read_metadata(folder).sha256  # the file around them tells the number of workers, too
    return {**digests, "weights": weights, "log": hashlib.sha256(repr(lines).encode()).hexdigest()}


def start(data: Path, out: Path, at: int, flags: dict[str, Any] | None = None) -> Path:
    """A run that is killed at the `at`-th step; its folder."""
    with pytest.raises(Killed):
        train({**HARD, "data": str(data), **(flags or {})}, out=out, name="run", progress=Deadly(at))
    return out / "run"


def test_two_runs_are_the_same_bits_and_another_seed_is_not(
    data: Path, straight: dict[str, str], tmp_path: Path
) -> None:
    again = train({**HARD, "data": str(data), "workers": 2}, out=tmp_path)
    assert fingerprint(again.path) == straight
    other = train({**HARD, "data": str(data), "seed": 1}, out=tmp_path)
    assert fingerprint(other.path)["weights"] != straight["weights"]


@pytest.mark.parametrize("at", [1, 5, 8, *(pytest.param(at, marks=pytest.mark.long) for at in (2, 3, 6, 10))])
def test_killed_anywhere_it_goes_on_to_the_same_bits(
    data: Path, straight: dict[str, str], tmp_path: Path, at: int
) -> None:
    folder = start(data, tmp_path, at)
    assert fingerprint(resume(folder).path) == straight
    assert RunRecord.load(folder).status == "finished"
    assert not (folder / directory.RESUME).exists()


@pytest.fixture(scope="module")
def selecting(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Flags of a run that holds a split out, keeps its best epoch and stops early: after epoch 3 of 9."""
    root = tmp_path_factory.mktemp("selecting")
    dataset = Dataset.load(make_tiny(root))
    train_split, held_out = dataset.manifest("train").subset(range(9), "train"), dataset.manifest("val")
    splits = {"train": 9, "hold": 9, "val": 9}
    parts = [train_split, dataclasses.replace(held_out, split="hold"), held_out]
    dataset_folder.write(dataset.path, Info("tiny", {"kind": "csv"}, "paper", list(LABELS), splits), parts)
    return {**HARD, "data": str(dataset.path), "select_split": "hold", "patience": 2, "epochs": 9, "eval_every": 0}


@pytest.fixture(scope="module")
def selected(selecting: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    run = train(selecting, out=tmp_path_factory.mktemp("selected"))
    assert 3 <= max(entry["epoch"] for entry in directory.log_entries(run.path)) < 9, "nothing was stopped early"
    return fingerprint(run.path) | {"best": read_metadata(run.path / directory.BEST).sha256}


@pytest.mark.parametrize("at", [11, *(pytest.param(at, marks=pytest.mark.long) for at in (4, 7, 13))])
def test_the_best_epoch_and_the_early_end_are_the_same_after_a_kill(
    selecting: dict[str, Any], selected: dict[str, str], tmp_path: Path, at: int
) -> None:
    folder = resume(start(Path(selecting["data"]), tmp_path, at, selecting)).path
    assert fingerprint(folder) | {"best": read_metadata(folder / directory.BEST).sha256} == selected


def test_killed_twice_and_resumed_with_other_workers(data: Path, straight: dict[str, str], tmp_path: Path) -> None:
    folder = start(data, tmp_path, 3)
    with pytest.raises(Killed):
        resume(folder, {"workers": 1}, progress=Deadly(4))
    assert fingerprint(resume(folder, {"workers": 2, "save_every": 3}).path) == straight


def test_a_damaged_checkpoint_is_noticed_and_the_one_before_it_used(
    data: Path, straight: dict[str, str], tmp_path: Path, notes: Notes
) -> None:
    folder = start(data, tmp_path, 6)
    newest = folder / directory.RESUME
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    assert fingerprint(resume(folder).path) == straight
    assert "SHA-256 differs" in notes.warnings[0]
    assert "last.prev.pt" in notes.warnings[0]


def test_both_damaged_is_an_error(data: Path, tmp_path: Path) -> None:
    folder = start(data, tmp_path, 6)
    for name in (directory.RESUME, directory.RESUME_PREVIOUS):
        (folder / name).write_bytes(b"torn")
    with pytest.raises(RunError, match=r"last\.pt.*last\.prev\.pt"):
        resume(folder)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"lr": 0.5}, "lr: was 0.02, now 0.5"),
        ({"batch_size": 8}, "batch_size: was 4, now 8"),
        ({"seed": 3}, "seed: was 0, now 3"),
        ({"epochs": 5}, "epochs: was 2, now 5"),
    ],
)
def test_another_config_is_refused_naming_was_and_now(
    data: Path, tmp_path: Path, flags: dict[str, Any], told: str
) -> None:
    folder = start(data, tmp_path, 2)
    with pytest.raises(UsageError) as caught:
        resume(folder, flags)
    assert told in str(caught.value)


def test_another_machine_is_told(data: Path, tmp_path: Path, notes: Notes) -> None:
    folder = start(data, tmp_path, 2)
    record = RunRecord.load(folder)
    record.environment["torch"] = "1.0"
    record.save(folder)
    resume(folder)
    assert notes.warnings == [
        f"resumed, but the result will not be bit-exact: torch was 1.0, is now {version('torch')}"
    ]


def test_other_data_is_refused(tmp_path: Path) -> None:
    data = make_tiny(tmp_path)
    folder = start(data, tmp_path / "runs", 2)
    manifest = data / "train.jsonl"
    manifest.write_text(manifest.read_text().replace('"positive":["blue"]', '"positive":["red"]', 1))
    with pytest.raises(UsageError, match=r"train data: was .*, now "):
        resume(folder)


def test_files_named_from_another_folder_are_found_again_and_other_weights_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights, vectors = tmp_path / "weights.csv", tmp_path / "vectors.txt"
    content = "label,weight\nred,2\nblue,3\ngreen,1\n"
    weights.write_text(content)
    vectors.write_text("red 1 0\ngreen 0 1\nblue 1 1\n")
    flags = {"pos_weight": weights.name, "head": "gcn", "word_vectors": vectors.name}
    folder = start(data, tmp_path / "runs", 3, flags)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    weights.write_text(content.replace("2", "4"))
    with pytest.raises(UsageError, match="content of the pos_weight file: was "):
        resume(folder)
    weights.write_text(content)
    assert resume(folder).record.status == "finished"


def test_a_frozen_backbone_is_not_written_with_each_short_epoch(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {**HARD, "data": str(data), "save_every": 0, "freeze_backbone": True, "feature_copies": 2, "epochs": 4}
    written: list[int] = []
    save = state.save

    def counted(*arguments: Any) -> None:
        save(*arguments)
        written.append(arguments[1].step)

    monkeypatch.setattr(state, "save", counted)
    monkeypatch.setattr(trainer, "HEAD_SAVE_INTERVAL", 1e9)
    whole = fingerprint(train(flags, out=tmp_path, name="whole").path)
    assert written == [0]
    # Eight calls for the features to train on, three steps, three calls for those to score, and five steps more.
    folder = start(data, tmp_path, 19, flags)
    assert max(entry["step"] for entry in directory.log_entries(folder)) == 7
    assert fingerprint(resume(folder).path) == whole
    written.clear()
    monkeypatch.setattr(trainer, "HEAD_SAVE_INTERVAL", 0)
    train(flags, out=tmp_path, name="patient")
    assert written == [0, 3, 6, 9, 12]


def test_a_checkpoint_holds_the_step_it_was_asked_for_while_training_goes_on(
    data: Path, straight: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer is held up for two steps, in which all weights and moments change."""
    save, written = state.save, list[tuple[int, str]]()

    def late(folder: Path, given: state.Snapshot, identity: dict[str, Any]) -> None:
        if given.step:
            time.sleep(0.3)
        save(folder, given, identity)
        written.append((given.step, repr(given.content()["model"])))

    monkeypatch.setattr(state, "save", late)
    folder = start(data, tmp_path, 4)
    _, content = state.load(folder)
    assert content["step"] == written[-1][0]
    assert repr(content["model"]) == written[-1][1]
    assert fingerprint(resume(folder).path) == straight


def test_a_checkpoint_that_cannot_be_written_ends_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = state.save

    def full(folder: Path, given: state.Snapshot, identity: dict[str, Any]) -> None:
        if given.step >= 2:
            raise MlrecError("disk is full")
        save(folder, given, identity)

    monkeypatch.setattr(state, "save", full)
    with pytest.raises(MlrecError, match="disk is full"):
        train({**HARD, "data": str(data)}, out=tmp_path, name="run")
    assert RunRecord.load(tmp_path / "run").status == "failed"
    monkeypatch.undo()
    assert RunRecord.load(resume(tmp_path / "run").path).status == "finished"


def test_a_finished_run_and_a_folder_without_one_are_refused(data: Path, tmp_path: Path) -> None:
    run = train({**FAST, "data": str(data), "epochs": 1}, out=tmp_path)
    with pytest.raises(RunError, match="is finished"):
        resume(run.path)
    with pytest.raises(RunError, match="not a run folder"):
        resume(tmp_path)


def test_a_checkpoint_that_lacks_or_adds_a_part_is_refused(data: Path, tmp_path: Path) -> None:
    folder = start(data, tmp_path, 6)
    identity, content = state.load(folder)
    for key in content:
        reduced = {k: v for k, v in content.items() if k != key}
        with pytest.raises(RunError, match=key):
            state.State.restore(state.State.__new__(state.State), reduced)
    with pytest.raises(RunError, match="surplus"):
        state.State.restore(state.State.__new__(state.State), {**content, "surplus": 1})
    assert identity["labels"] == ["blue", "green", "red"]


def test_the_checkpoint_holds_plain_types_only(data: Path, tmp_path: Path) -> None:
    folder = start(data, tmp_path, 6)
    torch.load(folder / directory.RESUME, weights_only=True)
    assert not list(folder.glob(".*.tmp-*"))


def command(data: Path, out: Path, *more: str) -> list[str]:
    flags = {**HARD, "data": str(data), "epochs": 200, "save_every": 0}
    texts = [part for key, value in flags.items() for part in ("--set", f"{key}={str(value).lower()}")]
    texts = [text.replace(str(data).lower(), str(data)) for text in texts]
    return [sys.executable, "-m", "mlrec", "train", *texts, "--out", str(out), "--name", "run", *more]


def until_step(folder: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Wait until the log of a run names a step."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        if any(entry["step"] >= step for entry in directory.log_entries(folder)):
            return
        time.sleep(0.05)
    process.kill()
    raise AssertionError(f"step {step} did not come: {process.communicate(timeout=60)}")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.long)]
)
def test_a_signal_ends_the_step_saves_and_names_the_command(data: Path, tmp_path: Path, number: int, code: int) -> None:
    with started(command(data, tmp_path), text=True) as process:
        until_step(tmp_path / "run", 3, process)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert f"resume: mlrec train --resume {tmp_path / 'run'}" in stderr.splitlines()[-1]
    assert RunRecord.load(tmp_path / "run").status == "interrupted"
    _, content = state.load(tmp_path / "run")
    assert content["step"] == max(entry["step"] for entry in directory.log_entries(tmp_path / "run"))


@pytest.mark.long
def test_kill_9_of_a_real_process_leaves_a_run_that_resumes(
    data: Path, straight: dict[str, str], tmp_path: Path
) -> None:
    """And that never hashed a text as this process does."""
    arguments = [*command(data, tmp_path), "--set", "epochs=2", "--set", "save_every=2"]
    seeded = {**os.environ, "PYTHONHASHSEED": "1"}
    with started(arguments, text=True, env=seeded) as process:
        until_step(tmp_path / "run", 3, process)
        process.kill()
    folder = tmp_path / "run"
    copied = tmp_path / "moved"
    shutil.copytree(folder, copied)
    assert fingerprint(resume(copied).path) == straight


def test_two_processes_cannot_write_one_run(data: Path, tmp_path: Path) -> None:
    folder = start(data, tmp_path, 3)
    with directory.locked(folder), pytest.raises(RunError, match="in use by pid"):
        resume(folder)
    assert resume(folder).record.status == "finished"
