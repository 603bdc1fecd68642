"""Table of finished runs in the paper's layout.

Results that are not comparable are in separate groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlrec.metrics.average_precision import GROUPS_NOTE, frequency_group
from mlrec.metrics.precision_recall import FEW_POSITIVES
from mlrec.metrics.summary import Metrics
from mlrec.reports.paper.method_names import HEAD_ORDER
from mlrec.reports.render.table import BEST_EPOCH, BEST_EPOCH_NOTE, Cell, Column, Row, Table
from mlrec.reports.results import METRICS, TOP3, Result, undefined_note, without_negative_notes
from mlrec.reports.settings import settings_text
from mlrec.utils.errors import counted

BOOTSTRAP_NOTE = (
    "95%: bias-corrected bootstrap confidence interval over images, and over seeds if n is given. The interval for "
    "one "
    "run does not account for other seeds, and AP on few images is biased upward"
)
WITHOUT_NEGATIVE = "¶"  # mark of precisions and F1 that count labels without a known negative
_PRECISIONS = frozenset({"CP", "CF1", "OP", "OF1", "F1"})
SEEDS_NOTE = (
    "n: number of runs that differ only in the seed; metrics are means, and sd is the standard deviation of mAP"
)
Intervals = Mapping[tuple[Path, ...], Mapping[str, tuple[float, float] | None]]
FEW_HEADING = f"fewer than {FEW_POSITIVES} positives: the values depend mostly on which images were sampled"
LABEL_RATES = (Column("precision", "P", "percent"), Column("recall", "R", "percent"), Column("F1", "F1", "percent"))
SUPPORT = Column("support", "positives", "count", absent="")
FREQUENCY_COLUMNS = (
    Column("training_positives", "in training", "count", absent=""),
    Column("frequency", "group", absent=""),
)
BOUNDED = ("mAP", "CF1", "OF1")
SCORES = (
    Column("mAP", "mAP", "percent", ranked=True, essential=True),
    *(Column(key, key, "percent", block="All", ranked=True, essential=key in ("CF1", "OF1")) for key in METRICS[1:]),
    *(Column(f"{key}_3", key, "percent", block="Top-3", ranked=True) for key in TOP3),
)
BOUNDS = tuple(
    Column(f"{key}_{end}", end, "percent", block=f"95% {key}", absent="") for key in BOUNDED for end in ("low", "high")
)
COLUMNS = (
    Column("method", "Method", identity=True, essential=True),
    Column("backbone", "Backbone"),
    Column("resolution", "px", "number"),
    Column("heads", "H", "number", absent="", identity=True),
    Column("lam", "λ", "number", absent="", identity=True),
    Column("extra_data", "Extra data", absent=""),
    SCORES[0],
    Column("sd", "sd", "percent", absent=""),
    Column("seeds", "n", "number", absent=""),
    Column("best_epoch", "best epoch", "percent", absent=""),
    *BOUNDS,
    *SCORES[1:],
    Column("settings", "Settings", absent=""),
    Column("run", "Run", essential=True),
)
ALWAYS = ("method", "backbone", "resolution", *(column.key for column in SCORES), "run")


def runs_table(results: Iterable[Result], *, intervals: Intervals | None = None, title: str = "Finished runs") -> Table:
    """Return a table with one row per result, in groups of comparable results.

    The best value of each metric in each group is marked. Optional columns without values are omitted.

    Args:
        results: Results, one per row.
        intervals: Dict from `Result.paths` to the bounds of the 95% confidence intervals for mAP, CF1 and OF1.
        title: Title of the table.
    """
    ordered = sorted(results, key=lambda r: (*map(str, r.block[:2]), str(r.block), *_order(r)))
    marks = note_marks(note for result in ordered for note in result.notes)
    headings = {result.block: heading(result, ordered) for result in ordered}
    rows = tuple(
        Row(
            _cells(result, _settings(result, ordered), (intervals or {}).get(result.paths, {})),
            headings[result.block],
            marks=_marks(result, marks),
        )
        for result in ordered
    )
    table = Table(title, COLUMNS, rows, _footnotes(ordered, marks, bool(intervals)))
    return table.without_empty_columns(ALWAYS).with_best()


def heading(result: Result, among: Sequence[Result]) -> str:
    """Describe the evaluation data of a group of results.

    The text contains enough details to distinguish the group from the other groups in `among`.
    """
    facts = [
        f"{result.dataset} {result.split}".strip(),
        counted(result.samples, "sample"),
        counted(len(result.labels), "label"),
        f"conventions {result.conventions}",
    ]
    if result.resolution is not None:
        facts.append(f"{result.resolution} px")
    if result.extra:
        facts.append(f"extra data {result.extra}")
    digests = {r.digest for r in among if (r.dataset, r.split) == (result.dataset, result.split)}
    if len(digests) > 1 and result.digest:
        facts.append(f"annotations {result.digest[:8]}")
    return " · ".join(facts)


def differences(results: Sequence[Result]) -> list[str]:
    """Return one line for each dataset and split whose results are in different groups, with the reasons."""
    lines = []
    for dataset, split in dict.fromkeys((r.dataset, r.split) for r in results):
        rows = [r for r in results if (r.dataset, r.split) == (dataset, split)]
        facts: dict[str, set[Any]] = {
            "sample count": {r.samples for r in rows},
            "labels scored": {r.labels for r in rows},
            "annotations": {r.digest for r in rows},
            "conventions": {r.conventions for r in rows},
            "resolution": {r.resolution for r in rows},
            "extra data": {r.extra for r in rows},
        }
        differ = [name for name, seen in facts.items() if len(seen) > 1]
        if differ:
            lines.append(f"{dataset} {split}: groups differ in {', '.join(differ)} and are not comparable")
    return lines


def _order(result: Result) -> tuple[object, ...]:
    order = (*HEAD_ORDER, result.head)  # unknown heads come last
    return (result.backbone, order.index(result.head), result.heads or 0, result.lam or 0.0, result.names)


def _settings(result: Result, among: Sequence[Result]) -> str | None:
    """Return the values of `result` for the settings in which the results of a block differ."""
    return settings_text(result.settings, [r.settings for r in among if r.block == result.block]) or None


def _cells(
    result: Result, settings: str | None, interval: Mapping[str, tuple[float, float] | None]
) -> tuple[Cell, ...]:
    known: dict[str, Cell] = {
        "method": result.method,
        "backbone": result.timm_name,
        "resolution": result.resolution,
        "heads": result.heads,
        "lam": result.lam,
        "extra_data": result.extra or None,
        "sd": result.spread,
        "seeds": seeds_cell(result.names),
        "best_epoch": result.best_epoch,
        "settings": settings,
        "run": result.run,
    }
    known |= bounds_of(interval) | dict(result.values)
    return tuple(known[column.key] for column in COLUMNS)


def seeds_cell(runs: Sequence[object]) -> int | None:
    """Return a table cell with the number of runs; it is empty for a single run."""
    if len(runs) < 2:
        return None
    return len(runs)


def bounds_of(interval: Mapping[str, tuple[float, float] | None]) -> dict[str, Cell]:
    """Return the cells of a table row for the columns `BOUNDS`."""
    cells: dict[str, Cell] = {}
    for key in BOUNDED:
        cells[f"{key}_low"], cells[f"{key}_high"] = interval.get(key) or (None, None)
    return cells


def note_marks(notes: Iterable[str]) -> dict[str, str]:
    """Return a footnote mark for each different note: letters for the first 26 notes, then numbers."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    marks: dict[str, str] = {}
    for k, note in enumerate(dict.fromkeys(notes)):
        marks[note] = letters[k] if k < len(letters) else str(k)
    return marks


