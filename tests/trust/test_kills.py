"""Commands killed or signalled at random times: what stands under a final name is whole, the old or the new."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pytest
import timm
import torch
from PIL import Image

from mlrec.config_layers import read_toml
from mlrec.datasets.dataset import Dataset
from mlrec.metrics.summary import Metrics
from mlrec.models.checkpoint import load_model
from mlrec.models.onnx import OnnxModel
from mlrec.predictions import Predictions
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord, metrics_of
from mlrec.run_folders.tuned import Tuned
from mlrec.training import dataloader, state
from mlrec.workflows.train.train import train
from tests.processes import family
from tests.tiny import FAST, make_tiny
from tests.trust import trees
from tests.trust.commands import Command

MANY = 8  # kills of each command in the long run
ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT
IMAGES = 90  # enough for `prepare` to decode them in other processes


def read_dataset(file: Path) -> None:
    dataset = Dataset.load(file.parent)
    for split, size in dataset.info.splits.items():
        assert len(dataset.manifest(split)) == size


def read_page(file: Path) -> None:
    assert file.read_text("utf-8").rstrip().endswith("</html>")


def read_picture(file: Path) -> None:
    with Image.open(file) as image:
        image.load()


READERS: dict[str, Callable[[Path], object]] = {
    "dataset.json": read_dataset,
    "run.json": lambda file: RunRecord.load(file.parent),
    "metrics.json": Metrics.load,
    "predictions.npz": Predictions.load,
    "model.safetensors": load_model,
    "last.pt": lambda file: state.load(file.parent),
    "log.jsonl": lambda file: directory.log_entries(file.parent),
    "thresholds.json": lambda file: Tuned.load(file.parent),
    ".toml": read_toml,
    ".json": lambda file: json.loads(file.read_text("utf-8")),
    ".onnx": OnnxModel.load,
    ".html": read_page,
    ".png": read_picture,
    ".jpg": read_picture,
}  # by name, else by suffix


@dataclass(frozen=True)
class Task:
    """A command, and the folder or file that it writes.

    Attributes:
        seconds: within which a signal meets it at work.
        again: how it takes a result that is there: "over" it writes another, "refused" it does nothing, and "into" it
            adds to what it has read there.
        whole: the files of the result come all at once.
    """

    arguments: list[str]
    result: str
    seconds: float = 1.5
    again: Literal["over", "refused", "into"] = "over"
    whole: bool = True


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all that the commands need, and what they left when they last went to the end."""
    root = tmp_path_factory.mktemp("kills")
    torch.set_num_threads(1)
    data = make_tiny(root)
    for name in ("divided", "doubted"):
        shutil.copytree(data, data.with_name(name))
    train({**FAST, "data": str(data), "epochs": 1}, out=root / "runs", name="one")
    torch.save(timm.create_model("test_vit", num_classes=3).state_dict(), root / "vit.pt")
    rows = "".join(f"p/{k}.jpg,{k % 2},{k % 3 % 2}\n" for k in range(IMAGES))
    for k in range(IMAGES):
        trees.picture(root / f"p/{k}.jpg", k)
    trees.write(root / "own.csv", f"filename,cat,dog\n{rows}")
    return root


def settings(**more: object) -> list[str]:
    flags = {**FAST, "save_every": 2, "threads": 1, **more}
    return [part for key, value in flags.items() for part in ("--set", f"{key}={value}")]


TRAIN = ["--data", "data/tiny", *settings()]
TASKS = {
    "prepare": Task(["prepare", "csv", "own.csv", "--out", "data"], "data/own"),
    "report": Task(["report", "runs/one", "--out", "report.html"], "report.html"),
    "import": Task(["import", "vit.pt", "--backbone", "test_vit", "--out", "vit"], "vit", again="refused"),
    "eval": Task(["eval", "runs/one", "--data", "data/tiny", "--workers", "1"], "runs/one/eval-tiny-val"),
    "train": Task(
        ["train", *TRAIN, "--epochs", "3", "--workers", "1", "--out", "trained", "--name", "run"], "trained/run",
        again="refused", whole=False,
    ),
    "sweep": Task(
        ["sweep", *TRAIN, "--lam", "0,0.1", "--out", "swept", "--name", "s"], "swept/s", 12,
        again="refused", whole=False,
    ),
    "attend": Task(["attend", "pictures", "--run", "runs/one", "--out", "seen"], "seen", whole=False),
    "predict": Task(["predict", "pictures", "--run", "runs/one", "--save-images", "said"], "said", 0.6, whole=False),
    "tune": Task(["tune", "runs/one", "--split", "train", "--workers", "1"], "runs/one/thresholds.json", 0.6),
    "export": Task(["export", "runs/one", "--out", "onnx"], "onnx", 2),
    "export of weights": Task(["export", "runs/one", "--format", "safetensors", "--out", "weights"], "weights", 0.8),
    "split": Task(["split", "data/divided", "--folds", "2"], "data/divided", 0.3, again="into"),
    "stats": Task(["stats", "data/tiny", "--figure", "stats.png"], "stats.png"),
    "duplicates": Task(
        ["duplicates", "data/tiny", "--min-similarity", "0.5", "--contact-sheet", "twins.png"], "twins.png", 0.3
    ),
    "label-errors": Task(
        ["label-errors", "--data", "data/doubted", *settings(), "--recipe", "paper", "--folds", "2", "--out", "doubts"],
        "doubts", 0.8, whole=False,
    ),
    "export-data": Task(["export-data", "data/tiny", "--out", "table"], "table", 0.1, again="refused"),
    "demo": Task(["demo", "--seeds", "0,1", "--out", "shown"], "shown", 0.8, whole=False),
    "doctor": Task(
        ["doctor", "--data", "data/tiny", "--backbone", "test_efficientnet", "--no-pretrained", "--img-size", "32",
         "--workers", "1"],
        "nothing",
    ),
}  # fmt: skip
QUICK = ["prepare", "report", "import", "eval", "train"]
OTHERS = [name for name in TASKS if name not in (*QUICK, "sweep")]  # its workers import torch anew


