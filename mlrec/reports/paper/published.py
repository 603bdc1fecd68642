"""Published results: Tables 1-8 of the paper, results from other papers, and rows added by the user."""

from __future__ import annotations

import csv
import importlib.resources
import io
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlrec.reports.render.table import Column, Row, Table
from mlrec.reports.results import METRICS, TOP3
from mlrec.utils.errors import UsageError
from mlrec.utils.files import read_text

SCORES = (*METRICS, *(f"{key}_3" for key in TOP3), "top1")
TEXTS = (
    *("method", "baseline_of", "dataset", "block", "backbone", "head", "temperature"),
    *("extra_data", "augmentation", "convention", "note"),
)


def shipped(name: str) -> str:
    """Return the content of a text file in `mlrec/reports/data`."""
    return importlib.resources.files("mlrec.reports").joinpath("data", name).read_text("utf-8")


@dataclass(frozen=True)
class PaperDataset:
    """Dataset as used in the paper; runs on other data are not comparable with published rows.

    Attributes:
        name: Name of the dataset in the paper.
        kind: Kind of the dataset in mlrec.
        split, samples: Name and number of samples of the test split.
        labels: Number of labels.
        train_split, train_samples: Name and number of samples of the training split.
    """

    name: str
    kind: str
    split: str
    samples: int
    labels: int
    train_split: str = ""
    train_samples: int = 0


def paper_settings() -> dict[str, Any]:
    """Return the dataset sizes, training settings, peaks of Figure 5 and timings that the paper reports."""
    return tomllib.loads(shipped("paper_settings.toml"))


DATASETS = {
    key: PaperDataset(
        full["name"],
        full["kind"],
        full["test"]["split"],
        full["test"]["samples"],
        full["labels"],
        full["train"]["split"],
        full["train"]["samples"],
    )
    for key, full in paper_settings()["datasets"].items()
}


@dataclass(frozen=True)
class PublishedRow:
    """Row of a published table, with the metrics as fractions.

    Attributes:
        scores: Dict from column key to metric, as a fraction; None if the source does not state it.
        temperature: Temperature of the attention, as printed in the paper.
        larger_input: Whether the input size is larger than in the other rows of the table.
        inferred: Columns with values that were inferred, because the source does not state them.
    """

    method: str
    dataset: str
    scores: dict[str, float | None]
    block: str = ""
    backbone: str = ""
    resolution: int | None = None
    extra_data: str = ""
    augmentation: str = ""
    head: str = ""
    heads: int | None = None
    temperature: str = ""
    lam: float | None = None
    baseline_of: str = ""
    convention: str = ""
    note: str = ""
    larger_input: bool = False
    inferred: frozenset[str] = frozenset()


def paper_rows(table: int) -> list[PublishedRow]:
    """Return the rows of a table in the paper, in the published order.

    Args:
        table: Number of the table, 1 to 8.
    """
    rows = _csv(shipped("paper_results.csv"))
    return [_published(row, f"table {table}") for row in rows if row["table"] == str(table)]


def literature(dataset: str) -> Table:
    """Return a table of results that were copied from other papers and not reproduced.

    Args:
        dataset: Kind of dataset, such as "coco2014".

    Raises:
        UsageError: There are no results on this dataset.
    """
    rows = list(_csv(shipped("literature.csv")))
    known = list(dict.fromkeys(row["dataset"] for row in rows))
    if dataset not in known:
        raise UsageError(f"no literature results for '{dataset}'; choose one of {', '.join(known)}")
    columns = (
        Column("method", "Method", identity=True),
        Column("backbone", "Backbone", absent=""),
        Column("resolution", "px", "number", absent=""),
        Column("extra_data", "Extra data", absent=""),
        Column("mAP", "mAP", "percent"),
        Column("protocol", "Protocol", absent=""),
        Column("source", "Source"),
    )
    shown = []
    for row in rows:
        if row["dataset"] == dataset:
            cells: dict[str, Any] = {column.key: row[column.key] or None for column in columns}
            if row["resolution"]:
                cells["resolution"] = int(row["resolution"])
            cells["mAP"] = float(row["mAP"]) / 100
            shown.append(Row(tuple(cells.values())))
    note = (
        "the values are copied from the sources and were not reproduced; rows with a different protocol or input are "
        "not "
        "comparable"
    )
    return Table(f"Literature: {dataset}", columns, tuple(shown), (note,))


def extra_rows(path: Path | None) -> list[PublishedRow]:
    """Read additional table rows from a CSV file, such as results from an evaluation server.

    Args:
        path: CSV file with the columns `method` and `mAP` (in percent). Other columns of the paper's tables are
            optional. If the path is None, no rows are returned.

    Raises:
        UsageError: The file cannot be read or has no rows, a required column is missing, a cell is not a number, or a
            metric is not a percentage (above 1, at most 100).
    """
    if path is None:
        return []
    rows = list(_csv(read_text(path, UsageError)))
    if not rows:
        raise UsageError(
            f"{path}: the file has no rows; write a header line with the columns 'method' and 'mAP', then one line per "
            "row"
        )
    missing = [name for name in ("method", "mAP") if name not in rows[0]]
    if missing:
        raise UsageError(
            f"{path}: the file has no column '{missing[0]}'; add this column ('method' and 'mAP' are required)"
        )
    return [_published(row, f"{path}, line {k}") for k, row in enumerate(rows, start=2)]


def _csv(text: str) -> Iterable[dict[str, str]]:
    for row in csv.DictReader(io.StringIO(text)):
        yield {key: value or "" for key, value in row.items() if isinstance(key, str) and not isinstance(value, list)}


def _published(row: dict[str, str], where: str) -> PublishedRow:
    texts = {key: row.get(key, "") for key in TEXTS}
    return PublishedRow(
        **texts,
        scores={key: _fraction(row, key, where) for key in SCORES},
        resolution=_integer(row, "resolution", where),
        heads=_integer(row, "heads", where),
        lam=_number(row, "lam", where),
        larger_input=row.get("larger_input") == "yes",
        inferred=frozenset(row.get("inferred", "").split()),
    )


def _fraction(row: dict[str, str], key: str, where: str) -> float | None:
    value = _number(row, key, where)
    if value is None:
        return None
    if not 1 < value <= 100:
        raise UsageError(
            f"{where}: {key} = {value:g} is not between 1 and 100; enter {key} as a percentage, such as 94.3"
        )
    return round(value / 100, 6)  # as printed: 84.2 is 0.842, not 0.8420000000000001


def _integer(row: dict[str, str], key: str, where: str) -> int | None:
    value = _number(row, key, where)
    if value is None:
        return None
    return int(value)


def _number(row: dict[str, str], key: str, where: str) -> float | None:
    text = row.get(key, "").strip()
    if not text:
        return None
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{where}: {key} = {text} is not a number; enter a number, or leave the cell empty") from error
