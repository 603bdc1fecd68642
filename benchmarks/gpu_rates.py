"""Checks of gpu.py on rates and memory, by the other benchmarks: each sets its process up as the command does."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING
from unittest import mock

import evaluation
import msgspec
import step
import torch
import training
from gpu_commands import OutOfTime, dataset
from gpu_model import LABELS, RANDOM, config_of, made, random_batch
from paired import AS_MLREC, Side, ratio_interval, timed
from torch.profiler import ProfilerActivity, profile

from mlrec.datasets.dataset import Dataset
from mlrec.models.checkpoint import save_model
from mlrec.training import prediction, setup
from mlrec.training.dataloader import default_workers, fitting
from mlrec.training.devices import Precision, default_eval_batch
from mlrec.training.loop import train_step
from mlrec.training.prediction import open_on
from mlrec.training.throughput import peak_flops, training_flops
from mlrec.utils.errors import counted

if TYPE_CHECKING:
    from gpu import Bench
    from gpu_model import Finding

ROUNDS = 5
PROFILED = 3  # steps
TRANSPOSES = ("nchwToNhwc", "nhwcToNchw")  # in the names of kernels that only change the memory layout
SEARCHED = "kernels chosen by time (cudnn.benchmark)"
WAYS: dict[str, dict[str, object]] = {
    "default": {},
    SEARCHED: {},
    "--ema": {"ema": True},
    "--grad-checkpointing": {"grad_checkpointing": True},
    "--no-channels-last": {"channels_last": False},
    "--deterministic": {"deterministic": True},
    "--compile": {"compile": True},
}


def finding(name: str, ratios: list[float], least: float | None = None, most: float | None = None) -> Finding:
    """The median of paired ratios with its interval, against its aim."""
    middle, low, high = ratio_interval(ratios)
    aim = f"at least {least}" if least is not None else f"at most {most}"
    passed = middle >= least if least is not None else most is not None and middle <= most
    return name, f"{middle:.3f} ({low:.3f}-{high:.3f}, {len(ratios)} alternations)", aim, passed


def only_on_cuda(bench: Bench, found: Finding) -> Finding:
    """The aims are of a GPU: elsewhere the figure is shown."""
    return found if bench.cuda else (*found[:3], None)


def precision_of(bench: Bench) -> Precision:
    """What `auto` chooses on a GPU that is worth measuring."""
    return "bf16" if bench.cuda else "fp32"


def csra(bench: Bench) -> Iterator[Finding]:
    """CSRA with eight heads over average pooling, in a training step and at test time."""
    config = config_of(bench)
    batch = step.random_batch(config, len(LABELS), bench.device)
    for name, work, most in (("a training step", step.training, 1.005), ("at test time", step.scoring, 1.01)):
        ratios = step.csra_over_average(
            work, RANDOM, config, batch, bench.device, precision_of(bench), 3 if bench.small else 20
        )
        yield only_on_cuda(bench, finding(f"CSRA, H = 8, over average pooling, {name}", ratios, most=most))


def kernels_of_a_step(bench: Bench) -> Iterator[Finding]:
    """Find kernels that only change the memory layout, and the time in which the device has nothing to do.

    The time of kernels is that of profiled steps, and the time of a step that of steps without the profiler.
    """
    config = config_of(bench, ema=True)
    state, network, loss = made(config, bench.device, precision_of(bench))
    batch = random_batch(config, bench.device)

    def steps() -> None:
        for _ in range(PROFILED):
            train_step(state, network, batch, loss, config)

    steps()
    seconds = min(timed(steps, bench.device) for _ in range(3))
    activity = ProfilerActivity.CUDA if bench.cuda else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiled:
        timed(steps, bench.device)
    if not bench.cuda:
        yield "kernels of a step: layout, gaps", f"needs a GPU; a step takes {seconds / PROFILED:.3f} s", "", None
        return
    found = [event for event in profiled.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA]
    transposes = sum(event.count for event in found if any(name in event.key for name in TRANSPOSES))
    name = f"kernels that only change the memory layout, in {PROFILED} steps"
    yield name, str(transposes), "none", transposes == 0
    busy = sum(event.self_device_time_total for event in found) / 1e6
    yield "share of a step in which kernels run", f"{busy / seconds:.3f}", "above 0.95", busy / seconds > 0.95
    largest = sorted(found, key=lambda event: event.self_device_time_total, reverse=True)[:6]
    shares = (f"{event.key[:60]} {event.self_device_time_total / 1e4 / busy:.1f}%" for event in largest)
    text = f"{sum(event.count for event in found) // PROFILED} kernels per step; {'; '.join(shares)}"
    yield "kernels with the largest share", text.replace("|", "/"), "", None


def ways(bench: Bench) -> Iterator[Finding]:
    """Time a training step with one setting changed, one way after the other, and its peak memory."""
    config, repeats = config_of(bench), 3 if bench.small else 15
    batch = random_batch(config, bench.device)
    for name, keys in WAYS.items():
        if bench.small and name == "--compile":
            continue  # needs a C++ compiler on a CPU
        work = step.training(RANDOM, msgspec.structs.replace(config, **keys), batch, bench.device, precision_of(bench))
        first = timed(lambda work=work: next(work), bench.device)  # builds the model, and compiles it
        if name == SEARCHED:
            torch.backends.cudnn.benchmark = True
            first = timed(lambda work=work: next(work), bench.device)  # the search
        spent = [timed(lambda work=work: next(work), bench.device) for _ in range(2 * repeats)][repeats:]
        peak = f", peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if bench.cuda else ""
        text = f"{1e3 * statistics.median(spent):.1f} ms{peak}, the first one with its setup {first:.1f} s"
        yield f"a training step, {name}", text, "", None
        work.close()  # type: ignore[attr-defined]
        del work
        torch.backends.cudnn.benchmark = False
        torch.use_deterministic_algorithms(False)
        if bench.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def kernels(bench: Bench) -> Iterator[Finding]:
    """What evaluation would gain from kernels that are chosen by time; they differ between processes."""
    config, precision = config_of(bench), precision_of(bench)
    opened = open_on(setup.build_model(config, RANDOM, paper=False), bench.device, precision)
    size = default_eval_batch(config.batch_size, bench.device)
    images = step.random_batch(msgspec.structs.replace(config, batch_size=size), len(LABELS), bench.device).images

    def by_shape() -> Iterator[None]:
        while True:
            opened.run(images, opened.model.head)
            yield

    def by_time() -> Iterator[None]:
        while True:
            torch.backends.cudnn.benchmark = True
            with mock.patch.object(prediction, "repeatable_kernels", contextlib.nullcontext):
                opened.run(images, opened.model.head)
            torch.backends.cudnn.benchmark = False
            yield

    ratios = step.alternate({"by time": by_time(), "by shape": by_shape()}, 3 if bench.small else 20, bench.device)
    middle, low, high = ratio_interval(ratios)
    name = f"evaluation, kernels chosen by shape over kernels chosen by time (cudnn.benchmark), batches of {size}"
    yield name, f"{middle:.3f} ({low:.3f}-{high:.3f}, {len(ratios)} alternations)", "", None


def memory(bench: Bench) -> Iterator[Finding]:
    """Peak memory of a training step in the paper's setting on COCO, over that of the reference."""
    if not bench.cuda:
        yield "peak memory of a training step", "needs a GPU", "", None
        return
    config = msgspec.structs.replace(config_of(bench), heads=6, lam=0.5)
    batch = step.random_batch(config, len(LABELS), bench.device)
    peaks = step.peak_memory(RANDOM, config, batch, bench.device, precision_of(bench))
    ratio = peaks["mlrec"] / peaks["reference"]
    text = f"{ratio:.2f} ({peaks['mlrec']:.2f} GB over {peaks['reference']:.2f} GB)"
    yield "peak memory of a training step over the reference's", text, "at most 1", ratio <= 1


