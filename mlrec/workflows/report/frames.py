"""Runs, reports, comparisons and statistics as data frames.

The frames have the same content as the command-line tables.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlrec.metrics.conventions import ScoreKind
from mlrec.metrics.resamples import RESAMPLES
from mlrec.reports.dataset_statistics import tables
from mlrec.reports.render.table import Table
from mlrec.run_folders import directory
from mlrec.run_folders.record import Run, all_runs, lineage_of
from mlrec.utils.errors import RunError
from mlrec.workflows.data import stats as data_stats
from mlrec.workflows.report import compare as run_comparison
from mlrec.workflows.report import report as run_report

if TYPE_CHECKING:
    from pandas import DataFrame

PathLike = str | os.PathLike[str]  # including `Run`
Paths = Sequence[PathLike] | PathLike


def runs(root: Path | str = "runs") -> DataFrame:
    """Return one row per finished or unfinished run in a folder, in order of start time.

    The index is the path of the run below `root`. The columns `status`, `recipe`, `started` and `finished` describe the
    run. The settings are in the columns `config.<key>`; a list is stored as text, such as "1.0,inf". The scored data is
    in the columns `scored.<field>`. The metrics are named as in `Metrics.flat`, and the scoring conventions are in
    `conventions`. The origin of the weights is in `lineage.<field>`, and the times are in `seconds.<part>`. Values
    that are not available for a run are NaN or None.

    Args:
        root: Folder that contains runs, directly or in its subfolders.

    Returns:
        `pandas.DataFrame`.

    Raises:
        RunError: The folder contains no run, or a record cannot be read.

    Example:
        >>> from mlrec.run_folders.record import RunRecord
        >>> Path("new/a").mkdir(parents=True)
        >>> RunRecord(name="a", status="running", config={"lam": 0.1}).save(Path("new/a"))
        >>> runs("new")["status"].to_dict(), runs("new")["config.lam"].to_dict()
        ({'a': 'running'}, {'a': 0.1})
    """
    import pandas as pd

    known = all_runs(root)
    if not known:
        raise RunError(f"no run under {root}; run mlrec train, or choose a different folder")
    index = pd.Index([run.path.relative_to(root).as_posix() for run in known], name="run")
    return pd.DataFrame([_run_row(run) for run in known], index=index)


def _run_row(run: Run) -> dict[str, Any]:
    record = run.record
    row: dict[str, Any] = {name: getattr(record, name) for name in ("status", "recipe", "started", "finished")}
    row |= {f"config.{key}": _cell(value) for key, value in record.config.items()}
    if record.scored is not None:
        row |= {f"scored.{name}": getattr(record.scored, name) for name in ("dataset", "split", "samples", "digest")}
    if (run.path / directory.METRICS).is_file():
        metrics = run.metrics()
        row |= {"conventions": metrics.conventions.name, **metrics.flat()}
    lineage = lineage_of(record)
    trainings = " → ".join(f"{training.name} {training.split}" for training in lineage.trainings)
    row |= {"lineage.weights": lineage.weights, "lineage.origin": lineage.origin, "lineage.trainings": trainings}
    return row | {f"seconds.{part}": seconds for part, seconds in record.seconds.items()}


def _cell(value: Any) -> Any:
    """Convert a list to text, so that rows can be grouped by it and written to a file."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value


def report(
    runs: Paths = (),
    *,
    root: Path | str = "runs",
    conventions: str | None = None,
    labels: Sequence[str] | None = None,
    per_run: bool = False,
    intervals: bool = False,
    by_label: bool = False,
) -> DataFrame:
    """Return finished runs as printed by `mlrec report`: one row per method, in groups of comparable rows.

    Args:
        runs: Run folders, or folders of runs; by default all finished runs under `root`.
        root: Folder of runs.
        conventions: Conventions for scoring the stored predictions; by default the stored metrics are used.
        labels: Labels to score; by default all.
        per_run: Whether to return one row per run instead of means over seeds.
        intervals: Whether to add 95% bootstrap confidence intervals.
        by_label: Whether to return one row per label, as in `mlrec compare --by-label`. The columns contain AP,
            precision, recall and F1 of each method; the column names end with the method number.

    Returns:
        `pandas.DataFrame` with the columns of `--format csv`; metrics are fractions. With `by_label`, the index
        contains the labels, and the column `data` contains the dataset and the split.

    Raises:
        MlrecError: A run does not exist, or files of a run cannot be read.

    Example:
        >>> from mlrec.metrics.evaluate import evaluate
        >>> from mlrec.run_folders.record import RunRecord
        >>> Path("runs/b").mkdir(parents=True)
        >>> RunRecord(name="b", status="finished", config={"head": "average"}).save(Path("runs/b"))
        >>> evaluate([[2.0], [-3.0]], [[1], [0]], labels=["cat"]).save("runs/b/metrics.json")
        >>> report("runs")[["run", "mAP"]].values.tolist()
        [['b', 1.0]]
    """
    import pandas as pd

    paths = _paths(runs)
    if by_label:
        made = run_report.label_report(
            paths, root=Path(root), conventions=conventions, labels=labels, each=per_run, intervals=intervals
        )
        by_name = [table for table in made if table.columns[0].key == "label"]  # the others are by frequency
        return pd.concat([_frame(table).assign(data=table.name) for table in by_name])
    table = run_report.report(
        paths, root=Path(root), conventions=conventions, labels=labels, each=per_run, intervals=intervals
    ).table
    return table.to_frame()


