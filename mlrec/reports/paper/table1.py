"""Table 1: effect of adding λ times the maximum at test time to models trained with average pooling.

`mlrec lambda-sweep RUN --lam 0:1:0.01` writes the result to `lambda.json` in the folder `lambda-DATA-SPLIT` next to the
model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import msgspec

from mlrec.reports.paper.citations import citation
from mlrec.reports.paper.method_names import METHODS
from mlrec.reports.paper.paper_rows import compare_training, reasons_apart
from mlrec.reports.paper.published import DATASETS, PublishedRow, paper_rows
from mlrec.reports.render.table import INFERRED, INFERRED_NOTE, Cell, Column, Row, Table
from mlrec.reports.results import Result
from mlrec.reports.runs_table import seeds_cell
from mlrec.utils.errors import RunError, counted
from mlrec.utils.files import read_own_json

FILE = "lambda.json"
SAME_AP = ("mlrec", "csra", "csra-wider", "macro-f1", "topk-pure")  # conventions with the same AP
ON_SCORED = "†"
ON_SCORED_NOTE = (
    f"{ON_SCORED} λ was chosen on the scored split itself, so the result is never below that of λ = 0; use the "
    "result for the fixed λ instead"
)
TITLE = "Table 1: λ · max added to a trained average-pooling model, without training"
CAPTION = (
    "mAP (%; top-1 accuracy for ImageNet) of trained average-pooling models when λ times the maximum score over "
    "locations is added to the mean score without further training. The best λ was chosen on the scored split."
)
LABEL = "lambda"
NOTES = (
    ON_SCORED_NOTE,
    INFERRED_NOTE,
    "the paper reports 82.4 mAP for ResNet-cut on COCO in Table 1, but 82.1 in Tables 4 and 6",
)
BOUNDED_NOTE = (
    "95%: confidence interval for Δ at the fixed λ, paired over images and, if n is given, over seeds; for each seed, "
    "the fixed λ is compared with λ = 0"
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
    Column("fixed_low", "low", "points", block="95% Δ", absent=""),
    Column("fixed_high", "high", "points", block="95% Δ", absent=""),
    Column("seeds", "n", "number", absent=""),
    Column("run", "Run", identity=True, absent=""),
)


class Gain(msgspec.Struct, frozen=True):
    """Difference in mAP or accuracy from λ = 0, as a fraction, with a 95% confidence interval."""

    value: float
    low: float
    high: float


class LambdaSweep(msgspec.Struct, frozen=True):
    """mAP of one model on a split at many values of λ, as stored in `lambda.json`.

    Attributes:
        conventions: Scoring conventions.
        lams, mAP: Values of λ, starting with 0, and the mAP at each value of λ, as a fraction.
        fixed_lam: Predefined λ. For a CSRA head, this is the λ used in training. For other heads, see
            `paper_checkpoints.fixed_lam`.
        fixed: mAP at `fixed_lam`.
        select_split: Split used to choose `best_lam`; None if `best_lam` was chosen on the scored split.
        best_lam: Best λ.
        best: mAP on the scored split at `best_lam`.
        dataset, split, samples, kind, labels: Description of the scored data.
        gain, fixed_gain: Gain of the best λ and of the fixed λ over λ = 0; None if it was not computed. If the best λ
            was chosen on the scored split, the bootstrap chooses it again in each resample.
        head, backbone: Head and backbone of the model.
        form: "raw" if the logits are used as in Figure 1, "divided" if they are divided by 1 + λ.
        metrics: For each form, the metrics mAP, CP, CR, CF1, OP, OR and OF1 at the "zero", "fixed" and "best" λ.
        temperatures: Temperatures of the attention that is added. `mAP` is computed with the first temperature. Empty
            if the temperatures of the head are used.
        by_temperature: mAP at each λ for each temperature; empty unless there are multiple temperatures.
        best_temperature: Temperature chosen together with `best_lam`.
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
        """Read a λ sweep from the file `lambda.json`.

        Raises:
            RunError: The file was not written by `mlrec lambda-sweep`.
        """
        return read_own_json(path, cls, RunError, "not a file written by mlrec lambda-sweep")


@dataclass(frozen=True)
class MethodSweeps:
    """λ sweeps of one method, with one sweep for each seed.

    Attributes:
        result: Mean result of the method over its seeds.
        sweeps: One sweep per seed. All sweeps have the same values of λ and the same scored data.
        gain: Gain of the fixed λ over λ = 0; None if it was not computed.
    """

    result: Result
    sweeps: tuple[LambdaSweep, ...]
    gain: Gain | None


def sweeps_of(folder: Path) -> dict[Path, LambdaSweep]:
    """Return a dict from folder to λ sweep, for a run folder and its evaluation folders."""
    return {file.parent: LambdaSweep.load(file) for file in sorted([*folder.glob(FILE), *folder.glob(f"*/{FILE}")])}


