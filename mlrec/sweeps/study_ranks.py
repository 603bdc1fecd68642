"""Comparison of the same methods in multiple sweeps, with one table per sweep and an overall ranking."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlrec.reports.render.table import Cell, Column, Row, Table
from mlrec.sweeps.study_tables import study_report
from mlrec.utils.errors import UsageError, counted

COLUMNS = (
    Column("variant", "Variant", identity=True),
    Column("rank", "mean rank", "mean"),
    Column("difference", "mean Δ", "points", absent=""),
    Column("wins", "wins", "count", absent=""),
    Column("undecided", "undecided", "count", absent=""),
    Column("losses", "losses", "count", absent=""),
)
Cells = Mapping[str, Any]


def study_reports(
    folders: Sequence[Path],
    *,
    labels: Sequence[str] | None = None,
    conventions: str | None = None,
    intervals: bool = False,
) -> list[Table]:
    """Return the table of each sweep and, if there are multiple sweeps, an overall table.

    Args:
        folders: Folders of sweeps, for example of one study on multiple datasets. The rows of multiple sweeps are
            matched by name.
        labels: Labels to score; by default, all labels.
        conventions: Conventions for scoring the stored predictions; by default, those of the runs.
        intervals: Whether to add 95% confidence intervals for mAP and mAP differences. With multiple sweeps, the
            intervals are always computed.

    Raises:
        RunError: A folder contains no sweep, or no finished run.
        UsageError: A folder is listed twice, or the rows of multiple sweeps cannot be matched; see `overall_table`.
    """
    several = len(folders) > 1
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UsageError("--study: a folder is listed twice; list each sweep once")
    tables = [
        study_report(folder, labels=labels, conventions=conventions, intervals=intervals or several)
        for folder in folders
    ]
    if several:  # titles differ, because LaTeX makes labels of them
        tables = [
            replace(table, title=f"{table.title}: {folder.name}", name=folder.name)
            for table, folder in zip(tables, folders, strict=True)
        ]
        tables.append(overall_table(tables, [str(folder) for folder in folders]))
    return tables


def overall_table(tables: Sequence[Table], names: Sequence[str]) -> Table:
    """Return a table with the mean rank, wins and losses of each row over multiple studies.

    Args:
        tables: Tables from `study_table`, with confidence intervals. Each row must have a unique name. Only rows that
            have an mAP in all tables are ranked.
        names: Name of each study, for errors and the title.

    Raises:
        UsageError: A row has no name, two rows of a table have the same name, or no row has an mAP in all tables.
    """
    studies = [_rows_by_name(table, name) for table, name in zip(tables, names, strict=True)]
    shared = [name for name in studies[0] if all(_has_map(study.get(name)) for study in studies)]
    if not shared:
        raise UsageError(f"--study: {', '.join(names)} have no row in common; use sweeps of the same study")
    ranks = [_ranks({name: study[name]["mAP"] for name in shared}) for study in studies]
    rows: list[tuple[float, dict[str, Cell]]] = []
    for name in shared:
        rank = statistics.fmean(of_study[name] for of_study in ranks)
        cells: dict[str, Cell] = {"variant": name, "rank": rank}
        rows.append((rank, cells | _decisions([study[name] for study in studies])))
    rows.sort(key=lambda row: row[0])
    first = next(iter(studies[0]))
    notes = [
        f"rank: rank by mAP (1 is best) among the {counted(len(shared), 'row')} that all sweeps have in common, "
        f"averaged over {len(studies)} sweeps; rows with equal mAP share their mean rank",
        f"Δ: mAP minus that of '{first}'; win or loss: the paired 95% confidence interval for Δ over images and seeds "
        "is above or below 0 (not corrected for the number of comparisons)",
    ]
    left_out = list(dict.fromkeys(name for study in studies for name in study if name not in shared))
    if left_out:
        notes.append(f"rows that are not in all sweeps are omitted: {', '.join(left_out)}")
    drawn = tuple(Row(tuple(cells.get(column.key) for column in COLUMNS)) for _, cells in rows)
    title = f"Over {counted(len(studies), 'sweep')}: {', '.join(names)}"
    return Table(title, COLUMNS, drawn, tuple(notes), label="over-all-sweeps", name="over all sweeps")


def _rows_by_name(table: Table, study: str) -> dict[str, Cells]:
    keys = [column.key for column in table.columns]
    rows: list[Cells] = [dict(zip(keys, row.cells, strict=True)) for row in table.rows]
    by_name = {str(cells["variant"]): cells for cells in rows if cells.get("variant")}
    if len(by_name) < len(rows):
        raise UsageError(
            f"--study: the rows of {study} have no names, so they cannot be matched with the rows of other sweeps; "
            "report this sweep separately"
        )
    return by_name


def _has_map(cells: Cells | None) -> bool:
    return cells is not None and cells["mAP"] is not None


def _ranks(values: Mapping[str, float]) -> dict[str, float]:
    """Return the rank of each value in descending order; equal values share the mean of their ranks."""
    ranks = {}
    for name, value in values.items():
        better = sum(other > value for other in values.values())
        equal = sum(other == value for other in values.values())
        ranks[name] = better + (equal + 1) / 2
    return ranks


def _decisions(studies: Sequence[Cells]) -> dict[str, Cell]:
    """Return the cells with the mean difference, wins and losses of a row; empty for the baseline row."""
    differences = [cells["difference"] for cells in studies if cells.get("difference") is not None]
    if not differences:
        return {}
    ends = [(cells.get("difference_low"), cells.get("difference_high")) for cells in studies]
    known = [(low, high) for low, high in ends if low is not None and high is not None]
    wins, losses = sum(low > 0 for low, _ in known), sum(high < 0 for _, high in known)
    mean = statistics.fmean(differences)
    return {"difference": mean, "wins": wins, "undecided": len(known) - wins - losses, "losses": losses}