def _marks(result: Result, notes: Mapping[str, str]) -> dict[int, str]:
    marks = {}
    if result.notes:
        marks[0] = ",".join(notes[note] for note in result.notes)
    if result.best_epoch is not None:
        marks[[column.key for column in COLUMNS].index("best_epoch")] = BEST_EPOCH
    return marks


def _footnotes(results: Sequence[Result], marks: Mapping[str, str], bounded: bool) -> tuple[str, ...]:
    notes = [f"{mark} {note}" for note, mark in marks.items()]
    if any(result.best_epoch is not None for result in results):
        notes.append(BEST_EPOCH_NOTE)
    if any(len(result.names) > 1 for result in results):
        notes.append(SEEDS_NOTE)
    if bounded:
        notes.append(BOOTSTRAP_NOTE)
    notes += dict.fromkeys(result.undefined for result in results if result.undefined)
    notes += dict.fromkeys(result.rules for result in results)
    return (*notes, *differences(results))


FEW_LABELS = 20  # that a short table shows all
ENDS = 5  # labels at each end of a short table


def scored_tables(
    metrics: Metrics,
    *,
    title: str,
    top3: bool = False,
    all_labels: bool = True,
    training: Mapping[str, int] | None = None,
) -> list[Table]:
    """Return a table of the metrics of one model, and a table of its labels.

    Between them is a table of the mAP by label frequency if `metrics.by_frequency` has a group other than "head".
    Footnotes name the scoring conventions. Metrics for the K highest-scoring labels are added if `metrics.top` contains
    them.

    Args:
        metrics: Metrics of one model on one split.
        title: Title of the first table.
        top3: Whether to add the metrics for the three highest-scoring labels of each sample.
        all_labels: Whether to show every label. If not set and more than 20 labels have an AP, only the five labels
            with the lowest AP and the five labels with the highest AP are shown. Labels with fewer than 30 positives
            are then left out if at least ten other labels have an AP.
        training: Number of positive samples of each label in the training split; None if the split is unknown.
    """
    cells, columns = [getattr(metrics, name) for name in METRICS], list(SCORES[: len(METRICS)])
    if top3 and 3 not in metrics.top:
        cells += [getattr(metrics.top3, name) for name in TOP3]
        columns += SCORES[len(METRICS) :]
    for k, top in metrics.top.items():
        cells += [getattr(top, name) for name in (*TOP3, "F1")]
        columns += [Column(f"{key}_{k}", key, "percent", block=f"Top-{k}") for key in TOP3]
        columns.append(Column(f"F1_{k}", f"F1@{k}", "percent", block=f"Top-{k}"))
    if _nothing_known(metrics.counts):
        cells = [None] * len(cells)
    marks = _precision_marks(metrics.counts, columns)
    notes = (
        _counts(metrics.counts),
        *(f"{WITHOUT_NEGATIVE} {note}" for note in without_negative_notes(metrics.counts)),
        *(f"F1@{k}: the {k} highest labels whatever their scores, all labels together" for k in metrics.top),
    )
    tables = [
        Table(title, tuple(columns), (Row(tuple(cells), marks=marks),), notes, name="metrics"),
        _label_table(metrics, training, all_labels=all_labels),
    ]
    if metrics.by_frequency.keys() - {"head"}:
        tables.insert(1, _frequency_table(metrics))
    return tables


