"""The paper's Tables 2-8: own runs beside the printed rows, and set apart from them where they are not comparable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mlrec.metrics.conventions import conventions_named
from mlrec.reports.paper.paper_rows import PaperRow, row_of_published, row_of_result
from mlrec.reports.paper.published import DATASETS, PublishedRow, paper_rows
from mlrec.reports.render.table import BEST_EPOCH, BEST_EPOCH_NOTE, INFERRED, INFERRED_NOTE, Cell, Column, Row, Table
from mlrec.reports.results import METRICS, TOP3, Result, heads_of
from mlrec.reports.runs_table import BOOTSTRAP_NOTE, BOUNDS, SCORES, Intervals, bounds_of, note_marks
from mlrec.reports.settings import differing_settings, settings_text, without_head
from mlrec.runs.record import RunRecord

ALL_SCORES = (*METRICS, *(f"{key}_3" for key in TOP3))


@dataclass(frozen=True)
class PaperTable:
    """What one of the paper's tables shows.

    Attributes:
        dataset: key of `DATASETS`.
        resolution: of its rows, in pixels.
        conventions: by which own runs are scored for it.
        scores: its metrics.
        heads: heads of own runs that belong in it; empty: any.
        against: what differences are taken to: average pooling, one head, or the normalised classifier.
        ablation: own runs on any data belong in it, set apart.
        note: what a reader must know.
    """

    title: str
    dataset: str
    resolution: int
    conventions: str = "csra"
    scores: tuple[str, ...] = ("mAP",)
    heads: tuple[str, ...] = ()
    against: Literal["average", "H = 1", "normalised"] = "average"
    ablation: bool = False
    note: str = ""


SERVER = (
    "VOC2012 test is scored by its server alone: bring its results with --extra rows.csv. The server's AP is the "
    "VOC2010 envelope; an AP computed here is no entry of this table"
)
TABLES = {
    2: PaperTable("Table 2: VOC2007", "voc2007", 448),
    3: PaperTable("Table 3: VOC2012", "voc2012", 448, note=SERVER),
    4: PaperTable("Table 4: MS-COCO", "coco2014", 448, scores=ALL_SCORES),
    5: PaperTable("Table 5: WIDER-Attribute", "wider", 224, "csra-wider", ("mAP", "CF1", "OF1")),
    6: PaperTable(
        "Table 6: average and spatial pooling", "coco2014", 448, heads=("average", "spatial", "csra"), ablation=True
    ),
    7: PaperTable("Table 7: number of heads", "coco2014", 448, heads=("csra",), against="H = 1", ablation=True),
    8: PaperTable(
        "Table 8: normalised classifier", "coco2014", 448, heads=("csra",), against="normalised", ablation=True
    ),
}
HEAD_LR = "head_lr_mult"
HEAD_LR_NOTE = (
    "Δ of own runs: each head at the learning rate that the paper gives it, ten times the backbone's for CSRA"
)
SETTINGS_NOTE = (
    "Settings: every difference from recipe paper; in a block without printed rows, what its runs differ in. Own runs "
    "share a block with printed rows only without such differences, or by a recipe that is declared equivalent"
)
AGAINST = {
    "average": "Δ: mAP against average pooling, CSRA with λ = 0 included, on the same backbone, with the same settings",
    "H = 1": "Δ: mAP against one head on the same backbone, with the same settings",
    "normalised": "Δ: mAP against the normalised classifier with as many heads and the same settings",
}


def belongs(record: RunRecord, number: int, *, named: bool) -> bool:
    """Whether a run is a row of a table: the right head, and the table's dataset unless it was named by hand."""
    table, head = TABLES[number], record.config.get("head")
    if number == 3 or (table.heads and head not in table.heads):
        return False
    if number == 6 and head == "csra" and heads_of(record.config) != 1:
        return False
    own = record.scored is not None and record.scored.kind == DATASETS[table.dataset].kind
    return named or table.ablation or own


