"""`mlrec compare --by-size`: runs side by side, by how large the objects of a label are and how many there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import image_of
from mlrec.datasets.objects import load_objects
from mlrec.metrics.object_size import ap_by_size, extents
from mlrec.metrics.resamples import RESAMPLES
from mlrec.reports.paper.figure1 import size_table
from mlrec.reports.render.table import Table
from mlrec.reports.results import over_seeds, result_of, scores_and_truth
from mlrec.utils.errors import RunError, printable
from mlrec.workflows.report.report import runs_at


def size_report(
    paths: Sequence[Path],
    *,
    root: Path = Path("runs"),
    labels: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> Table:
    """AP by size and number of objects, from the stored predictions of runs; the first is what others differ from.

    Runs equal but for the seed are one method: its AP is their mean, and its intervals draw seeds, too.

    Args:
        paths: run folders, or folders of them, scored on one split of a dataset that annotates objects.
        root: where runs lie when none is named.
        labels: these alone.
        resamples: of the intervals of the differences, paired over images.

    Raises:
        MlrecError: runs of different data, data that are gone or annotate no objects.
    """
    runs = runs_at(paths, root)
    first, scored = runs[0], runs[0].record.scored
    if scored is None:
        raise RunError(f"{printable(first.path)}: does not say what it was scored on; train or evaluate it again")
    for run in runs:
        if run.record.scored is None or run.record.scored.digest != scored.digest:
            raise RunError(f"{printable(run.path)}: was scored on other data than {printable(first.path.name)}")
    dataset = Dataset.load(scored.path)
    if dataset.manifest(scored.split).digest != scored.digest:
        raise RunError(f"{printable(dataset.path)}: has changed since {printable(first.path.name)}; evaluate it again")
    _, targets, names = scores_and_truth(first, labels)
    found = extents(load_objects(dataset, scored.split), dataset.info.labels).columns(names)
    by_path = {run.path: run for run in runs}
    rows = over_seeds(result_of(run) for run in runs)
    methods = [[scores_and_truth(by_path[path], names)[0] for path in row.paths] for row in rows]
    groups = [image_of(sample) for sample in first.predictions().sample_ids]
    strata = ap_by_size(methods, targets, found, resamples=resamples, groups=groups)
    title = f"AP by size and number of objects: {scored.dataset} {scored.split}"
    called = [row.called for row in rows]
    shown = called if len(set(called)) == len(called) else [f"{row.called} ({row.run})" for row in rows]
    return size_table(strata, shown, title, seeds=[len(row.paths) for row in rows])
