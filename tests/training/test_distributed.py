"""Several processes under torchrun: the same training, the same bytes of an evaluation, one message when one dies."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mlrec.datasets import dataset
from mlrec.datasets.dataset import Dataset, Info
from mlrec.models.checkpoint import read_metadata
from mlrec.run_folders import directory
from mlrec.run_folders.record import Run
from mlrec.training import distributed
from mlrec.utils.errors import UsageError
from mlrec.utils.files import sha256
from mlrec.workflows.evaluate.evaluate import evaluate_run
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.train import resume, train
from tests.processes import run
from tests.tiny import FAST, LABELS, make_tiny

REPOSITORY = Path(__file__).parents[2]
FLAGS = {**FAST, "backbone": "test_vit", "batch_size": 6, "epochs": 3, "eval_batch_size": 4}
SIZES = (1, 2, 9, 11)  # of evaluations: fewer samples than processes, and numbers that no world divides
NAMES = tuple(f"of{size}" for size in SIZES)

TRAIN = f"""
import sys
from collections.abc import Iterator
from pathlib import Path
from mlrec.workflows.train.train import train
train({FLAGS!r} | {{"data": sys.argv[2]}}, out=Path(sys.argv[1]).parent, name=Path(sys.argv[1]).name)
"""
# The first process alone writes the run; the others have to wait for it.
WAIT = """
import time
from mlrec.run_folders.record import RunRecord
while RunRecord.load(sys.argv[1]).status != "finished":
    time.sleep(0.05)
"""
RESUME = """
import sys
from collections.abc import Iterator
from mlrec.workflows.train.train import resume
resume(sys.argv[1])
"""
EVALUATE = """
import sys
from mlrec.workflows.evaluate.evaluate import evaluate_run
from mlrec.workflows.runtime import RuntimeOptions
for split in sys.argv[4:]:
    machine = RuntimeOptions(batch_size=4, workers=0, device="cpu")
    evaluate_run(sys.argv[1], data=sys.argv[3], split=split, machine=machine)
"""
DIE = """
import os, sys
from mlrec.utils import processes
from mlrec.utils.errors import DataError
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

TOGETHER = """
import json, sys, time
from pathlib import Path
import torch
from mlrec.utils import processes
from mlrec.training import distributed

rank, device, found = processes.rank(), torch.device("cpu"), {}
try:
    with distributed.joined(device):
        raise ValueError("a run that fails must not prevent the next one")
except ValueError as error:
    found["speaks"] = error.speaks
with distributed.joined(device):
    flag = distributed.SharedFlag(device)
    found["seen"] = [step for step in range(10) if flag.exchange(rank == 1 and step >= 4)]
    norm = torch.nn.BatchNorm2d(2)
    norm(torch.full((3, 2, 4, 4), 10.0 * (rank + 1)) + torch.arange(4.0))
    distributed.average_batch_norm(norm)
    found["mean"], found["var"] = norm.running_mean.tolist(), norm.running_var.tolist()
    if rank == 1:
        time.sleep(0.1)
    begun = time.monotonic()
    with distributed.first_on_machine():
        time.sleep(0.5 * (rank == 0))
        found["began"] = time.monotonic()
Path(sys.argv[1], str(rank)).write_text(json.dumps(found))
"""


