"""All finished runs as one table in the paper's form, with what cannot be compared set apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlrec.metrics.evaluate import Metrics
from mlrec.reports.paper.method_names import HEAD_ORDER
from mlrec.reports.render.table import BEST_EPOCH, BEST_EPOCH_NOTE, Cell, Column, Row, Table
from mlrec.reports.results import METRICS, TOP3, Result
from mlrec.reports.settings import shown_beside
from mlrec.reports.undefined import WITHOUT_NEGATIVE, precision_marks, undefined_note, without_negative_notes
from mlrec.utils.errors import counted

BOOTSTRAP_NOTE = (
    "95 %: bias-corrected bootstrap over images, and over seeds where n is given: of one run it says nothing about "
    "other seeds; AP of few images is biased upwards"
)
Intervals = Mapping[tuple[Path, ...], Mapping[str, tuple[float, float] | None]]
BOUNDED = ("mAP", "CF1", "OF1")
SCORES = (
    Column("mAP", "mAP", "percent", ranked=True, essential=True),
    *(Column(key, key, "percent", block="All", ranked=True, essential=key in ("CF1", "OF1")) for key in METRICS[1:]),
    *(Column(f"{key}_3", key, "percent", block="Top-3", ranked=True) for key in TOP3),
)
BOUNDS = tuple(
    Column(f"{key}_{end}", end, "percent", block=f"95 % {key}", absent="") for key in BOUNDED for end in ("low", "high")
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
    """One row a result, grouped by what makes numbers comparable, the best of each group marked.

    `intervals` holds, by `Result.paths`, the 95 % interval of mAP, CF1 and OF1.
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
    """What the numbers of a group were measured on, as far as to tell its groups apart."""
    facts = [
        f"{result.dataset} {result.split}".strip(),
        f"{counted(result.samples, 'sample')}",
        f"{counted(len(result.labels), 'label')}",
        f"conventions {result.conventions}",
    ]
    if result.resolution is not None:
        facts.append(f"{result.resolution} px")
    if result.extra:
        facts.append(f"extra data {result.extra}")
    twins = {r.digest for r in among if (r.dataset, r.split) == (result.dataset, result.split)}
    if len(twins) > 1 and result.digest:
        facts.append(f"annotations {result.digest[:8]}")
    return " · ".join(facts)


def differences(results: Sequence[Result]) -> list[str]:
    """For each dataset and split in more than one group, one sentence: what its groups differ in."""
    told = []
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
            told.append(
                f"{dataset} {split}: blocks differ in {', '.join(differ)} and must not be compared with each other"
            )
    return told


def _order(result: Result) -> tuple[object, ...]:
    head = HEAD_ORDER.index(result.head) if result.head in HEAD_ORDER else len(HEAD_ORDER)
    return (result.backbone, head, result.heads or 0, result.lam or 0.0, result.names)


def _settings(result: Result, among: Sequence[Result]) -> str | None:
    """The settings in which results of the same block differ from each other, with their values here."""
    return shown_beside(result.settings, [r.settings for r in among if r.block == result.block]) or None


def _cells(
    result: Result, settings: str | None, interval: Mapping[str, tuple[float, float] | None]
) -> tuple[Cell, ...]:
    several = len(result.names) > 1
    known: dict[str, Cell] = {
        "method": result.method,
        "backbone": result.timm_name,
        "resolution": result.resolution,
        "heads": result.heads,
        "lam": result.lam,
        "extra_data": result.extra or None,
        "sd": result.spread,
        "seeds": len(result.names) if several else None,
        "best_epoch": result.best_epoch,
        "settings": settings,
        "run": result.run,
    }
    known |= bounds_of(interval) | dict(result.values)
    return tuple(known[column.key] for column in COLUMNS)


def bounds_of(interval: Mapping[str, tuple[float, float] | None]) -> dict[str, Cell]:
    """Cells of the columns `BOUNDS`."""
    cells: dict[str, Cell] = {}
    for key in BOUNDED:
        cells[f"{key}_low"], cells[f"{key}_high"] = interval.get(key) or (None, None)
    return cells


def note_marks(notes: Iterable[str]) -> dict[str, str]:
    """A letter for each different note, in their order."""
    return {note: chr(ord("a") + k) if k < 26 else str(k) for k, note in enumerate(dict.fromkeys(notes))}


def _marks(result: Result, notes: Mapping[str, str]) -> dict[int, str]:
    marks = {0: ",".join(notes[note] for note in result.notes)} if result.notes else {}
    if result.best_epoch is not None:
        marks[[column.key for column in COLUMNS].index("best_epoch")] = BEST_EPOCH
    return marks


def _footnotes(results: Sequence[Result], marks: Mapping[str, str], bounded: bool) -> tuple[str, ...]:
    notes = [f"{mark} {note}" for note, mark in marks.items()]
    if any(result.best_epoch is not None for result in results):
        notes.append(BEST_EPOCH_NOTE)
    if any(len(result.names) > 1 for result in results):
        notes.append("n: runs equal but for the seed; metrics are their means, sd the standard deviation of mAP")
    if bounded:
        notes.append(BOOTSTRAP_NOTE)
    notes += dict.fromkeys(result.undefined for result in results if result.undefined)
    notes += dict.fromkeys(result.rules for result in results)
    return (*notes, *differences(results))


def scored_tables(metrics: Metrics, *, title: str, top3: bool = False) -> list[Table]:
    """The metrics on one line, and AP label by label; how they were scored stands below, in words."""
    cells = [getattr(metrics, name) for name in METRICS]
    if top3:
        cells += [getattr(metrics.top3, name) for name in TOP3]
    if _nothing_known(metrics.counts):
        cells = [None] * len(cells)
    rows = tuple(Row((label, value)) for label, value in metrics.average_precision.items())
    columns = SCORES[: len(cells)]
    marks = precision_marks(metrics.counts, columns)
    notes = (
        _counts(metrics.counts),
        *(f"{WITHOUT_NEGATIVE} {note}" for note in without_negative_notes(metrics.counts)),
    )
    return [
        Table(title, columns, (Row(tuple(cells), marks=marks),), notes),
        Table("AP by label", (Column("label", "Label"), Column("AP", "AP", "percent")), rows, _notes(metrics)),
    ]


def _nothing_known(counts: dict[str, int]) -> bool:
    return counts["unknown"] == counts["samples"] * counts["labels"]


def _notes(metrics: Metrics) -> tuple[str, ...]:
    if _nothing_known(metrics.counts):
        return ("no label of any sample is known, so there is nothing to score",)
    missing = [undefined_note(metrics.undefined, metrics.counts["labels"])] if metrics.undefined else []
    return (*missing, metrics.conventions.in_words(), "in percent")


def _counts(counts: dict[str, int]) -> str:
    unknown = f", {counts['unknown']:,} unknown" if counts["unknown"] else ""
    return (
        f"{counted(counts['samples'], 'sample')} x {counted(counts['labels'], 'label')}: "
        f"{counts['positives']:,} positive{unknown}"
    )
