"""Tables 2-8 of the paper, with the user's runs added to the published rows.

This module selects the rows and cells of Tables 2 to 8. With `--layout paper`, the columns are those of
`mlrec.reports.paper.layout`. `mlrec.reports.render.latex` converts any table to LaTeX, for example Table 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from mlrec.metrics.conventions import conventions_named
from mlrec.reports.paper.paper_rows import PaperRow, row_of_published, row_of_result
from mlrec.reports.paper.published import DATASETS, PublishedRow, paper_rows
from mlrec.reports.render.table import BEST_EPOCH, BEST_EPOCH_NOTE, INFERRED, INFERRED_NOTE, Cell, Column, Row, Table
from mlrec.reports.results import METRICS, TOP3, Result, heads_of
from mlrec.reports.runs_table import (
    BOOTSTRAP_NOTE,
    BOUNDS,
    SCORES,
    SEEDS_NOTE,
    Intervals,
    bounds_of,
    note_marks,
    seeds_cell,
)
from mlrec.reports.settings import differing_settings, settings_text, without_head
from mlrec.run_folders.record import RunRecord

ALL_SCORES = (*METRICS, *(f"{key}_3" for key in TOP3))


@dataclass(frozen=True)
class PaperTable:
    """Definition of one of the paper's tables: caption, dataset, metrics and conventions.

    Attributes:
        title: Title of the table.
        caption: Caption of the LaTeX table, as plain text.
        label: LaTeX label of the table.
        dataset: Key of the dataset in `DATASETS`.
        resolution: Resolution of the rows in pixels.
        conventions: Scoring conventions for the user's runs.
        scores: Metrics in the table.
        heads: Names of the heads whose runs belong in the table; empty if runs with any head belong in the table.
        against: Baseline for the differences: average pooling, one head, or the normalized classifier.
        ablation: Whether runs on any dataset are added to the table, in separate groups.
        note: Footnote of the table.
    """

    title: str
    caption: str
    label: str
    dataset: str
    resolution: int
    conventions: str = "csra"
    scores: tuple[str, ...] = ("mAP",)
    heads: tuple[str, ...] = ()
    against: Literal["average", "H = 1", "normalized"] = "average"
    ablation: bool = False
    note: str = ""


SERVER = (
    "VOC2012 test is scored only by its evaluation server; add the server's results with --extra-rows rows.csv. The "
    "server computes AP with the VOC2010 envelope, so AP computed by mlrec does not belong in this table"
)
TABLES = {
    2: PaperTable(
        "Table 2: VOC2007",
        "mAP (%) on VOC2007 test. Extra data: weights trained on MS-COCO. SSGRL+ has a larger input.",
        "voc2007",
        "voc2007",
        448,
    ),
    3: PaperTable(
        "Table 3: VOC2012",
        "mAP (%) on VOC2012 test, as computed by its evaluation server. Extra data: weights trained on MS-COCO. SSGRL+ "
        "has a larger input.",
        "voc2012",
        "voc2012",
        448,
        note=SERVER,
    ),
    4: PaperTable(
        "Table 4: MS-COCO",
        "Metrics (%) on MS-COCO 2014 val, for all labels with a probability of at least 0.5, and for the three most "
        "probable of these labels. * trained with RandAugment.",
        "coco",
        "coco2014",
        448,
        scores=ALL_SCORES,
    ),
    5: PaperTable(
        "Table 5: WIDER-Attribute",
        "Metrics (%) on WIDER-Attribute test.",
        "wider",
        "wider",
        224,
        "csra-wider",
        ("mAP", "CF1", "OF1"),
    ),
    6: PaperTable(
        "Table 6: average and spatial pooling",
        "mAP (%) on MS-COCO with average pooling, with spatial attention, and with both.",
        "pooling",
        "coco2014",
        448,
        heads=("average", "spatial", "csra"),
        ablation=True,
    ),
    7: PaperTable(
        "Table 7: number of heads",
        "mAP (%) on MS-COCO by the number of heads H.",
        "heads",
        "coco2014",
        448,
        heads=("csra",),
        against="H = 1",
        ablation=True,
    ),
    8: PaperTable(
        "Table 8: normalized classifier",
        "mAP (%) on MS-COCO with and without normalization of the classifier, by the number of heads H.",
        "normalization",
        "coco2014",
        448,
        heads=("csra",),
        against="normalized",
        ablation=True,
    ),
}
HEAD_LR = "head_lr_mult"
HEAD_LR_NOTE = (
    "Δ of own runs includes the effect of the head learning rate: as in the paper, the head learning rate is ten "
    "times as high for CSRA as for the baseline"
)
SETTINGS_NOTE = (
    "Settings: all differences from the paper recipe; in a group without published rows, the differences between the "
    "runs in the group. Own runs are in a group with published rows only if they follow the paper recipe or an "
    "equivalent recipe"
)
AGAINST = {
    "average": "Δ: mAP minus that of average pooling (or CSRA with λ = 0) with the same backbone and settings",
    "H = 1": "Δ: mAP minus that of one head with the same backbone and settings",
    "normalized": "Δ: mAP minus that of the normalized classifier with the same number of heads and settings",
}


def belongs(record: RunRecord, number: int, *, named: bool) -> bool:
    """Return whether a run belongs to a table.

    A run belongs to a table if its head matches. The dataset must also match, unless the user listed the run or the
    table is an ablation (Tables 6 to 8). No run belongs to Table 3. CSRA runs belong to Table 6 only with one head.

    Args:
        record: Record of the run.
        number: Number of the table.
        named: Whether the user listed the run explicitly.
    """
    table, head = TABLES[number], record.config.get("head")
    if number == 3 or (table.heads and head not in table.heads):
        return False
    if number == 6 and head == "csra" and heads_of(record.config) != 1:  # Table 6 compares one head
        return False
    own = record.scored is not None and record.scored.kind == DATASETS[table.dataset].kind
    return named or table.ablation or own


def paper_table(
    number: int, results: Sequence[Result], given: Sequence[PublishedRow] = (), *, intervals: Intervals | None = None
) -> Table:
    """Return a table of the paper, with the user's runs added.

    Args:
        number: Number of the table, 2 to 8.
        results: Results of the user's runs, scored under the conventions of the table (`TABLES[number].conventions`).
        given: Rows supplied by the user, such as results from an evaluation server.
        intervals: Bounds of the 95% confidence intervals; see `runs_table`.
    """
    definition = TABLES[number]
    rows = _by_group(table_rows(number, results, given))
    columns = _columns(definition)
    marks = note_marks(note for row in rows for note in row.notes)
    baselines = [_baseline(row, rows, definition) for row in rows]
    cells = [
        Row(
            _cells(columns, row, baseline.row, intervals or {}),
            row.group,
            marks=_marks(columns, row, marks),
            cite=row.cite,
        )
        for row, baseline in zip(rows, baselines, strict=True)
    ]
    notes = [f"{mark} {note}" for note, mark in marks.items()]
    notes += _difference_notes(definition, baselines)
    notes += _row_notes(definition, rows)
    if intervals:
        notes.append(BOOTSTRAP_NOTE)
    table = Table(
        definition.title, columns, tuple(cells), tuple(notes), caption=definition.caption, label=definition.label
    )
    keep = ("method", "source", "resolution", "heads", "lam", *definition.scores)
    return table.without_empty_columns(keep).with_best()


def table_rows(number: int, results: Sequence[Result], given: Sequence[PublishedRow] = ()) -> list[PaperRow]:
    """Return the published rows, then rows from a file of the user, then the user's runs.

    Args:
        number: Number of the table, 2 to 8.
        results: Results of the user's runs.
        given: Rows supplied by the user.
    """
    table = TABLES[number]
    rows = [row_of_published(row, "paper", table.dataset, table.resolution) for row in paper_rows(number)]
    rows += [row_of_published(row, "given", table.dataset, table.resolution) for row in given]
    rows += [row_of_result(result, table.dataset, table.resolution) for result in results]
    return [_with_settings(row, rows) for row in rows]


def _by_group(rows: Sequence[PaperRow]) -> list[PaperRow]:
    """Return the rows sorted by group; groups are in the order in which they first appear."""
    order = list(dict.fromkeys(row.group for row in rows))
    return sorted(rows, key=lambda row: order.index(row.group))


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
    """Baseline for one row of a table.

    Attributes:
        row: Row that is used as the baseline; None if there is none.
        refused: Reason why no baseline is used although a row matches; otherwise "".
        other_head_lr: Whether the head of the baseline has a different learning rate, as in the paper recipe.
    """

    row: PaperRow | None = None
    refused: str = ""
    other_head_lr: bool = False


def _baseline(row: PaperRow, rows: Sequence[PaperRow], table: PaperTable) -> Baseline:
    """Return the best row of the same group and source whose only difference from `row` is the method."""
    differences = [(other, _differing(row, other)) for other in rows if _may_be_baseline(other, row, table)]
    if not differences:
        return Baseline()
    same_settings = [other for other, keys in differences if not keys]
    if same_settings:
        best = max(same_settings, key=lambda other: other.mAP or 0.0)
        return Baseline(best, other_head_lr=best.facts.get(HEAD_LR) != row.facts.get(HEAD_LR))
    # A difference in several settings would not be the effect of the method: name them instead.
    closest, keys = min(differences, key=lambda pair: len(pair[1]))
    return Baseline(
        refused=f"no Δ for {row.run}: the closest run {closest.run} differs in more than the method ({', '.join(keys)})"
    )


def _may_be_baseline(other: PaperRow, row: PaperRow, table: PaperTable) -> bool:
    """Return whether the method of `other` is the baseline method for `row`; settings are ignored."""
    if other is row or other.mAP is None:
        return False
    if (other.group, other.source) != (row.group, row.source):
        return False
    if row.baseline_of:
        return other.method == row.baseline_of
    return other.backbone == row.backbone and _is_baseline(other, row, table)


def _differing(row: PaperRow, other: PaperRow) -> list[str]:
    """Return the settings, other than the method, in which two rows differ.

    The result is empty for published rows, because their settings are unknown.
    """
    if row.source != "own":
        return []
    return differing_settings(row.facts, other.facts, row.kind)


def _with_settings(row: PaperRow, rows: Sequence[PaperRow]) -> PaperRow:
    """Return a row of the user's runs with the text of its settings added.

    In a group without published rows, only the settings in which the rows of the group differ are listed.
    """
    group = [other for other in rows if other.group == row.group]
    if row.source != "own" or row.settings or any(other.source != "own" for other in group):
        return row
    return replace(row, settings=settings_text(without_head(row.facts), [without_head(o.facts) for o in group]))


def _is_baseline(other: PaperRow, row: PaperRow, table: PaperTable) -> bool:
    if table.against == "average":
        pooled = other.head == "average" and row.head != "average"
        return pooled or (_is_unattended(other) and row.head != "average" and not _is_unattended(row))
    if table.against == "H = 1":
        return other.heads == 1 and not other.variation and (row.heads != 1 or row.variation != "")
    return other.normalize and not row.normalize and (other.heads, other.variation) == (row.heads, row.variation)


def _is_unattended(row: PaperRow) -> bool:
    """Return whether a row is CSRA with λ = 0, which is average pooling with a normalized classifier."""
    return row.head == "csra" and row.lam == 0


def _cells(
    columns: Sequence[Column], row: PaperRow, baseline: PaperRow | None, intervals: Intervals
) -> tuple[Cell, ...]:
    difference = None
    if baseline is not None and row.mAP is not None:
        difference = row.mAP - (baseline.mAP or 0.0)
    values: dict[str, Cell] = {
        "method": row.method,
        "source": row.source,
        "resolution": row.resolution,
        "heads": row.heads,
        "lam": row.lam,
        "extra_data": row.extra or None,
        "augmentation": row.augmentation or None,
        "settings": row.settings or None,
        "difference": difference,
        "sd": row.spread,
        "seeds": seeds_cell(row.paths),
        "best_epoch": row.best_epoch,
        "run": row.run or None,
    }
    values |= bounds_of(intervals.get(row.paths, {})) | dict(row.scores)
    return tuple(values.get(column.key) for column in columns)


def _marks(columns: Sequence[Column], row: PaperRow, notes: dict[str, str]) -> dict[int, str]:
    position = {column.key: k for k, column in enumerate(columns)}
    marks = {position[key]: INFERRED for key in sorted(row.inferred) if key in position}
    if row.notes:
        marks[position["method"]] = ",".join(notes[note] for note in row.notes)
    if row.best_epoch is not None:
        marks[position["best_epoch"]] = BEST_EPOCH
    return marks


def _difference_notes(table: PaperTable, baselines: Sequence[Baseline]) -> list[str]:
    """Return the footnote of the table, and footnotes that explain the differences Δ."""
    notes = []
    if table.note:
        notes.append(table.note)
    notes.append(AGAINST[table.against])
    if any(baseline.other_head_lr for baseline in baselines):
        notes.append(HEAD_LR_NOTE)
    notes += [baseline.refused for baseline in baselines if baseline.refused]
    return notes


def layout_notes(table: PaperTable, rows: Sequence[PaperRow]) -> list[str]:
    """Return the footnotes of a table in the paper's layout.

    Args:
        table: Definition of the table.
        rows: Rows of the table.
    """
    notes = []
    if table.note:
        notes.append(table.note)
    if any(row.source == "own" for row in rows):
        notes.append(_scored_note(table))
    return notes


def _scored_note(table: PaperTable) -> str:
    return "own: scored from stored predictions; " + conventions_named(table.conventions).in_words()


def _row_notes(table: PaperTable, rows: Sequence[PaperRow]) -> list[str]:
    """Return the footnotes that explain marks and columns of the rows."""
    own = [row for row in rows if row.source == "own"]
    notes = []
    if any(row.inferred & {"resolution", "lam"} for row in rows):
        notes.append(INFERRED_NOTE)
    if any(row.best_epoch is not None for row in rows):
        notes.append(BEST_EPOCH_NOTE)
    if own:
        notes.append(_scored_note(table))
    if any(len(row.paths) > 1 for row in rows):
        notes.append(SEEDS_NOTE)
    if any(row.settings for row in own):
        notes.append(SETTINGS_NOTE)
    return notes
