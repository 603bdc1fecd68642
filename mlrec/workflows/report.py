"""`mlrec report`: finished runs → tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlrec.errors import RunError, printable
from mlrec.reports.overview import overview
from mlrec.reports.results import over_seeds, result_of
from mlrec.reports.table import Table
from mlrec.runs import directory
from mlrec.runs.record import Run, finished_runs


def runs_at(paths: Sequence[Path], root: Path = Path("runs")) -> list[Run]:
    """The runs named, each a run folder or a folder of them; all finished runs under `root` where none is named.

    Raises:
        RunError: no run there, or one that was named is not finished.
    """
    found: dict[Path, Run] = {}
    for path in paths or [root]:
        if (path / directory.RECORD).is_file():
            run = Run.load(path)
            if run.record.status != "finished":
                raise RunError(
                    f"{printable(path)}: {run.record.status}, not finished; resume it with mlrec train --resume"
                )
            here = [run]
        else:
            here = finished_runs(path)
        if not here:
            raise RunError(f"no finished run under {printable(path)}; run mlrec train, or name the folder of a run")
        found |= {run.path.resolve(): run for run in here}
    return list(found.values())


def report(
    runs: Sequence[Path] = (),
    *,
    root: Path = Path("runs"),
    conventions: str | None = None,
    labels: Sequence[str] | None = None,
    each: bool = False,
) -> list[Table]:
    """Runs as one table in the paper's form.

    Args:
        runs: run folders or folders of them; all finished runs under `root` where empty.
        root: where runs lie.
        conventions: score the stored predictions anew in these; None keeps each run's own numbers.
        labels: score these labels alone.
        each: a row for each run, instead of one for runs equal but for the seed.

    Raises:
        MlrecError: no run, or files of a run that cannot be read.
    """
    results = [result_of(run, conventions=conventions, labels=labels) for run in runs_at(runs, root)]
    return [overview(results if each else over_seeds(results))]
