"""`sweep.json`: the runs of a sweep and their settings. Their progress is in the run folders."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from mlrec.renamed import current_keys, current_names
from mlrec.run_folders.record import Run
from mlrec.utils.errors import RunError
from mlrec.utils.files import read_own_json, write_json

FILE = "sweep.json"


class Entry(msgspec.Struct, frozen=True):
    """A run of a sweep.

    Attributes:
        name: Name of its folder.
        label: Label of its setting.
        settings: Values in which it differs from the others.
        stage: "tune" if it only chose a value for later runs, otherwise "run".
    """

    name: str
    label: str
    settings: dict[str, Any]
    stage: str = "run"


class SweepFile(msgspec.Struct, frozen=True):
    """The runs of a sweep in the order of its table, with title and footnotes.

    Attributes:
        tuned: Keys whose values were chosen for each setting on held-out data.
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
    def load(cls, folder: Path) -> SweepFile:
        """Read `sweep.json`.

        Raises:
            RunError: The file is missing or has another format.
        """
        if not (folder / FILE).is_file():
            raise RunError(f"{folder}: no sweep here (no {FILE}); name the folder of a sweep")
        sweep = read_own_json(folder / FILE, cls, RunError, "start the sweep again")
        runs = [msgspec.structs.replace(entry, settings=current_keys(entry.settings)) for entry in sweep.runs]
        return msgspec.structs.replace(sweep, runs=runs, tuned=list(current_names(dict.fromkeys(sweep.tuned))))


def without_tuning(runs: Iterable[Run]) -> list[Run]:
    """Leave out runs that only chose a value for others, according to the `sweep.json` of their sweep."""
    runs = list(runs)
    tuning = {
        folder / entry.name
        for folder in {run.path.parent for run in runs}
        if (folder / FILE).is_file()
        for entry in SweepFile.load(folder).runs
        if entry.stage == "tune"
    }
    return [run for run in runs if run.path not in tuning]