def _frequency_table(metrics: Metrics) -> Table:
    """Return a table with one row for each group of labels with similar training frequency."""
    columns = (Column("frequency", "Labels"), Column("labels", "number", "count"), Column("mAP", "mAP", "percent"))
    rows = tuple(Row((name, group.labels, group.mAP)) for name, group in metrics.by_frequency.items())
    return Table("By frequency in training", columns, rows, (GROUPS_NOTE,), name="frequency")


def frequency_cells(label: str, training: Mapping[str, int] | None) -> tuple[Cell, Cell]:
    """Return the cells for `FREQUENCY_COLUMNS`, which are empty if the training split is unknown."""
    if training is None:
        return (None, None)
    return (training[label], frequency_group(training[label]))


def _label_table(metrics: Metrics, training: Mapping[str, int] | None, *, all_labels: bool) -> Table:
    """Return a table with one row per label; labels with few positive samples are at the end.

    If there are many labels and `all_labels` is not set, the table contains only the lowest and highest AP values.
    """
    columns = (Column("label", "Label"), Column("AP", "AP", "percent"), *LABEL_RATES, SUPPORT, *FREQUENCY_COLUMNS)
    title, notes = "By label", _notes(metrics)
    if training is not None and not metrics.by_frequency.keys() - {"head"}:
        notes = (*notes, GROUPS_NOTE)  # otherwise it is below the table of the groups
    rows = with_few_last([_row_of_label(metrics, label, training) for label in metrics.average_precision])
    known = [row for row in rows if row.cells[1] is not None]
    if not all_labels and len(known) > FEW_LABELS:
        rows, shown = _ends(known)
        title = f"By label: {ENDS} lowest and {ENDS} highest AP of {shown}"
        notes = (f"use --full to show all {len(metrics.average_precision)} labels", *notes)
    return Table(title, columns, rows, notes, name="labels").without_empty_columns(["label", "AP"])


