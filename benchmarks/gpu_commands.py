"""Checks of gpu.py by mlrec's commands: the same bits again, eval and predict, two processes, messages, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gpu import Bench
    from gpu_model import Finding

REPOSITORY = Path(__file__).parents[1]
LABELS = tuple(f"label{k}" for k in range(20))
SAME = {True: "same", False: "other"}
# nccl takes one GPU per process. By gloo two processes can share one: what is checked is mlrec's part.
TWO_ON_ONE_GPU = """
import sys
from mlrec.training import devices, distributed
start = distributed.distributed.init_process_group
distributed.distributed.init_process_group = lambda backend, **given: start("gloo", **given | {"device_id": None})
distributed.check_own_gpu = lambda *_: None
devices._own_index = lambda: 0
from mlrec.__main__ import main
sys.argv[0] = "mlrec"
main()
"""
# A small GPU, on which an evaluation runs out of memory with batches that the memory of the machine holds.
LITTLE_MEMORY = """
import sys
import torch
torch.cuda.set_per_process_memory_fraction(0.005)
from mlrec.__main__ import main
sys.argv[0] = "mlrec"
main()
"""


class OutOfTime(Exception):  # noqa: N818 - nothing is wrong
    """The time limit was reached within a check."""


def dataset(bench: Bench, name: str = "gpu", samples: int = 0) -> Path:
    """A prepared dataset of random labels: of the photographs given, else of drawn images."""
    from PIL import Image

    from mlrec.datasets import dataset as folder
    from mlrec.datasets.dataset import Info
    from mlrec.datasets.manifest import Manifest

    out, images = bench.folder / "data" / name, bench.folder / f"images-{name}"
    if out.exists():
        return out
    images.mkdir(), out.mkdir(parents=True)
    samples = samples or (24 if bench.small else 1024)
    photos, rng = sorted(bench.photos.rglob("*.jpg")) if bench.photos else [], np.random.default_rng(0)
    for k in range(samples):
        if photos:
            (images / f"{k}.jpg").write_bytes(photos[k % len(photos)].read_bytes())
            continue
        coarse = Image.fromarray(rng.integers(0, 255, (47, 63, 3), dtype=np.uint8))
        coarse.resize((64, 48) if bench.small else (500, 375)).save(images / f"{k}.jpg", quality=90)
    targets, cut = rng.integers(0, 2, (samples, len(LABELS))).astype(np.int8), samples * 3 // 4
    names = tuple(f"{k}.jpg" for k in range(samples))
    parts = [
        Manifest(name, split, images, LABELS, names[part], targets[part])
        for split, part in (("train", slice(cut)), ("val", slice(cut, samples)))
    ]
    info = Info(name, {"kind": "csv"}, "paper", list(LABELS), {part.split: len(part) for part in parts})
    folder.write(out, info, parts)
    return out


def backbones(bench: Bench) -> tuple[str, str]:
    """A CNN and a ViT."""
    return ("test_resnet", "test_vit") if bench.small else ("resnet50", "vit_small_patch16_224")


def train_words(bench: Bench, name: str, backbone: str, **keys: object) -> list[str]:
    """The words of a `mlrec train` command."""
    given: dict[str, object] = {
        "recipe": "paper", "data": dataset(bench), "out": bench.folder / "runs", "name": name, "backbone": backbone,
        "img_size": 32 if bench.small else 224, "batch_size": 6 if bench.small else 32, "epochs": 2,
        "warmup_epochs": 0, "lr": 0.001, "device": bench.device.type, "pretrained": False,
    } | keys  # fmt: skip
    words = ["train"]
    for key, value in given.items():
        flag = key.replace("_", "-")
        words += [f"--{'' if value else 'no-'}{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return words


def mlrec(bench: Bench, words: list[str], launcher: tuple[str, ...] = ("-m", "mlrec")) -> str:
    """Run a command; what it printed.

    Raises:
        OutOfTime: the time limit.
        RuntimeError: it failed; its last line.
    """
    done = attempt(bench, words, launcher)
    if done.returncode:
        raise RuntimeError(f"mlrec {words[0]} failed: {last_error(done.stderr)}")
    return done.stdout


def attempt(
    bench: Bench, words: list[str], launcher: tuple[str, ...] = ("-m", "mlrec")
) -> subprocess.CompletedProcess[str]:
    """Run a command that may fail."""
    try:
        return subprocess.run(
            [sys.executable, *launcher, *words], capture_output=True, text=True, check=False, env=environment(bench),
            timeout=max(1.0, bench.seconds_left), cwd=bench.folder,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise OutOfTime from error


def environment(bench: Bench) -> dict[str, str]:
    """Of the commands; on a CPU one thread each."""
    paths = os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": paths} | ({"OMP_NUM_THREADS": "1"} if bench.small else {})


def last_error(text: str) -> str:
    """The line of the error, else the last one."""
    lines = [line for line in text.splitlines() if line.strip()] or ["nothing was printed"]
    return next((line for line in lines if line.startswith("error:")), lines[-1])[:200]


def started(bench: Bench, words: list[str], log: Path, word: str) -> subprocess.Popen[str]:
    """A command under way, once its log has `word`.

    Raises:
        OutOfTime: the time limit.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "mlrec", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env=environment(bench), cwd=bench.folder,
    )  # fmt: skip
    while process.poll() is None and not (log.exists() and word in log.read_text()):
        if bench.seconds_left <= 0:
            process.kill()
            process.communicate()
            raise OutOfTime
        time.sleep(0.02)
    return process