@pytest.mark.parametrize("name", ["prepare", "eval", "train"])
def test_killed_twice_nothing_is_half_written(name: str, home: Path) -> None:
    kill(name, home, 2)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in TASKS if name != "demo"])  # whose parts are among them
def test_killed_many_times_nothing_is_half_written(name: str, home: Path) -> None:
    kill(name, home, MANY)


def kill(name: str, home: Path, times: int) -> None:
    """Kill a command at random times, look at what it left, and see that it can be given again."""
    task, rng = TASKS[name], random.Random(name)
    result, seconds = home / task.result, finish(task, home)
    complete = contents(result)
    for fresh in [False, True] * (times // 2):  # over an earlier result, and where there is none
        clear(task, home, fresh)
        command = start(task, home)
        time.sleep(rng.uniform(0, seconds))
        command.send(signal.SIGKILL)
        command.wait()
        assert command.left_behind() == []
        check_whole(result)
        if task.whole and result.exists():
            assert contents(result).keys() == complete.keys()
    clear(task, home, False)
    finish(task, home)
    check_whole(result)
    assert not list(home.rglob(".*.tmp-*"))


def finish(task: Task, home: Path) -> float:
    """Let a command go to its end; the seconds it took."""
    begun = time.monotonic()
    command = start(task, home)
    assert command.wait() == 0, command.errors()
    return time.monotonic() - begun


def clear(task: Task, home: Path, fresh: bool) -> None:
    """Remove a result that is to be made anew, or that would be refused."""
    if task.again == "refused" or (task.again == "over" and fresh):
        remove(home / task.result)


def test_a_loader_process_that_starts_as_its_parent_is_killed_ends(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_worker = dataloader._start_worker

    def kill_parent(worker: int, nice: int) -> None:
        parent = os.getppid()
        os.kill(parent, signal.SIGKILL)
        while os.getppid() == parent:
            time.sleep(0.01)
        start_worker(worker, nice)

    monkeypatch.setattr(dataloader, "_start_worker", kill_parent)
    command = start(TASKS["eval"], home)
    assert command.wait() == -signal.SIGKILL
    assert command.left_behind() == []


@pytest.mark.parametrize(("name", "number"), [("train", signal.SIGTERM), ("eval", signal.SIGINT)])
def test_a_signal_to_all_processes_as_they_start_is_answered_by_the_first(name: str, number: int, home: Path) -> None:
    clear(TASKS[name], home, True)
    command = start(TASKS[name], home)
    while len(family(command.pid)) < 2 and os.waitid(os.P_PID, command.pid, ENDED) is None:
        time.sleep(0.001)
    os.killpg(command.pid, number)
    assert command.wait() in (0, 128 + number), command.errors()
    assert "Traceback" not in command.errors()
    assert command.left_behind() == []
    clear(TASKS[name], home, True)


@pytest.mark.parametrize(("name", "number"), [(name, (2, 15)[k % 2]) for k, name in enumerate([*QUICK, *OTHERS])])
def test_a_signal_ends_a_command_in_a_line(name: str, number: int, home: Path) -> None:
    signalled(name, home, number, 1)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", TASKS)
def test_signals_end_every_command_in_a_line(name: str, number: int, home: Path) -> None:
    signalled(name, home, number, 4)


def signalled(name: str, home: Path, number: int, times: int) -> None:
    task, rng = TASKS[name], random.Random(name)
    for _ in range(times):
        clear(task, home, True)
        command = start(task, home)
        time.sleep(rng.uniform(0.05, task.seconds))
        command.send(number)
        code, told = command.wait(), command.errors()
        assert code in (0, 128 + number), told
        assert "Traceback" not in told
        assert "Exception ignored" not in told
        assert command.left_behind() == []
        check_whole(home / task.result)
        assert not list(home.rglob(".*.tmp-*"))
    clear(task, home, True)


def start(task: Task, home: Path) -> Command:
    return Command(task.arguments, home, home / "log")


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def contents(path: Path) -> dict[str, int]:
    """Files below a path that have a final name, and their sizes."""
    files = [path] if path.is_file() else path.rglob("*")
    return {str(f.relative_to(path)): f.stat().st_size for f in files if f.is_file() and "/." not in str(f)}


def check_whole(path: Path) -> None:
    """Read every file below a path, and see that files that belong together agree."""
    for file in (path / name for name in contents(path)):
        if read := READERS.get(file.name) or READERS.get(file.suffix):
            read(file)
        if file.name == "eval.json":
            scored = metrics_of(Predictions.load(file.with_name("predictions.npz")))
            assert scored == replace(Metrics.load(file.with_name("metrics.json")), by_frequency={})
        if file.name == "run.json" and RunRecord.load(file.parent).status == "finished":
            for part in ("model.safetensors", "predictions.npz", "metrics.json", "per_label.csv", "config.toml"):
                assert (file.parent / part).is_file()