def _row_of_label(metrics: Metrics, label: str, training: Mapping[str, int] | None) -> Row:
    precision, rates = metrics.average_precision[label], metrics.per_label.get(label)
    if rates is None:  # a file of an earlier version
        return Row((label, precision, None, None, None, None, *frequency_cells(label, training)))
    marks = {}
    if rates.support and not rates.negatives:
        marks = {2: WITHOUT_NEGATIVE, 4: WITHOUT_NEGATIVE}
    cells = (
        label,
        precision,
        rates.precision,
        rates.recall,
        rates.F1,
        rates.support,
        *frequency_cells(label, training),
    )
    return Row(cells, support_group(rates.support), marks=marks)


def _ends(known: Sequence[Row]) -> tuple[tuple[Row, ...], str]:
    """Return the rows with the lowest and the highest AP, and a text that describes all compared labels.

    Labels with few positive samples are included only if most labels have few of them.
    """
    enough = [row for row in known if row.group != FEW_HEADING]
    shown = f"{len(enough)} labels"
    if len(enough) < len(known):
        shown = f"the {len(enough)} labels with at least {FEW_POSITIVES} positives"
    if len(enough) < 2 * ENDS:
        enough, shown = list(known), f"{len(known)} labels, many of them with fewer than {FEW_POSITIVES} positives"
    ordered = sorted(enough, key=lambda row: float(row.cells[1] or 0.0))
    lowest = [replace(row, group="lowest") for row in ordered[:ENDS]]
    return (*lowest, *(replace(row, group="highest") for row in ordered[-ENDS:])), shown


def support_group(positives: int | None) -> str:
    """Return the heading for a label with too few positives for reliable metrics, or "" for other labels."""
    if positives is None or positives >= FEW_POSITIVES:
        return ""
    return FEW_HEADING


def with_few_last(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows in the same order, but with labels that have few positive samples at the end."""
    return tuple(sorted(rows, key=lambda row: row.group == FEW_HEADING))


def _precision_marks(counts: Mapping[str, int], columns: Sequence[Column]) -> dict[int, str]:
    """Return footnote marks for precision values that include labels without known negatives."""
    if not counts.get("without_negative"):
        return {}
    return {k: WITHOUT_NEGATIVE for k, column in enumerate(columns) if column.key.partition("_")[0] in _PRECISIONS}


def _nothing_known(counts: dict[str, int]) -> bool:
    return counts["unknown"] == counts["samples"] * counts["labels"]


def _notes(metrics: Metrics) -> tuple[str, ...]:
    if _nothing_known(metrics.counts):
        return ("all labels of all samples are unknown, so there is nothing to score",)
    notes = [metrics.conventions.in_words(), "in percent"]
    if metrics.undefined:
        notes.insert(0, undefined_note(metrics.undefined, metrics.counts["labels"]))
    return tuple(notes)


def _counts(counts: dict[str, int]) -> str:
    size = f"{counted(counts['samples'], 'sample')} x {counted(counts['labels'], 'label')}"
    text = f"{size}: {counts['positives']:,} positive"
    if counts["unknown"]:
        text += f", {counts['unknown']:,} unknown"
    return text
