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
from gpu_model import LABELS, RANDOM, config_of
from paired import AS_MLREC, Side, ratio_interval

from mlrec.datasets.dataset import Dataset
from mlrec.models.checkpoint import save_model
from mlrec.training import inference, setup
from mlrec.training.dataloader import default_workers
from mlrec.training.devices import Precision, default_eval_batch
from mlrec.training.inference import open_on
from mlrec.training.throughput import peak_flops, training_flops

if TYPE_CHECKING:
    from gpu import Bench
    from gpu_model import Finding

ROUNDS = 5


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
            with mock.patch.object(inference, "repeatable_kernels", contextlib.nullcontext):
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


def training_rates(bench: Bench) -> Iterator[Finding]:
    """Training over the plain loop, input included, and the share of what the device could do."""
    config = msgspec.structs.replace(config_of(bench), workers=default_workers(bench.device), epochs=training.PASSES)
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
    yield from _over(bench, "training", rates, {"plain": 1.8, "plain, TF32 off": 4, "on the device": 0.9})
    flops = training_flops(setup.build_model(config, manifest, paper=False))
    peak = peak_flops(torch.cuda.get_device_name(bench.device), precision) if bench.cuda else None
    for name in ("mlrec", "on the device"):
        rate = statistics.median(rates[name])
        share = f"{100 * rate * flops / peak:.1f} %" if flops and peak else f"no data sheet of this {bench.device.type}"
        passed = rate * flops / peak >= 0.35 if flops and peak else None
        yield f"MFU of training, {name}", f"{share}, {rate:.1f} images/s", "at least 35 %", passed


def evaluation_rates(bench: Bench) -> Iterator[Finding]:
    """Evaluation over the plain loop, input included."""
    config = config_of(bench)
    manifest = Dataset.load(dataset(bench)).manifest("val" if bench.small else "train")
    file = bench.folder / "evaluated.safetensors"
    save_model(file, setup.build_model(config, manifest, paper=False), {})
    given = argparse.Namespace(device=bench.device.type, workers=default_workers(bench.device))
    both = file, manifest, list(range(len(manifest.labels))), given
    sides = {
        "plain": Side(evaluation.plain, *both, True, environment={}),
        "mlrec": Side(evaluation.ours, *both, precision_of(bench), environment=AS_MLREC),
    }
    if bench.cuda:
        sides["plain, TF32 off"] = Side(evaluation.plain, *both, False, environment={})
    rates: dict[str, list[float]] = {}
    for k in itertools.count():
        for name, side in sides.items():
            spent = side.take_turn().seconds
            if k:  # the first round loads and warms up
                rates.setdefault(name, []).append(len(manifest) / spent)
        if k == (1 if bench.small else ROUNDS) or bench.seconds_left < 20:
            break
    for side in sides.values():
        side.end()
    if not rates:
        raise OutOfTime
    yield from _over(bench, "evaluation", rates, {"plain": 2.5, "plain, TF32 off": 5})


def _over(bench: Bench, what: str, rates: dict[str, list[float]], aims: dict[str, float]) -> Iterator[Finding]:
    for name in [name for name in aims if name in rates]:
        ratios = [a / b for a, b in zip(rates["mlrec"], rates[name], strict=True)]
        yield only_on_cuda(bench, finding(f"{what} over {name}", ratios, least=aims[name]))