def compare(
    ours: Paths,
    theirs: Paths,
    *,
    truth: Path | str | None = None,
    split: str | None = None,
    scores: ScoreKind | None = None,
    conventions: str | None = None,
    labels: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> dict[str, DataFrame]:
    r"""Compare two models on the same images with paired bootstrap confidence intervals.

    The values are the same as those of `mlrec compare`.

    Args:
        ours: Method A: a run or a score file; multiple entries are seeds of one method.
        theirs: Method B, in the same form as A.
        truth: Ground truth: a CSV, a manifest or the folder of a dataset; by default the targets stored in the first
            entry of `ours`.
        split: Split of the ground truth, if there are multiple splits.
        scores: Kind of the scores in CSV files; by default inferred from the values.
        conventions: Scoring conventions; by default those of the runs, or `mlrec` if they differ or are unknown.
        labels: Labels to compare; by default all.
        resamples: Number of bootstrap resamples.

    Returns:
        Data frames by name: `metrics` with one row per metric, and `labels` with one row per label and its p-value. If
        the methods have the same known training split, and it has medium or rare labels, `frequency` contains the mAP
        of head, medium and tail labels.

    Raises:
        MlrecError: Files cannot be read, or their samples, labels or targets differ.

    Example:
        >>> _ = Path("truth.csv").write_text("filename,cat\na.jpg,1\nb.jpg,0\nc.jpg,1\n")
        >>> _ = Path("a.csv").write_text("filename,cat\na.jpg,0.9\nb.jpg,0.2\nc.jpg,0.8\n")
        >>> _ = Path("b.csv").write_text("filename,cat\na.jpg,0.1\nb.jpg,0.2\nc.jpg,0.8\n")
        >>> float(compare("a.csv", "b.csv", truth="truth.csv")["metrics"].loc["mAP", "difference"].round(3))
        0.167
    """
    compared = run_comparison.compare_runs(
        _paths(ours),
        _paths(theirs),
        truth=None if truth is None else Path(truth),
        split=split,
        kind=scores,
        conventions=conventions,
        labels=labels,
        resamples=resamples,
    )
    return {table.name: _frame(table) for table in compared}


def stats(data: Path | str | None = None, *, objects: bool = False) -> dict[str, DataFrame]:
    """Return statistics of a prepared dataset, as printed by `mlrec stats`.

    Args:
        data: Folder of a prepared dataset; by default the most recently prepared dataset under `data`.
        objects: Whether to read object sizes from the annotations (COCO, VOC).

    Returns:
        Two frames: `splits`, one row per split, and `labels`, one row per label with its counts in each split.

    Raises:
        MlrecError: The dataset does not exist.

    Example:
        >>> import numpy as np
        >>> from mlrec.datasets import dataset
        >>> from mlrec.datasets.manifest import Manifest
        >>> targets = np.array([[1], [0]], np.int8)
        >>> manifest = Manifest("pets", "val", Path("/data"), ("cat",), ("a.jpg", "b.jpg"), targets)
        >>> Path("data/pets").mkdir(parents=True)
        >>> dataset.write(Path("data/pets"), dataset.Info("pets", {}, "mlrec", ["cat"], {"val": 2}), [manifest])
        >>> int(stats("data/pets")["labels"].loc["cat", "val_positives"])
        1
    """
    return {table.name: _frame(table) for table in tables(data_stats.stats(data, objects=objects))}


def _frame(table: Table) -> DataFrame:
    """Return a table as a data frame with row names as index, without the columns for groups and marks."""
    return table.to_frame().drop(columns=["group", "marks"]).set_index(table.columns[0].key)


def _paths(paths: Paths) -> list[Path]:
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    return [Path(path) for path in paths]