def weights(bench: Bench, name: str) -> str:
    """SHA-256 of a run's weights."""
    from mlrec.models.checkpoint import read_metadata

    return read_metadata(bench.folder / "runs" / name).sha256


def same_bits(bench: Bench) -> Iterator[Finding]:
    """Repeat a run, and kill and resume one, with --deterministic: the weights are the same."""
    for backbone in backbones(bench)[: 1 if bench.small else 2]:
        again, resumed = repeated_runs(bench, backbone, deterministic=True)
        name = f"{backbone}, --deterministic: bits of a repeated run, and of one killed and resumed"
        yield name, f"{SAME[again]}, {SAME[resumed]}", "same, same", again and resumed


def default_bits(bench: Bench) -> Iterator[Finding]:
    """Do the same without --deterministic: on a GPU, nothing is promised."""
    backbone = backbones(bench)[0]
    again, resumed = repeated_runs(bench, backbone, deterministic=False)
    name = f"{backbone}, by default: bits of a repeated run, and of one killed and resumed"
    yield name, f"{SAME[again]}, {SAME[resumed]}", "", None


def repeated_runs(bench: Bench, backbone: str, *, deterministic: bool) -> tuple[bool, bool]:
    """Train twice, and a third time with a kill; whether the second and the third have the weights of the first.

    Raises:
        OutOfTime: The time limit.
        RuntimeError: A command failed.
    """
    name = f"{backbone}-{'deterministic' if deterministic else 'default'}"
    runs = [bench.folder / "runs" / f"{name}-{which}" for which in ("first", "again", "killed")]
    commands = [train_words(bench, run.name, backbone, deterministic=deterministic) for run in runs]
    with ThreadPoolExecutor() as pool:  # at once: most of their time is the start of Python and CUDA
        list(pool.map(lambda words: mlrec(bench, words), commands[:2]))
    process = started(
        bench, [*commands[2], "--save-every", "2" if bench.small else "10"], runs[2] / "log.jsonl", '"event": "steps"'
    )
    process.kill()
    process.communicate()
    if process.returncode == 0:
        raise RuntimeError("the run ended before it was killed")
    mlrec(bench, ["train", "--resume", str(runs[2])])
    first, again, resumed = (weights(bench, run.name) for run in runs)
    return again == first, resumed == first


def logits(folder: Path) -> NDArray[np.float32]:
    """Those that a command wrote."""
    values: NDArray[np.float32] = np.load(folder / "predictions.npz")["logits"]
    return values


def predict_and_eval(bench: Bench) -> Iterator[Finding]:
    """`eval` repeats what training scored, `predict` what `eval` did."""
    from mlrec.workflows.deploy.predict import predict
    from mlrec.workflows.runtime import RuntimeOptions

    model = bench.folder / "runs" / "evaluated"
    mlrec(bench, train_words(bench, model.name, backbones(bench)[0], epochs=1))
    own, split = logits(model), dataset(bench) / "val.jsonl"
    for precision in ("auto", "fp32"):
        how = ["--device", bench.device.type, "--precision", precision]
        mlrec(bench, ["eval", str(model), *how])
        evaluated = logits(model / "eval-gpu-val")
        largest = float(np.abs(evaluated - own).max())
        same = precision == "auto"
        name = f"eval --precision {precision}: largest difference from the logits that training scored"
        yield name, f"{largest:.1e}", "0" if same else "", largest == 0 if same else None
        machine = RuntimeOptions(device=bench.device.type, precision=precision)
        found = np.array([prediction.probabilities for prediction in predict(model, str(split), machine=machine)])
        expected = 1 / (1 + np.exp(-evaluated.astype(np.float64)))
        largest = float(np.abs(found - expected).max())
        name = f"predict --precision {precision}: largest difference from the probabilities of eval"
        yield name, f"{largest:.1e}", "at most 1e-5", largest <= 1e-5