def paper_table(
    number: int, results: Sequence[Result], given: Sequence[PublishedRow] = (), *, intervals: Intervals | None = None
) -> Table:
    """Own rows beside the paper's.

    Args:
        number: 2 to 8.
        results: own runs, scored by the table's conventions (`TABLES[number].conventions`).
        given: rows a user brings, from a server say.
        intervals: see `overview`.
    """
    table = TABLES[number]
    lines = [row_of_published(row, "paper", table.dataset, table.resolution) for row in paper_rows(number)]
    lines += [row_of_published(row, "given", table.dataset, table.resolution) for row in given]
    lines += [row_of_result(result, table.dataset, table.resolution) for result in results]
    places = {group: place for place, group in enumerate(dict.fromkeys(line.group for line in lines))}
    ordered = [_with_settings(line, lines) for line in sorted(lines, key=lambda line: places[line.group])]
    columns = _columns(table)
    marks = note_marks(note for line in ordered for note in line.notes)
    baselines = {id(line): _baseline(line, ordered, table) for line in ordered}
    rows = tuple(
        Row(
            _cells(columns, line, baselines[id(line)].line, intervals or {}),
            line.group,
            marks=_marks(columns, line, marks),
        )
        for line in ordered
    )
    refused = [baselines[id(line)].refused for line in ordered]
    scaled = any(baselines[id(line)].other_head_lr for line in ordered)
    footnotes = _footnotes(table, ordered, marks, [*([HEAD_LR_NOTE] if scaled else []), *filter(None, refused)])
    drawn = Table(table.title, columns, rows, (*footnotes, *([BOOTSTRAP_NOTE] if intervals else [])))
    return drawn.without_empty_columns(("method", "source", "resolution", "heads", "lam", *table.scores)).with_best()


def _columns(table: PaperTable) -> tuple[Column, ...]:
    by_key = {column.key: column for column in SCORES}
    return (
        Column("method", "Method", identity=True),
        Column("source", "Source"),
        Column("resolution", "px", "number", absent=""),
        Column("heads", "H", "number", absent="", identity=True),
        Column("lam", "λ", "number", absent="", identity=True),
        Column("extra_data", "Extra data", absent=""),
        Column("augmentation", "Augmentation", absent=""),
        Column("settings", "Settings", absent=""),
        by_key["mAP"],
        Column("difference", "Δ", "points", absent=""),
        Column("sd", "sd", "percent", absent=""),
        Column("seeds", "n", "number", absent=""),
        Column("best_epoch", "best epoch", "percent", absent=""),
        *BOUNDS,
        *(by_key[key] for key in table.scores if key != "mAP"),
        Column("run", "Run", absent=""),
    )


@dataclass(frozen=True)
class Baseline:
    """What a line's difference is taken to.

    Attributes:
        line: The best matching line; None if there is none.
        refused: Why a line that would match is not used, "" if none was refused or another one is used.
        other_head_lr: Its head learned at another rate, as recipe paper sets it for each head.
    """

    line: PaperRow | None = None
    refused: str = ""
    other_head_lr: bool = False


def _baseline(line: PaperRow, among: Sequence[PaperRow], table: PaperTable) -> Baseline:
    """The best line of the same group and source that differs from `line` in the method alone."""
    peers = [
        other
        for other in among
        if (other.group, other.source) == (line.group, line.source) and other is not line and other.mAP is not None
    ]
    if line.baseline_of:
        matching = [other for other in peers if other.method == line.baseline_of]
    else:
        matching = [other for other in peers if other.backbone == line.backbone and _is_baseline(other, line, table)]
    differing = {id(other): _differing(line, other) for other in matching}
    alike = [other for other in matching if not differing[id(other)]]
    best = max(alike, key=lambda other: other.mAP or 0.0, default=None)
    if best is not None:
        return Baseline(best, other_head_lr=best.facts.get(HEAD_LR) != line.facts.get(HEAD_LR))
    if not matching:
        return Baseline()
    closest = min(matching, key=lambda other: len(differing[id(other)]))
    keys = ", ".join(differing[id(closest)])
    return Baseline(refused=f"no Δ for {line.run}: {closest.run} differs from it in more than the method ({keys})")


