"""Faults of the machine and of the user: a full disk, one folder for two runs, labels reordered or others."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlrec.config import FIELDS
from mlrec.datasets.dataset import Dataset
from mlrec.models.checkpoint import load_model, save_model
from mlrec.models.classifier import create_model
from mlrec.run_folders import directory
from mlrec.utils import files
from mlrec.utils.errors import MlrecError, ModelError, RunError
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.data.stats import stats
from mlrec.workflows.deploy.predict import predict
from mlrec.workflows.evaluate.evaluate import evaluate_run
from mlrec.workflows.train.train import train
from tests.tiny import FAST, SIZES, make_tiny
from tests.trust import trees
from tests.trust.commands import Command


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("faults")
    data = make_tiny(root)
    train({**FAST, "data": str(data), "epochs": 1}, out=root / "runs", name="one")
    return root


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writing beyond so many bytes fails, as on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_write_that_fails_keeps_what_was_there_and_says_how_much_is_free(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = create_model("test_vit", 3, img_size=32)
    save_model(path, model, {})
    before = path.read_bytes()
    with largest_file(20_000), pytest.raises(MlrecError) as caught:
        save_model(path, model, {})
    for told in (str(path), f"{len(before):,} bytes needed", "bytes free", "intact"):
        assert told in str(caught.value)
    assert path.read_bytes() == before
    assert load_model(path).labels
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("size", [10_000, 50_000, 400_000, 800_000])
def test_a_checkpoint_that_does_not_fit_is_told_wherever_it_ends(home: Path, tmp_path: Path, size: int) -> None:
    told = r"cannot write .*last\.pt: File too large, [\d,]+ bytes needed, [\d,]+ bytes free"
    with largest_file(size), pytest.raises(MlrecError, match=told):
        train({**FAST, "data": str(home / "data/tiny")}, out=tmp_path, name="run")


def test_a_folder_that_cannot_be_filled_leaves_the_old_one(tmp_path: Path) -> None:
    with files.replace_folder(tmp_path / "data") as folder:
        files.write_text(folder / "a.txt", "old")
    with (
        largest_file(1000),
        pytest.raises(MlrecError, match="bytes free"),
        files.replace_folder(tmp_path / "data") as new,
    ):
        files.write_text(new / "a.txt", "x" * 5000)
    assert (tmp_path / "data/a.txt").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        shutil.which("mount")
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False, capture_output=True
        ).returncode
    )
    if not mounted:
        pytest.skip("mounting a small file system is not allowed here; RLIMIT_FSIZE is tested above")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_training_on_a_full_disk_ends_in_a_line(home: Path, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(bytes(500_000))
    flags = [f"--set={key}={value}" for key, value in {**FAST, "data": "data/tiny", "threads": 1}.items()]
    command = Command(["train", *flags, "--out", small_disk, "--name", "run"], home, home / "full")
    assert command.wait() == 1
    last = command.errors().splitlines()[-1]
    assert last.startswith("error: cannot write")
    assert "No space left" in last
    assert "bytes free" in last
    assert "Traceback" not in command.errors()
    assert not list(small_disk.rglob(".*.tmp-*"))


def test_two_runs_in_one_folder_and_what_a_killed_one_leaves(home: Path) -> None:
    flags = [f"--set={k}={v}" for k, v in {**FAST, "data": "data/tiny", "threads": 1, "epochs": 500}.items()]
    first = Command(["train", *flags, "--out", "two", "--name", "run"], home, home / "first")
    folder, deadline = home / "two/run", time.monotonic() + 120
    try:
        while not (folder / directory.RECORD).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        second = Command(["train", "--resume", "two/run"], home, home / "second")
        assert second.wait() == 1
        assert f"in use by pid {first.pid} on {os.uname().nodename}" in second.errors()
        (folder / f".last.pt.tmp-{first.pid}").touch()
    finally:
        first.send(signal.SIGKILL)
        first.wait()
    with directory.locked(folder):
        assert not list(folder.glob(".*.tmp-*"))
        with pytest.raises(RunError, match=f"pid {os.getpid()} on"), directory.locked(folder):
            pass


def test_what_is_read_is_left_as_it_was(tmp_path: Path) -> None:
    """Images, annotations and prepared data, by content and time, whatever the command; they need not be writable."""
    own, data = trees.csv(tmp_path / "own"), make_tiny(tmp_path)
    read = [own, data, tmp_path / "pictures"]
    entries = sorted(entry for root in read for entry in (root, *root.rglob("*")))
    for entry in entries:
        entry.chmod(0o555 if entry.is_dir() else 0o444)
    before = [(entry.stat().st_mtime_ns, entry.is_file() and entry.read_bytes()) for entry in entries]
    prepare("csv", own / "labels.csv", out=tmp_path / "made")
    run = train({**FAST, "data": str(data), "epochs": 1}, out=tmp_path / "runs")
    evaluate_run(run.path, data=data)
    assert len(list(predict(run.path, tmp_path / "pictures"))) == sum(SIZES.values())
    stats(data)
    after = sorted(entry for root in read for entry in (root, *root.rglob("*")))
    assert after == entries
    assert [(entry.stat().st_mtime_ns, entry.is_file() and entry.read_bytes()) for entry in entries] == before


def test_labels_in_another_order_give_the_same_numbers_to_the_last_bit(home: Path, tmp_path: Path) -> None:
    before = evaluate_run(home / "runs/one", data=home / "data/tiny")
    other = relabelled(home / "data/tiny", tmp_path / "other", ["red", "blue", "green"])
    after = evaluate_run(home / "runs/one", data=other)
    assert after.metrics.to_dict() == before.metrics.to_dict()
    assert list(after.predictions.labels) == ["blue", "green", "red"]


def test_other_labels_are_refused_with_the_difference(home: Path, tmp_path: Path) -> None:
    other = relabelled(home / "data/tiny", tmp_path / "other", ["blue", "green", "purple"])
    with pytest.raises(ModelError, match=r"missing 'red'; unexpected 'purple'"):
        evaluate_run(home / "runs/one", data=other)


def relabelled(data: Path, target: Path, labels: list[str]) -> Path:
    """A copy of a prepared dataset whose labels stand in this order, or are called so."""
    shutil.copytree(data, target)
    have = Dataset.load(data).info.labels
    names = {old: old if old in labels else next(new for new in labels if new not in have) for old in have}
    for file in target.iterdir():
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.suffix == ".jsonl" else []
        for line in lines[1:]:
            for key in {"positive", "unknown"} & line.keys():
                line[key] = [names[label] for label in line[key]]
        whole = lines[0] if lines else json.loads(file.read_text())
        whole["labels"] = labels
        file.write_text("\n".join(map(json.dumps, lines)) + "\n" if lines else json.dumps(whole))
    return target


def test_every_key_of_a_config_is_refused_a_wrong_type(tmp_path: Path) -> None:
    from mlrec.config_layers import read_toml, resolve
    from mlrec.utils.errors import ConfigError

    for key in FIELDS:
        (tmp_path / "c.toml").write_text(f"{key} = {{ a = [[1979-05-27]] }}\n")
        with pytest.raises(ConfigError, match=key):
            resolve(("c.toml", read_toml(tmp_path / "c.toml")))
