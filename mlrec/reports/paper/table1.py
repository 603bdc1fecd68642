"""Table 1: a trained average-pooling model with λ times the maximum added at test time, beside the paper's rows.

What `mlrec eval RUN --lam 0:1:0.01` finds lies in `lambda.json` in a folder lambda-DATA-SPLIT beside
the model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import msgspec

from mlrec.reports.paper.method_names import METHODS
from mlrec.reports.paper.paper_rows import compare_training, reasons_apart
from mlrec.reports.paper.published import DATASETS, PublishedRow, paper_rows
from mlrec.reports.render.table import INFERRED, INFERRED_NOTE, Cell, Column, Row, Table
from mlrec.reports.results import Result
from mlrec.utils.errors import RunError, counted
from mlrec.utils.files import read_own_json

FILE = "lambda.json"
SAME_AP = ("mlrec", "csra", "csra-wider", "macro-f1", "topk-pure")  # conventions that differ in other metrics alone
ON_SCORED = "†"
ON_SCORED_NOTE = f"{ON_SCORED} λ chosen on the scored split itself: a grid with 0 cannot lose; evidence is the fixed λ"
TITLE = "Table 1: λ · max added to a trained average-pooling model, without training"
NOTES = (ON_SCORED_NOTE, INFERRED_NOTE, "ResNet-cut on COCO is 82.1 in Tables 4 and 6 of the paper")
BOUNDED_NOTE = (
    "95 %: of Δ at the fixed λ, paired over images; where n is given, over seeds, too, each with its own λ = 0"
)
COLUMNS = (
    Column("method", "Method", identity=True),
    Column("source", "Source"),
    Column("resolution", "px", "number", absent=""),
    Column("baseline", "baseline", "percent"),
    Column("best_lam", "λ", "number", block="best λ"),
    Column("best", "mAP", "percent", block="best λ"),
    Column("best_difference", "Δ", "points", block="best λ"),
    Column("fixed_lam", "λ", "number", block="fixed λ"),
    Column("fixed", "mAP", "percent", block="fixed λ"),
    Column("fixed_difference", "Δ", "points", block="fixed λ"),
    Column("fixed_low", "low", "points", block="95 % Δ", absent=""),
    Column("fixed_high", "high", "points", block="95 % Δ", absent=""),
    Column("seeds", "n", "number", absent=""),
    Column("run", "Run", identity=True, absent=""),
)


class Gain(msgspec.Struct, frozen=True):
    """A difference of mAP to λ = 0, and its 95 % interval."""

    value: float
    low: float
    high: float


class LambdaSweep(msgspec.Struct, frozen=True):
    """mAP of one model at many λ, from one pass over a split: the content of `lambda.json`.

    Attributes:
        conventions: how it was scored.
        lams, mAP: the grid, 0 first, and the mAP at each, as fractions.
        fixed_lam: the λ that was fixed beforehand: 0.02 for ResNets, 0.2 for others; of a CSRA head, that of training.
        fixed: the mAP at it.
        select_split: the split that chose `best_lam`; None: the scored split itself.
        best_lam: the λ chosen.
        best: the mAP of the scored split at it.
        dataset, split, samples, kind, labels: what was scored.
        gain, fixed_gain: best and fixed λ against λ = 0; the choice on the scored split is repeated in each resample.
        head, backbone: of the model.
        form: of the logits stored: "raw" (Figure 1) or "divided" (by 1 + λ).
        metrics: at "zero", "fixed" and "best" λ, for each form: mAP CP CR CF1 OP OR OF1.
        temperatures: of the attention that λ weighs, `mAP` being of the first; empty: those of the head.
        by_temperature: mAP at each λ for each of the temperatures.
        best_temperature: the one chosen with `best_lam`.
    """

    conventions: str
    lams: list[float]
    mAP: list[float]
    fixed_lam: float
    fixed: float
    best_lam: float
    best: float
    dataset: str
    split: str
    samples: int
    kind: str = ""
    select_split: str | None = None
    gain: Gain | None = None
    fixed_gain: Gain | None = None
    head: str = ""
    backbone: str = ""
    form: str = "raw"
    metrics: dict[str, dict[str, dict[str, float | None]]] = {}
    temperatures: list[float | str] = []
    by_temperature: list[list[float]] = []
    best_temperature: float | str | None = None
    labels: list[str] = []

    @classmethod
    def load(cls, path: Path) -> LambdaSweep:
        """Read `lambda.json`.

        Raises:
            RunError: it is not such a file.
        """
        return read_own_json(path, cls, RunError, "not what mlrec eval --lam writes")


@dataclass(frozen=True)
class MethodSweeps:
    """Sweeps of one method of ours.

    Attributes:
        result: the method, over its seeds.
        sweeps: one a seed, alike in everything but what they found.
        gain: of the fixed λ over none.
    """

    result: Result
    sweeps: tuple[LambdaSweep, ...]
    gain: Gain | None


def sweeps_of(folder: Path) -> dict[Path, LambdaSweep]:
    """The sweeps that lie in a run's folder or in the folders of its evaluations, by these folders."""
    return {file.parent: LambdaSweep.load(file) for file in sorted([*folder.glob(FILE), *folder.glob(f"*/{FILE}")])}


