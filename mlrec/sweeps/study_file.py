"""`sweep.json`: what the runs of a sweep are to each other; for tables. How far they are, their folders say."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from mlrec.errors import RunError, printable
from mlrec.files import read_own_json, write_json
from mlrec.runs.record import Run
from mlrec.sweeps.grid import REPEATED, Point

FILE = "sweep.json"


class Entry(msgspec.Struct, frozen=True):
    """A run: its folder's name, the variant it is of, and what it differs in from the others."""

    name: str
    label: str
    settings: dict[str, Any]
    stage: str = "run"

    @property
    def method(self) -> str:
        """Equal for runs that differ in seed or fold alone."""
        return repr((self.label, [(k, v) for k, v in self.settings.items() if k not in REPEATED]))


class StudyFile(msgspec.Struct, frozen=True):
    """The runs of a sweep in the order of its table, and what its table says.

    Attributes:
        tuned: keys whose values were chosen for each setting on held-out data.
    """

    title: str
    runs: list[Entry]
    notes: list[str] = []
    tuned: list[str] = []
    format: str = "mlrec-sweep/1"

    def save(self, folder: Path) -> None:
        """Write `sweep.json` into the folder of a sweep."""
        write_json(folder / FILE, msgspec.to_builtins(self))

    @classmethod
    def load(cls, folder: Path) -> StudyFile:
        """Read `sweep.json`.

        Raises:
            RunError: there is none, or it is not ours.
        """
        if not (folder / FILE).is_file():
            raise RunError(f"{printable(folder)}: no sweep here (no {FILE}); give the folder of a sweep")
        return read_own_json(folder / FILE, cls, RunError, "start the sweep once more")


def without_tuning(runs: Iterable[Run]) -> list[Run]:
    """The runs without those that, by the `sweep.json` beside them, only chose a value for others."""
    found = list(runs)
    tuning = {
        folder / entry.name
        for folder in {run.path.parent for run in found}
        if (folder / FILE).is_file()
        for entry in StudyFile.load(folder).runs
        if entry.stage == "tune"
    }
    return [run for run in found if run.path not in tuning]


def entry_of(point: Point) -> Entry:
    """A point as `sweep.json` keeps it."""
    return Entry(point.name, point.label, {k: _plain(v) for k, v in point.settings.items()}, point.stage)


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it: an infinite temperature is "inf"."""
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return "inf" if isinstance(value, float) and math.isinf(value) else value