def two_processes(bench: Bench) -> Iterator[Finding]:
    """Two processes train as one, and evaluate to the same bytes."""
    script = bench.folder / "two.py"
    script.write_text(TWO_ON_ONE_GPU if bench.cuda else "from mlrec.__main__ import main\nmain()\n")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script))
    keys = {"precision": "fp32", "ema": True, "grad_accum_steps": 2 if not bench.small else 1, "epochs": 1}
    for name, launcher in (("one", ("-m", "mlrec")), ("two", torchrun)):
        mlrec(bench, train_words(bench, name, backbones(bench)[1], **keys), launcher)
    losses = []
    for name in ("one", "two"):
        lines = (bench.folder / "runs" / name / "log.jsonl").read_text().splitlines()
        losses.append([entry["loss"] for entry in map(json.loads, lines) if entry["event"] == "steps"])
    largest = float(np.abs(np.subtract(*losses)).max())
    yield "two processes on one device: largest difference of losses", f"{largest:.1e}", "below 1e-3", largest < 1e-3
    model, contents = bench.folder / "runs" / "one", []
    for launcher in (("-m", "mlrec"), torchrun):
        mlrec(bench, ["eval", str(model), "--device", bench.device.type, "--precision", "fp32"], launcher)
        contents.append((model / "eval-gpu-val" / "predictions.npz").read_bytes())
    same = contents[0] == contents[1]
    yield "eval by two processes: bytes of the predictions", "same" if same else "other", "same", same


def out_of_memory(bench: Bench) -> Iterator[Finding]:
    """Report lack of GPU memory in one line: once when the whole card is full, once in an evaluation."""
    if not bench.cuda:
        yield "out of memory", "needs a GPU", "", None
        return
    model, little = bench.folder / "runs" / "large", bench.folder / "little.py"
    little.write_text(LITTLE_MEMORY)
    mlrec(bench, train_words(bench, model.name, "resnet18", epochs=1))
    size = len(logits(model))  # a batch is never larger than the split
    evaluation = ["eval", str(model), "--batch-size", str(size), "--precision", "fp32", "--device", "cuda"]
    training = train_words(bench, "too-large", "resnet101", img_size=2048, batch_size=64, workers=2)
    for name, words, launcher in (("train", training, ("-m", "mlrec")), ("eval", evaluation, (str(little),))):
        done = attempt(bench, words, launcher)
        errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        passed = len(errors) == 1 and "out of GPU memory" in errors[0] and done.returncode == 1
        yield f"out of memory in {name}", last_error(done.stderr), "one line: out of GPU memory", passed


def doctor(bench: Bench) -> Iterator[Finding]:
    """Check the machine as a user does; its row `speed` names what limits training."""
    words = ["doctor", str(dataset(bench)), "--no-pretrained", "--backbone", backbones(bench)[0]]
    words += ["--img-size", "32" if bench.small else "224", "--device", bench.device.type, "--json"]
    done = attempt(bench, words)
    checks = json.loads(done.stdout)["checks"] if done.stdout else []
    speed = next((check["found"] for check in checks if check["name"] == "speed"), last_error(done.stderr))
    yield "doctor: exit code, and what limits", f"{done.returncode}; {speed}", "0", done.returncode == 0


def signal_ends_training(bench: Bench) -> Iterator[Finding]:
    """SIGTERM ends a run soon, with the command that resumes it."""
    words = train_words(bench, "stopped", backbones(bench)[0], epochs=500)
    process = started(bench, words, bench.folder / "runs" / "stopped" / "log.jsonl", '"event": "steps"')
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    try:
        _, text = process.communicate(timeout=max(30.0, bench.seconds_left))
    finally:
        process.kill()
    seconds = time.monotonic() - begun
    passed = process.returncode == 143 and seconds < 10 and "--resume" in text
    yield "SIGTERM in training", f"exit code {process.returncode} after {seconds:.1f} s", "143 within 10 s", passed
