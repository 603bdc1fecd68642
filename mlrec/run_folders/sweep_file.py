"""`sweep.json`: the file that lists the runs of a sweep and their settings.

The progress of the sweep is stored in the run folders.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from mlrec.config import current_keys, current_names
from mlrec.run_folders import directory
from mlrec.run_folders.record import Run
from mlrec.utils.errors import RunError
from mlrec.utils.files import read_own_json, write_json

FILE = "sweep.json"
REPEATED = ("seed", "fold")  # keys that repeat a setting instead of creating a new setting


class Entry(msgspec.Struct, frozen=True):
    """Run of a sweep, as listed in `sweep.json`.

    Attributes:
        name: Name of the run folder.
        label: Label of the setting.
        settings: Values of the setting and the tuned or searched values. The seed is included if the sweep has multiple
            seeds, and the fold if it has multiple folds; runs of the stage "tune" have neither.
        stage: "tune" if the run was only used to choose a value for later runs, otherwise "run".
    """

    name: str
    label: str
    settings: dict[str, Any]
    stage: str = "run"

    @property
    def values(self) -> dict[str, Any]:
        """Values in `settings`, without the seed and fold."""
        return {key: value for key, value in self.settings.items() if key not in REPEATED}


class SweepFile(msgspec.Struct, frozen=True):
    """Content of `sweep.json`: the runs of a sweep in table order, with the title and footnotes.

    Attributes:
        tuned: Keys whose values were chosen for each setting on held-out data.
    """

    title: str
    runs: list[Entry]
    notes: list[str] = []
    tuned: list[str] = []
    format: str = "mlrec-sweep/1"

    def settings(self) -> list[list[Entry]]:
        """Group the runs by setting, without runs of the stage "tune".

        Runs in the same group differ only in the seed and fold.
        """
        groups: dict[str, list[Entry]] = {}
        for entry in self.runs:
            if entry.stage == "run":
                groups.setdefault(repr((entry.label, entry.values)), []).append(entry)
        return list(groups.values())

    def save(self, folder: Path) -> None:
        """Write `sweep.json` to a sweep folder."""
        write_json(folder / FILE, msgspec.to_builtins(self))

    @classmethod
    def load(cls, folder: Path) -> SweepFile:
        """Read `sweep.json` in a sweep folder.

        Raises:
            RunError: The file is missing or has a different format.
        """
        if not (folder / FILE).is_file():
            raise RunError(f"{folder}: not a sweep folder (no {FILE}); pass the path of a sweep folder")
        sweep = read_own_json(folder / FILE, cls, RunError, "start the sweep again")
        runs = [msgspec.structs.replace(entry, settings=current_keys(entry.settings)) for entry in sweep.runs]
        return msgspec.structs.replace(sweep, runs=runs, tuned=list(current_names(dict.fromkeys(sweep.tuned))))


def finished_run(folder: Path) -> Run | None:
    """Return the run in `folder`, or None if there is no run or the run is not finished."""
    if not (folder / directory.RECORD).is_file():
        return None
    run = Run.load(folder)
    if run.record.status != "finished":
        return None
    return run


def without_tuning(runs: Iterable[Run]) -> list[Run]:
    """Remove runs that were only used to choose a value, according to the `sweep.json` of the sweep."""
    runs = list(runs)
    tuning = {
        folder / entry.name
        for folder in {run.path.parent for run in runs}
        if (folder / FILE).is_file()
        for entry in SweepFile.load(folder).runs
        if entry.stage == "tune"
    }
    return [run for run in runs if run.path not in tuning]
