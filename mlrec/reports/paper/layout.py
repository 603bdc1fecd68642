"""Tables with the columns of the paper, and the user's runs in blocks below the published rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from mlrec.reports.paper.method_names import CUTMIX
from mlrec.reports.paper.paper_rows import PaperRow
from mlrec.reports.paper.published import DATASETS, PublishedRow
from mlrec.reports.paper.table1 import table1_group
from mlrec.reports.paper.tables import TABLES, layout_notes, table_rows
from mlrec.reports.render.table import Cell, Column, Row, Table, percent
from mlrec.reports.results import Result
from mlrec.reports.runs_table import SCORES, note_marks

HEADS = (1, 2, 4, 6, 8)  # of Table 7
CHECK = "✓"
NAMES = ("dataset", "resolution", "method", "average", "spatial", "temperature", "lam", "normalized")
BLOCKS = {"own": "Own runs", "given": "Added rows"}
METHOD = Column("method", "Method", identity=True)
MODEL = Column("method", "Model", identity=True)
LAM = Column("lam", "λ", "number", absent="")


@dataclass(frozen=True)
class PaperLine:
    """Table row in the paper's layout.

    Attributes:
        block: Heading of the block of rows to which the row belongs.
        cells: Dict from column key to cell. The cells of the columns in `NAMES` identify the row.
        cite: Citation key of the published system.
        notes: Notes on the row.
    """

    block: str
    cells: Mapping[str, Cell]
    cite: str = ""
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> dict[str, Cell]:
        """Cells that identify the row."""
        return {key: cell for key, cell in self.cells.items() if key in NAMES}


def paper_layout(number: int, results: Sequence[Result], given: Sequence[PublishedRow] = ()) -> Table:
    """Return one of Tables 2 to 8 in the paper's layout, with the user's runs in separate blocks.

    Args:
        number: Number of the table, 2 to 8.
        results: Results of the user's runs, scored under the conventions of the table.
        given: Rows supplied by the user, such as results from an evaluation server.
    """
    definition = TABLES[number]
    rows = table_rows(number, results, given)
    lines = _joined(_line(number, row) for row in rows)
    columns = _columns(number, lines)
    marks = note_marks(note for line in lines for note in line.notes)
    cells = []
    for line in lines:
        mark = {}
        if line.notes:
            mark[0] = ",".join(marks[note] for note in line.notes)
        values = tuple(line.cells.get(column.key) for column in columns)
        cells.append(Row(values, line.block, marks=mark, cite=line.cite))
    notes = [f"{mark} {note}" for note, mark in marks.items()] + layout_notes(definition, rows)
    table = Table(
        definition.title, columns, tuple(cells), tuple(notes), caption=definition.caption, label=definition.label
    )
    return table.without_empty_columns([column.key for column in columns if column.key != "lam"]).with_best()


def table1_layout(table: Table) -> Table:
    """Return Table 1 in the paper's layout, with the best number of each row in bold.

    Args:
        table: Table 1, as returned by `table_1`.
    """
    old = {column.key: k for k, column in enumerate(table.columns)}
    keys = [key for key in old if key not in ("source", "seeds", "fixed_low", "fixed_high", "run")]
    keys = ["resolution", *(key for key in keys if key != "resolution")]
    columns = (Column("dataset", "Dataset", absent=""), *(table.columns[old[key]] for key in keys))
    datasets = {table1_group(key): full.name for key, full in DATASETS.items()} | {table1_group("imagenet"): "ImageNet"}
    rows: list[Row] = []
    above: tuple[str, Cell] = ("", None)
    for row in sorted(table.rows, key=lambda row: row.cells[old["source"]] == "own"):
        dataset: Cell = datasets.get(row.group)
        group = _block(row, str(row.cells[old["source"]]), comparable=dataset is not None)
        shown = dataset
        if (group, dataset) == above:  # the name is printed once
            shown = None
        above = (group, dataset)
        cells = [row.cells[old[key]] for key in keys]
        marks = {keys.index(table.columns[k].key) + 1: mark for k, mark in row.marks.items()}
        best = {k + 1 for k, key in enumerate(keys) if key in _best_scores(row, old)}
        rows.append(replace(row, cells=(shown, *cells), group=group, marks=marks, best=frozenset(best)))
    return replace(table, columns=columns, rows=tuple(rows), best_of="row")


def _block(row: Row, source: str, *, comparable: bool) -> str:
    if source == "paper":
        return ""
    if comparable:
        return BLOCKS["own"]
    return f"{BLOCKS['own']} on {row.group}"


def _best_scores(row: Row, position: Mapping[str, int]) -> list[str]:
    """Return the column keys of the highest values among baseline, best λ and fixed λ."""
    scores = {key: percent(float(row.cells[position[key]] or 0)) for key in ("baseline", "best", "fixed")}
    highest = max(scores.values(), key=float)
    return [key for key, score in scores.items() if score == highest]


def _line(number: int, row: PaperRow) -> PaperLine:
    """Convert a published row, or a row of the user's runs, to the paper's layout."""
    block = row.block[:1].upper() + row.block[1:]
    if row.source != "paper":
        block = BLOCKS[row.source] + row.apart
    cells: dict[str, Cell] = {"method": _model(row), "lam": None}
    if row.heads is not None and "lam" not in row.inferred:  # the paper's own table has printed values only
        cells["lam"] = row.lam
    if number in (2, 3):
        cells = {"method": _method(row), "extra" if row.extra else "plain": row.mAP}
    elif number in (4, 5):
        cells = {"method": _method(row), **row.scores}
    elif number == 6:
        cells |= _pooling(row)
    elif number == 7:
        cells |= {f"H{row.heads}": row.mAP}
    else:
        cells |= {"normalized": "without", f"H{row.heads}": row.mAP}
        if row.normalize:
            cells["normalized"] = "with"
    return PaperLine(block, cells, row.cite, _notes(row))


def _method(row: PaperRow) -> str:
    """Return the method of a row; for the user's runs, H, λ and other settings are added."""
    facts = [row.method.replace(CUTMIX, "ResNet-cut")]
    if row.source == "own":
        facts += [f"{sign} = {value:g}" for sign, value in (("H", row.heads), ("λ", row.lam)) if value is not None]
        facts += [row.augmentation, row.extra and f"extra data {row.extra}"]
    return ", ".join(filter(None, facts))