def _differing(line: PaperRow, other: PaperRow) -> list[str]:
    """Settings in which own lines differ besides the method; printed lines have none that are known."""
    if line.source != "own":
        return []
    return differing_settings(line.facts, other.facts, line.kind)


def _with_settings(line: PaperRow, among: Sequence[PaperRow]) -> PaperRow:
    """The line with its settings: differences from the paper, or from own lines in a group without printed rows."""
    group = [other for other in among if other.group == line.group]
    if line.source != "own" or line.settings or any(other.source != "own" for other in group):
        return line
    return replace(line, settings=settings_text(without_head(line.facts), [without_head(o.facts) for o in group]))


def _is_baseline(other: PaperRow, line: PaperRow, table: PaperTable) -> bool:
    if table.against == "average":
        pooled = other.head == "average" and line.head != "average"
        return pooled or (_is_unattended(other) and line.head != "average" and not _is_unattended(line))
    if table.against == "H = 1":
        return other.heads == 1 and not other.variation and (line.heads != 1 or line.variation != "")
    return other.normalize and not line.normalize and (other.heads, other.variation) == (line.heads, line.variation)


def _is_unattended(line: PaperRow) -> bool:
    """CSRA with λ = 0: average pooling with CSRA's normalised classifier."""
    return line.head == "csra" and line.lam == 0


def _cells(
    columns: Sequence[Column], line: PaperRow, baseline: PaperRow | None, intervals: Intervals
) -> tuple[Cell, ...]:
    known: dict[str, Cell] = {
        "method": line.method,
        "source": line.source,
        "resolution": line.resolution,
        "heads": line.heads,
        "lam": line.lam,
        "extra_data": line.extra or None,
        "augmentation": line.augmentation or None,
        "settings": line.settings or None,
        "difference": None if baseline is None or line.mAP is None else line.mAP - (baseline.mAP or 0.0),
        "sd": line.spread,
        "seeds": len(line.paths) if len(line.paths) > 1 else None,
        "best_epoch": line.best_epoch,
        "run": line.run or None,
    }
    known |= bounds_of(intervals.get(line.paths, {})) | dict(line.scores)
    return tuple(known.get(column.key) for column in columns)


def _marks(columns: Sequence[Column], line: PaperRow, notes: dict[str, str]) -> dict[int, str]:
    place = {column.key: k for k, column in enumerate(columns)}
    marks = {place[key]: INFERRED for key in sorted(line.inferred) if key in place}
    if line.notes:
        marks[place["method"]] = ",".join(notes[note] for note in line.notes)
    if line.best_epoch is not None:
        marks[place["best_epoch"]] = BEST_EPOCH
    return marks


def _footnotes(
    table: PaperTable, lines: Sequence[PaperRow], notes: dict[str, str], differences: Sequence[str]
) -> tuple[str, ...]:
    """Footnotes; `differences` are those about Δ."""
    told = [f"{mark} {note}" for note, mark in notes.items()]
    if table.note:
        told.append(table.note)
    told += [AGAINST[table.against], *differences]
    if any(line.inferred & {"resolution", "lam"} for line in lines):
        told.append(INFERRED_NOTE)
    if any(line.best_epoch is not None for line in lines):
        told.append(BEST_EPOCH_NOTE)
    if any(line.source == "own" for line in lines):
        told.append("own: scored from stored predictions; " + conventions_named(table.conventions).in_words())
    if any(len(line.paths) > 1 for line in lines):
        told.append("n: runs equal but for the seed; metrics are their means, sd the standard deviation of mAP")
    if any(line.source == "own" and line.settings for line in lines):
        told.append(SETTINGS_NOTE)
    return tuple(told)