def dataloader_workers(bench: Bench, size: int, batch_size: int) -> int:
    """Return the workers of both sides: by default, or as many as shared memory has room for, in float32 batches."""
    return fitting(default_workers(bench.device), 4 * 3 * size**2 * batch_size)


def training_rates(bench: Bench) -> Iterator[Finding]:
    """Training over the plain loop, input included, and the share of what the device could do."""
    config = config_of(bench)
    workers = dataloader_workers(bench, config.img_size, config.batch_size)
    config = msgspec.structs.replace(config, workers=workers, epochs=training.PASSES)
    manifest = Dataset.load(dataset(bench)).manifest("train")
    precision = precision_of(bench)
    rates: dict[str, list[float]] = {}
    for measured in training.rounds(manifest, config, bench.device, precision):
        for name, rate in measured.items():
            rates.setdefault(name, []).append(rate)
        if len(rates["mlrec"]) == (1 if bench.small else ROUNDS) or bench.seconds_left < 20:
            break
    if not rates:
        raise OutOfTime
    what = f"training, {counted(workers, 'dataloader worker')},"
    yield from _over(bench, what, rates, {"plain": 1.8, "plain, TF32 off": 4, "on the device": 0.9})
    flops = training_flops(setup.build_model(config, manifest, paper=False))
    peak = peak_flops(torch.cuda.get_device_name(bench.device), precision) if bench.cuda else None
    for name in ("mlrec", "on the device"):
        rate = statistics.median(rates[name])
        share = f"{100 * rate * flops / peak:.1f}%" if flops and peak else f"no data sheet of this {bench.device.type}"
        passed = rate * flops / peak >= 0.35 if flops and peak else None
        yield f"MFU of training, {name}", f"{share}, {rate:.1f} images/s", "at least 35%", passed