def table_1(own: Sequence[MethodSweeps], classifiers: Sequence[Row] = ()) -> Table:
    """Return Table 1, with the user's results below the published rows for the same dataset.

    Results that are not comparable with the published rows are in separate groups.

    Args:
        own: Sweeps of the user's models.
        classifiers: Rows with the accuracy of published ImageNet classifiers; see `imagenet.accuracy_row`.
    """
    rows = [_printed_row(list(printed)) for _, printed in groupby(paper_rows(1), key=_model)]
    rows += [*(_own_row(sweeps) for sweeps in own), *classifiers]
    order = list(dict.fromkeys(row.group for row in rows))
    ordered = sorted(rows, key=lambda row: order.index(row.group))
    low = [column.key for column in COLUMNS].index("fixed_low")
    notes = list(NOTES)
    if any(row.cells[low] is not None for row in ordered):
        notes.append(BOUNDED_NOTE)
    keep = [column.key for column in COLUMNS if column.key not in ("fixed_low", "fixed_high", "seeds")]
    table = Table(TITLE, COLUMNS, tuple(ordered), tuple(notes), caption=CAPTION, label=LABEL)
    return table.without_empty_columns(keep)


def _model(row: PublishedRow) -> tuple[str, str, int | None]:
    return (row.dataset, row.method, row.resolution)


def _printed_row(rows: Sequence[PublishedRow]) -> Row:
    """Combine the three published rows of a model (baseline, best λ and fixed λ) into one."""
    first = rows[0]
    key = "mAP"
    if first.dataset == "imagenet":
        key = "top1"
    by_note = {row.note.partition(";")[0]: row for row in rows}
    base, best, fixed = (by_note[name] for name in ("baseline", "best lambda", "fixed lambda"))
    numbers = [base.scores[key] or 0.0, best.scores[key] or 0.0, fixed.scores[key] or 0.0]
    name = METHODS.get(first.method, first.method)
    cells = table1_cells(name, "paper", first.resolution, numbers, (best.lam, fixed.lam), None)
    marks = {4: ON_SCORED}
    if "resolution" in first.inferred:
        marks[2] = INFERRED
    return Row(cells, table1_group(first.dataset), marks=marks, cite=citation(first))


def _own_row(own: MethodSweeps) -> Row:
    first, result = own.sweeps[0], own.result
    dataset = next((key for key, full in DATASETS.items() if full.kind == first.kind), None)
    numbers = [_mean([sweep.mAP[sweep.lams.index(0.0)] for sweep in own.sweeps])]
    numbers += [_mean([sweep.best for sweep in own.sweeps]), _mean([sweep.fixed for sweep in own.sweeps])]
    best = sorted({sweep.best_lam for sweep in own.sweeps})
    lam: Cell = best[0]
    if len(best) > 1:
        lam = f"{best[0]:g} to {best[-1]:g}"
    lams, seeds = (lam, first.fixed_lam), seeds_cell(own.sweeps)
    cells = table1_cells(result.method, "own", result.resolution, numbers, lams, result.run, own.gain, seeds)
    marks = {}
    if not first.select_split:
        marks[4] = ON_SCORED
    reasons = ["different data"]
    if dataset is not None:
        reasons = _reasons_apart(result, first, dataset)
    if not reasons and dataset is not None:
        return Row(cells, table1_group(dataset), marks=marks)
    facts = (
        f"{counted(first.samples, 'sample')}, {counted(len(first.labels or result.labels), 'label')}, "
        f"{result.resolution} px"
    )
    here = f"{first.dataset} {first.split}, {facts}, conventions {first.conventions}"
    return Row(cells, f"{here}: not comparable with the paper ({', '.join(reasons)})", marks=marks)


def _reasons_apart(result: Result, sweep: LambdaSweep, dataset: str) -> list[str]:
    """List the reasons why a sweep is not comparable with the published rows for a dataset.

    The result is empty if the sweep is comparable.
    """
    scored = replace(result, samples=sweep.samples, labels=tuple(sweep.labels or result.labels), kind=sweep.kind)
    reasons = reasons_apart(scored, dataset)
    printed = {row.resolution for row in paper_rows(1) if row.dataset == dataset}
    if result.resolution not in printed:
        reasons.append(f"{result.resolution} px")
    if result.extra:
        reasons.append(f"extra data {result.extra}")
    if not reasons:
        reasons += compare_training(result, dataset)[1]
    if sweep.conventions not in SAME_AP:  # all conventions of the paper have the same AP
        reasons.append(f"conventions {sweep.conventions}")
    return reasons


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
    """Return the cells of a table row, in the order of `COLUMNS`.

    Args:
        method: Name of the method.
        source: Source of the row, "paper" or "own".
        resolution: Side length of the square input in pixels.
        numbers: mAP of the baseline, mAP at the best λ, and mAP at the fixed λ, as fractions. For ImageNet, these are
            top-1 accuracies.
        lams: Best and fixed λ.
        run: Name of the run.
        gain: Gain of the fixed λ, from which only the confidence interval is shown; None omits the interval.
        seeds: Number of runs if there are multiple runs, otherwise None.
    """
    base, best, fixed = numbers
    bounds: tuple[Cell, Cell] = (None, None)
    if gain is not None:
        bounds = (gain.low, gain.high)
    values = (method, source, resolution, base, lams[0], best, best - base, lams[1], fixed, fixed - base)
    return (*values, *bounds, seeds, run)


def table1_group(dataset: str) -> str:
    """Return the heading for the published rows on a dataset."""
    if dataset == "imagenet":
        return "ImageNet val, top-1 accuracy"
    full = DATASETS[dataset]
    return f"{full.name} {full.split}, {full.samples:,} samples, {full.labels} labels"
