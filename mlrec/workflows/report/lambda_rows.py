"""Own rows of Table 1: what `mlrec eval --lam` left beside the runs of one method, over its seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mlrec.metrics.bootstrap import paired_seeds
from mlrec.predictions import Predictions
from mlrec.reports.paper.table1 import Gain, LamSweep, Own, sweeps_of
from mlrec.reports.results import Result, columns_of, image_of
from mlrec.runs import directory

Found = tuple[Path, Path, LamSweep]  # the run, the folder of the sweep, and what it holds


def lam_rows(result: Result) -> Iterator[Own]:
    """The sweeps of a method: those that ask the same of every seed in one row."""
    alike: dict[object, list[Found]] = {}
    for run in result.paths:
        for folder, sweep in sweeps_of(run).items():
            key = (sweep.dataset, sweep.split, sweep.samples, sweep.conventions, *sweep.labels, sweep.select_split,
                   sweep.fixed_lam, *sweep.lams, *sweep.temperatures)  # fmt: skip
            alike.setdefault(key, []).append((run, folder, sweep))
    for found in alike.values():
        runs = tuple(run for run, _, _ in found)
        names = tuple(result.names[result.paths.index(run)] for run in runs)
        gain = found[0][2].fixed_gain if len(found) == 1 else _gain(found)
        yield Own(replace(result, paths=runs, names=names), tuple(sweep for _, _, sweep in found), gain)


def _gain(found: Sequence[Found]) -> Gain | None:
    """The fixed λ against none over several seeds, from stored predictions; None where those of λ = 0 are not there."""
    if found[0][2].head == "csra":  # its run was scored at the λ of training
        return None
    pairs = [
        (Predictions.load(folder / directory.PREDICTIONS), Predictions.load(run / directory.PREDICTIONS))
        for run, folder, _ in found
    ]
    first, sweep = pairs[0][0], found[0][2]
    if first.targets is None or any(one.digest != first.digest for pair in pairs for one in pair):
        return None
    columns = columns_of(first.labels, sweep.labels or first.labels, str(found[0][1]))
    fixed, zero = ([one.logits[:, columns] for one in side] for side in zip(*pairs, strict=True))
    groups = [image_of(sample) for sample in first.sample_ids]
    between = paired_seeds(fixed, zero, first.targets[:, columns], groups=groups, conventions=sweep.conventions)
    return None if between is None else Gain(between.value, between.low, between.high)