def evaluation_rates(bench: Bench) -> Iterator[Finding]:
    """Evaluation over the plain loop, input included."""
    config = config_of(bench)
    # Thousands of images, because each pass starts its dataloader workers.
    manifest = Dataset.load(dataset(bench, "many", 24 if bench.small else 4096)).manifest("train")
    workers = dataloader_workers(bench, config.img_size, evaluation.BATCH)
    file = bench.folder / "evaluated.safetensors"
    save_model(file, setup.build_model(config, manifest, paper=False), {})
    given = argparse.Namespace(device=bench.device.type, workers=workers)
    both = file, manifest, list(range(len(manifest.labels))), given
    sides = {
        "plain": Side(evaluation.plain, *both, True, environment={}),
        "mlrec": Side(evaluation.ours, *both, precision_of(bench), environment=AS_MLREC),
    }
    if bench.cuda:
        sides["plain, TF32 off"] = Side(evaluation.plain, *both, False, environment={})
    rates: dict[str, list[float]] = {}
    try:
        for k in itertools.count():
            for name, side in sides.items():
                spent = side.take_turn().seconds
                if k:  # the first round loads and warms up
                    rates.setdefault(name, []).append(len(manifest) / spent)
            if k == (1 if bench.small else ROUNDS) or bench.seconds_left < 20:
                break
    finally:
        for side in sides.values():
            side.end()
    if not rates:
        raise OutOfTime
    what = f"evaluation, {counted(workers, 'dataloader worker')},"
    yield from _over(bench, what, rates, {"plain": 2.5, "plain, TF32 off": 5})


def _over(bench: Bench, what: str, rates: dict[str, list[float]], aims: dict[str, float]) -> Iterator[Finding]:
    for name in [name for name in aims if name in rates]:
        ratios = [a / b for a, b in zip(rates["mlrec"], rates[name], strict=True)]
        yield only_on_cuda(bench, finding(f"{what} over {name}", ratios, least=aims[name]))