def table_1(own: Sequence[MethodSweeps], classifiers: Sequence[Row] = ()) -> Table:
    """The paper's rows, three printed numbers each, and own ones below the dataset they belong to.

    Args:
        own: sweeps of trained models.
        classifiers: rows of published classifiers, see `accuracy.accuracy_row`.
    """
    rows = [row for _, found in groupby(paper_rows(1), key=_model) for row in [_printed(list(found))]]
    rows += [*(_own_row(one) for one in own), *classifiers]
    places = {group: place for place, group in enumerate(dict.fromkeys(row.group for row in rows))}
    ordered = sorted(rows, key=lambda row: places[row.group])
    low = [column.key for column in COLUMNS].index("fixed_low")
    bounded = [BOUNDED_NOTE] if any(row.cells[low] is not None for row in ordered) else []
    keep = [column.key for column in COLUMNS if column.key not in ("fixed_low", "fixed_high", "seeds")]
    return Table(TITLE, COLUMNS, tuple(ordered), (*NOTES, *bounded)).without_empty_columns(keep)


def _model(row: PublishedRow) -> tuple[str, str, int | None]:
    return (row.dataset, row.method, row.resolution)


def _printed(rows: Sequence[PublishedRow]) -> Row:
    """The baseline, the best λ and the fixed λ of one model."""
    first = rows[0]
    key = "top1" if first.dataset == "imagenet" else "mAP"
    by_note = {row.note.partition(";")[0]: row for row in rows}
    base, best, fixed = (by_note[name] for name in ("baseline", "best lambda", "fixed lambda"))
    numbers = [base.scores[key] or 0.0, best.scores[key] or 0.0, fixed.scores[key] or 0.0]
    name = METHODS.get(first.method, first.method)
    cells = table1_cells(name, "paper", first.resolution, numbers, (best.lam, fixed.lam), None)
    inferred = {2: INFERRED} if "resolution" in first.inferred else {}
    return Row(cells, table1_group(first.dataset), marks={4: ON_SCORED} | inferred)


def _own_row(own: MethodSweeps) -> Row:
    first, result = own.sweeps[0], own.result
    dataset = next((key for key, full in DATASETS.items() if full.kind == first.kind), None)
    numbers = [_mean([sweep.mAP[sweep.lams.index(0.0)] for sweep in own.sweeps])]
    numbers += [_mean([sweep.best for sweep in own.sweeps]), _mean([sweep.fixed for sweep in own.sweeps])]
    best = sorted({sweep.best_lam for sweep in own.sweeps})
    lam = best[0] if len(best) == 1 else f"{best[0]:g} to {best[-1]:g}"
    seeds = len(own.sweeps) if len(own.sweeps) > 1 else None
    cells = table1_cells(
        result.method, "own", result.resolution, numbers, (lam, first.fixed_lam), result.run, own.gain, seeds
    )
    marks = {} if first.select_split else {4: ON_SCORED}
    apart = ["other data"] if dataset is None else _reasons_apart(result, first, dataset)
    if not apart and dataset is not None:
        return Row(cells, table1_group(dataset), marks=marks)
    facts = (
        f"{counted(first.samples, 'sample')}, {counted(len(first.labels or result.labels), 'label')}, "
        f"{result.resolution} px"
    )
    here = f"{first.dataset} {first.split}, {facts}, conventions {first.conventions}"
    return Row(cells, f"{here}: not comparable with the paper's, {', '.join(apart)}", marks=marks)


def _reasons_apart(result: Result, sweep: LambdaSweep, dataset: str) -> list[str]:
    """Why a sweep must not stand beside the printed rows of `dataset`; AP is the same by all of the paper's rules."""
    scored = replace(result, samples=sweep.samples, labels=tuple(sweep.labels or result.labels), kind=sweep.kind)
    why = reasons_apart(scored, dataset)
    printed = {row.resolution for row in paper_rows(1) if row.dataset == dataset}
    why += [f"{result.resolution} px"] if result.resolution not in printed else []
    why += [f"extra data {result.extra}"] if result.extra else []
    why += [] if why else compare_training(result, dataset)[1]
    return why + ([f"conventions {sweep.conventions}"] if sweep.conventions not in SAME_AP else [])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def table1_cells(
    method: str,
    source: str,
    resolution: int | None,
    numbers: Sequence[float],
    lams: tuple[Cell, Cell],
    run: str | None,
    gain: Gain | None = None,
    seeds: int | None = None,
) -> tuple[Cell, ...]:
    """A row of `COLUMNS`: mAP of the baseline, the best and the fixed λ, and the interval of the fixed one's gain."""
    base, best, fixed = numbers
    bounds = (None, None) if gain is None else (gain.low, gain.high)
    known = (method, source, resolution, base, lams[0], best, best - base, lams[1], fixed, fixed - base)
    return (*known, *bounds, seeds, run)


def table1_group(dataset: str) -> str:
    """The heading of the paper's rows on a dataset."""
    if dataset == "imagenet":
        return "ImageNet val, top-1 accuracy"
    full = DATASETS[dataset]
    return f"{full.name} {full.split}, {full.samples:,} samples, {full.labels} labels"
