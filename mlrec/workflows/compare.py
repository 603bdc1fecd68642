"""`mlrec report --compare A B`: two runs, or two methods of several seeds each, on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.errors import PredictionsError, printable
from mlrec.metrics.bootstrap import Bootstrap
from mlrec.metrics.resamples import RESAMPLES
from mlrec.metrics.result import Metrics
from mlrec.predictions import Floats, Predictions
from mlrec.reports.comparison import Side, compare, comparison_tables
from mlrec.reports.results import columns_of, image_of
from mlrec.reports.table import Table
from mlrec.runs import directory
from mlrec.runs.record import Run


@dataclass(frozen=True)
class _Given:
    """Predictions of one run or file, and what is known of them."""

    name: str
    predictions: Predictions
    conventions: str | None
    scored: str


def compare_runs(
    ours: Sequence[Path],
    theirs: Sequence[Path],
    *,
    conventions: str | None = None,
    labels: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Table]:
    """The difference A − B of two methods, with paired bootstrap intervals, as tables of metrics and labels.

    Args:
        ours: A: folders of runs or evaluations, or predictions.npz files, one for each seed.
        theirs: B: the same.
        conventions: how to score; None takes what both were scored by, or `mlrec`.
        labels: compare these alone.
        resamples: how often images (and seeds) are drawn.
        seed: of the draws.

    Raises:
        PredictionsError: the two were not made on the same samples, labels and truth.
    """
    a, b = ([_given(path) for path in paths] for paths in (ours, theirs))
    first = a[0]
    names = first.predictions.labels if labels is None else tuple(labels)
    targets = _targets(first)[:, columns_of(first.predictions.labels, names, first.name)]
    sides = [Side(_called(side), [_logits_like(first, other, names) for other in side]) for side in (a, b)]
    known = {given.conventions for given in (*a, *b)}
    rules = conventions or (known.pop() if len(known) == 1 else None) or "mlrec"
    groups = [image_of(sample) for sample in first.predictions.sample_ids]
    bootstrap = Bootstrap(targets, groups=groups, conventions=rules, resamples=resamples, seed=seed)
    comparison = compare(sides[0], sides[1], targets, names, bootstrap)
    what = f"{first.scored}{len(targets):,} samples, {len(names)} labels"
    return comparison_tables(sides[0], sides[1], comparison, bootstrap, what=what)


def _given(path: Path) -> _Given:
    if path.is_file():
        return _Given(str(path), Predictions.load(path), None, "")
    stored = Metrics.load(path / directory.METRICS).conventions.name if (path / directory.METRICS).is_file() else None
    if not (path / directory.RECORD).is_file() and (path / directory.PREDICTIONS).is_file():
        return _Given(str(path), Predictions.load(path / directory.PREDICTIONS), stored, "")  # an evaluation's folder
    run = Run.load(path)
    scored = run.record.scored
    return _Given(str(path), run.predictions(), stored, f"{scored.dataset} {scored.split}, " if scored else "")


def _called(side: Sequence[_Given]) -> str:
    return ", ".join(given.name for given in side)


def _targets(given: _Given) -> NDArray[np.int8]:
    if given.predictions.targets is None:
        raise PredictionsError(f"{printable(given.name)}: its predictions hold no targets; mlrec eval writes them")
    return given.predictions.targets


def _logits_like(first: _Given, other: _Given, labels: Sequence[str]) -> Floats:
    """The logits of `other` with the samples in the order of `first` and these labels; the truths must agree."""
    place = {sample: k for k, sample in enumerate(other.predictions.sample_ids)}
    missing = [sample for sample in first.predictions.sample_ids if sample not in place]
    if missing or len(place) != len(first.predictions.sample_ids):
        told = f"'{printable(missing[0])}' is missing" if missing else f"it has {len(place):,} samples"
        raise PredictionsError(
            f"{printable(other.name)}: not made on the samples of {printable(first.name)}: {told}; "
            "score both on the same split"
        )
    rows = [place[sample] for sample in first.predictions.sample_ids]
    ours = columns_of(first.predictions.labels, labels, first.name)
    columns = columns_of(other.predictions.labels, labels, other.name)
    theirs = other.predictions.targets
    if theirs is not None and not np.array_equal(theirs[rows][:, columns], _targets(first)[:, ours]):
        raise PredictionsError(
            f"{printable(other.name)}: its truth differs from that of {printable(first.name)}; score both on one split"
        )
    return other.predictions.logits[rows][:, columns]