def _model(row: PaperRow) -> str:
    """Return the name of the backbone of a row, followed by differences from the paper's head."""
    backbone = (row.backbone or row.method).replace(CUTMIX, "ResNet-cut")
    return ", ".join(filter(None, [backbone, row.variation]))


def _pooling(row: PaperRow) -> dict[str, Cell]:
    """Return the pooling methods of a row in Table 6."""
    spatial = row.head == "spatial" or (row.head == "csra" and row.lam != 0)
    return {
        "average": _check(row.head in ("average", "csra")),
        "spatial": _check(spatial),
        "temperature": row.temperature or None,
        "mAP": row.mAP,
    }


def _check(used: bool) -> str | None:
    if not used:
        return None
    return CHECK


def _notes(row: PaperRow) -> tuple[str, ...]:
    """Return the notes of a row, including values for which the paper has no column."""
    notes = list(row.notes)
    if row.settings:
        notes.append(f"settings: {row.settings}")
    if len(row.paths) > 1:
        notes.append(f"mean of {len(row.paths)} runs; the standard deviation of mAP is {percent(row.spread)}")
    return tuple(notes)


def _joined(lines: Iterable[PaperLine]) -> list[PaperLine]:
    """Merge rows that have the same names and fill different columns."""
    joined: list[PaperLine] = []
    for line in lines:
        for k, other in enumerate(joined):
            common = set(other.cells) & set(line.cells) - set(NAMES)
            if not common and (other.block, other.cite, other.names) == (line.block, line.cite, line.names):
                notes = tuple(dict.fromkeys((*other.notes, *line.notes)))
                joined[k] = replace(other, cells={**other.cells, **line.cells}, notes=notes)
                break
        else:
            joined.append(line)
    blocks = list(dict.fromkeys(line.block for line in joined))
    return sorted(joined, key=lambda line: blocks.index(line.block))


def _columns(number: int, lines: Sequence[PaperLine]) -> tuple[Column, ...]:
    if number in (2, 3):
        plain = Column("plain", "no extra data", "percent", block="mAP", ranked=True)
        return (METHOD, plain, Column("extra", "extra data", "percent", block="mAP", ranked=True))
    if number in (4, 5):
        scores = [column for column in SCORES if column.key in TABLES[number].scores]
        if number == 5:  # all its metrics are of all labels
            scores = [replace(column, block="") for column in scores]
        return (METHOD, *scores)
    if number == 6:
        pooling = [Column(key, key.capitalize(), absent="", centred=True) for key in ("average", "spatial")]
        temperature = Column("temperature", "T", centred=True)
        return (MODEL, *pooling, temperature, LAM, Column("mAP", "mAP", "percent", ranked=True))
    printed = HEADS if number == 7 else HEADS[1:3]
    used = {int(key[1:]) for line in lines for key in line.cells if key.startswith("H")}
    heads = [Column(f"H{count}", f"H = {count}", "percent") for count in sorted(used | set(printed))]
    if number == 7:
        return (MODEL, LAM, *heads)
    return (MODEL, Column("normalized", "Normalization"), LAM, *heads)
