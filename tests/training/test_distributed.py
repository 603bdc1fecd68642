"""Several processes under torchrun: the same training, the same bytes of an evaluation, one message when one dies."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlrec.datasets import folder
from mlrec.datasets.folder import Dataset, Info
from mlrec.errors import UsageError
from mlrec.files import sha256
from mlrec.models.checkpoint import read_metadata
from mlrec.runs import directory, log
from mlrec.runs.record import Run
from mlrec.workflows.evaluate import Machine, evaluate_run
from mlrec.workflows.train import resume, train
from tests.processes import run
from tests.tiny import FAST, LABELS, make_tiny

REPOSITORY = Path(__file__).parents[2]
FLAGS = {**FAST, "backbone": "test_vit", "batch_size": 6, "epochs": 3, "eval_batch_size": 4}
SIZES = (1, 2, 9, 11)  # of evaluations: fewer samples than processes, and numbers that no world divides
NAMES = tuple(f"of{size}" for size in SIZES)

TRAIN = f"""
import sys
from pathlib import Path
from mlrec.workflows.train import train
train({FLAGS!r} | {{"data": sys.argv[2]}}, out=Path(sys.argv[1]).parent, name=Path(sys.argv[1]).name)
"""
# The first process alone writes the run; the others have to wait for it.
WAIT = """
import time
from mlrec.runs.record import RunRecord
while RunRecord.load(sys.argv[1]).status != "finished":
    time.sleep(0.05)
"""
RESUME = """
import sys
from mlrec.workflows.train import resume
resume(sys.argv[1])
"""
EVALUATE = """
import sys
from mlrec.workflows.evaluate import Machine, evaluate_run
for split in sys.argv[4:]:
    evaluate_run(sys.argv[1], data=sys.argv[3], split=split, machine=Machine(batch_size=4, workers=0, device="cpu"))
"""
DIE = """
import os, sys
from mlrec import processes
from mlrec.errors import DataError
from mlrec.training import loop
real, steps = loop.train_step, []
def train_step(*arguments):
    steps.append(1)
    if len(steps) == 3 and processes.rank() == 1:
        if how == "kill":
            os.kill(os.getpid(), 9)
        raise DataError("x.jpg: broken")
    return real(*arguments)
loop.train_step = train_step
how, sys.argv = sys.argv[1], ["mlrec", *sys.argv[2:]]
from mlrec.cli.app import main
main()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("distributed"))


def torchrun(processes: int, script: str, tmp_path: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "script.py"
    file.write_text(script)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    return run([*launch, str(file), *map(str, arguments)], text=True, env=environment)


@pytest.fixture(scope="module")
def alone(data: Path) -> Run:
    return train({**FLAGS, "data": str(data)}, out=data.parents[1] / "runs", name="alone")


@pytest.fixture(scope="module")
def splits(data: Path) -> Path:
    """A dataset with a split of each of `SIZES`."""
    whole = Dataset.load(data).manifest("train")
    parts = {f"of{size}": whole.subset(range(size), f"of{size}") for size in SIZES}
    made = data.parents[1] / "splits"
    made.mkdir()
    info = Info("tiny", {"kind": "csv"}, "paper", list(LABELS), dict.fromkeys(parts, 0))
    folder.write(made, info, list(parts.values()))
    return made


@pytest.fixture(scope="module")
def pair(data: Path, splits: Path) -> Run:
    """The same by two processes, which then evaluate it on each split."""
    root = data.parents[1] / "pair"
    root.mkdir()
    done = torchrun(2, TRAIN + WAIT + EVALUATE, root, root / "run", data, splits, *NAMES)
    assert done.returncode == 0, done.stderr
    return Run.load(root / "run")


def test_two_processes_train_as_one_with_the_same_batch(alone: Run, pair: Run) -> None:
    losses = [[e["loss"] for e in log.entries(run.path) if e["event"] == "steps"] for run in (alone, pair)]
    assert len(losses[0]) == 6
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    files = [sorted(entry.name for entry in run.path.iterdir() if entry.is_file()) for run in (alone, pair)]
    assert files[0] == files[1]
    assert pair.record.environment["processes"] == 2


def digests(run: Path, processes: int) -> list[str]:
    """Of the predictions and metrics of each split, evaluated by so many processes."""
    for name in NAMES:
        environment = json.loads((run / f"eval-tiny-{name}" / "eval.json").read_text())["environment"]
        assert environment["processes"] == processes
    files = (directory.PREDICTIONS, directory.METRICS)
    return [sha256(run / f"eval-tiny-{name}" / file) for name in NAMES for file in files]


def test_predictions_are_the_same_bytes_for_any_number_of_processes(pair: Run, splits: Path) -> None:
    by_two = digests(pair.path, 2)
    for name in NAMES:
        machine = Machine(batch_size=4, workers=0, device="cpu")
        evaluate_run(pair.path, data=splits, split=name, machine=machine)
    assert digests(pair.path, 1) == by_two


@pytest.mark.long
def test_predictions_are_the_same_bytes_for_three_processes(pair: Run, splits: Path, tmp_path: Path) -> None:
    machine = Machine(batch_size=4, workers=0, device="cpu")
    for name in NAMES:
        evaluate_run(pair.path, data=splits, split=name, machine=machine)
    alone = digests(pair.path, 1)
    done = torchrun(3, EVALUATE, tmp_path, pair.path, "-", splits, *NAMES)
    assert done.returncode == 0, done.stderr
    assert digests(pair.path, 3) == alone


# A process that is killed says nothing: the other one tells that it is alone, or that torchrun, faster, ended it.
@pytest.mark.parametrize(
    ("how", "told"),
    [
        pytest.param("kill", r"another process of this job ended|terminated", marks=pytest.mark.long),
        ("raise", r"x\.jpg: broken"),
    ],
)
def test_a_dead_process_ends_the_job_with_one_message_and_the_job_resumes(
    data: Path, pair: Run, tmp_path: Path, how: str, told: str
) -> None:
    flags = [part for key, value in FLAGS.items() for part in ("--set", f"{key}={str(value).lower()}")]
    done = torchrun(2, DIE, tmp_path, how, "train", "--data", data, *flags, "--out", tmp_path, "--name", "run")
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, done.stderr
    assert re.search(told, errors[0])
    if how == "kill":
        resumed = torchrun(2, RESUME, tmp_path, tmp_path / "run")
        assert resumed.returncode == 0, resumed.stderr
        assert read_metadata(tmp_path / "run").sha256 == read_metadata(pair.path).sha256
    else:
        with pytest.raises(UsageError, match="processes: was 2, now 1"):
            resume(tmp_path / "run")