FEATURES = """
import json, sys
from pathlib import Path
import torch
from mlrec.utils import processes
from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import create_model
from mlrec.training import distributed, features
from mlrec.training import prediction

seen, real = [], prediction.InferenceModel.features
def counting(self, images):
    seen.append(len(images))
    return real(self, images)
prediction.InferenceModel.features = counting
device, manifest = torch.device("cpu"), Manifest.load(Path(sys.argv[1]))
torch.manual_seed(0)
model = create_model("test_resnet", 3, img_size=32)
with distributed.joined(device):
    config = Config(batch_size=4, img_size=32, workers=0, feature_copies=int(sys.argv[3]))
    values = features.compute_features(model, manifest, config, device=device, precision=sys.argv[4]).values
    torch.save(values.clone(), sys.argv[2] + str(processes.rank()))
    distributed.wait_for_all(device)
    if processes.rank() == 0:
        values[0, 0] = 7
    distributed.wait_for_all(device)
    found = {"seen": sum(seen), "held_once": bool((values[0, 0] == 7).all())}
Path(sys.argv[2] + str(processes.rank()) + ".json").write_text(json.dumps(found))
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
    dataset.write(made, info, list(parts.values()))
    return made


@pytest.fixture(scope="module")
def pair(data: Path, splits: Path) -> Run:
    """The same by two processes, which then evaluate it on each split."""
    root = data.parents[1] / "pair"
    root.mkdir()
    done = torchrun(2, TRAIN + WAIT + EVALUATE, root, root / "run", data, splits, *NAMES)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    return Run.load(root / "run")


def test_two_processes_train_as_one_with_the_same_batch(alone: Run, pair: Run) -> None:
    losses = [[e["loss"] for e in directory.log_entries(run.path) if e["event"] == "steps"] for run in (alone, pair)]
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


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as each process of `torchrun` has: sums over more threads are rounded otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_predictions_are_the_same_bytes_for_any_number_of_processes(pair: Run, splits: Path) -> None:
    by_two = digests(pair.path, 2)
    for name in NAMES:
        machine = RuntimeOptions(batch_size=4, workers=0, device="cpu")
        evaluate_run(pair.path, data=splits, split=name, machine=machine)
    assert digests(pair.path, 1) == by_two


@pytest.mark.long
@pytest.mark.usefixtures("one_thread")
def test_predictions_are_the_same_bytes_for_three_processes(pair: Run, splits: Path, tmp_path: Path) -> None:
    machine = RuntimeOptions(batch_size=4, workers=0, device="cpu")
    for name in NAMES:
        evaluate_run(pair.path, data=splits, split=name, machine=machine)
    alone = digests(pair.path, 1)
    done = torchrun(3, EVALUATE, tmp_path, pair.path, "-", splits, *NAMES)
    assert done.returncode == 0, done.stderr
    assert digests(pair.path, 3) == alone


def test_what_processes_exchange(tmp_path: Path) -> None:
    done = torchrun(2, TOGETHER, tmp_path, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "destroy_process_group" not in done.stderr
    first, second = (json.loads((tmp_path / name).read_text()) for name in "01")
    assert sorted([first["speaks"], second["speaks"]]) == [False, True]
    assert first["seen"] == second["seen"] == [6, 7, 8, 9], "not known at one step, FLAG_DELAY steps later"
    pixels = torch.arange(4.0).repeat(12)
    for found in (first, second):
        assert found["mean"] == pytest.approx([0.1 * (15 + 1.5)] * 2)
        assert found["var"] == pytest.approx([0.9 + 0.1 * pixels.var().item()] * 2)
    assert second["began"] > first["began"], "the second process did not wait for what the first one downloads"


def test_features_of_a_frozen_backbone_are_computed_and_held_once(data: Path, tmp_path: Path) -> None:
    """13 samples in batches of 4, two augmented copies, bf16: 8 batches, dealt to three processes."""
    manifest, makers = data / "train.jsonl", {1: 32, 3: 12}
    found: dict[int, list[torch.Tensor]] = {}
    for processes, images in makers.items():
        done = torchrun(processes, FEATURES, tmp_path, manifest, tmp_path / f"of{processes}-", 2, "bf16")
        assert done.returncode == 0, done.stderr
        files = [tmp_path / f"of{processes}-{rank}" for rank in range(processes)]
        found[processes] = [torch.load(file) for file in files]
        for file in files:
            told = json.loads(file.with_name(file.name + ".json").read_text())
            assert told == {"seen": images, "held_once": True}
    (alone,) = found[1]
    assert alone.dtype == torch.bfloat16
    assert all(torch.equal(alone, values) for values in found[3])
    assert not list(Path("/dev/shm").glob("mlrec-features-*"))


def test_two_processes_on_one_gpu_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    store = torch.distributed.HashStore()
    device = torch.device("cuda", 0)
    for rank, uuid in ((2, "b"), (1, "a"), (0, "a")):
        store.set(f"gpu-{rank}", uuid)
        monkeypatch.setenv("RANK", str(rank))
        gpu = SimpleNamespace(uuid=uuid, name="GPU X")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, gpu=gpu: gpu)
    with pytest.raises(UsageError, match=r"processes 0, 1 use the same GPU \(GPU X\)"):
        distributed.check_own_gpu(store, device)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="b", name="GPU X"))
    distributed.check_own_gpu(store, device)


@pytest.mark.parametrize("failing", [False, True])
def test_a_gpu_is_named_to_nccl_and_a_failed_job_does_not_wait(monkeypatch: pytest.MonkeyPatch, failing: bool) -> None:
    """The GPU and nccl are simulated."""
    calls: list[str] = []
    options: dict[str, object] = {}
    device = torch.device("cuda", 0)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(distributed, "rendezvous", lambda *_, **__: iter([(torch.distributed.HashStore(), 0, 2)]))
    monkeypatch.setattr(distributed, "check_own_gpu", lambda *_: None)
    fake = distributed.distributed
    monkeypatch.setattr(fake, "init_process_group", lambda backend, **given: options.update(given, backend=backend))
    monkeypatch.setattr(fake, "is_initialized", lambda: True)
    monkeypatch.setattr(fake, "destroy_process_group", lambda: calls.append("destroy"))
    monkeypatch.setattr(fake.distributed_c10d, "_abort_process_group", lambda: calls.append("abort"))
    with contextlib.suppress(RuntimeError), distributed.joined(device):
        if failing:
            raise RuntimeError("NCCL error")
    assert (options["backend"], options["device_id"]) == ("nccl", device)
    assert calls == ["abort" if failing else "destroy"]


# A process that is killed says nothing: the other one tells that it is alone, or that torchrun, faster, ended it.
@pytest.mark.parametrize(
    ("how", "told"),
    [
        pytest.param("kill", r"another process in this job exited|terminated", marks=pytest.mark.long),
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
