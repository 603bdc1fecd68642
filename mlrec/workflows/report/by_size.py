"""`mlrec compare --by-size`: compare runs by object size and by the number of objects of a label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import image_of
from mlrec.datasets.objects import load_objects
from mlrec.metrics.object_size import ap_by_size, extents
from mlrec.metrics.resamples import RESAMPLES
from mlrec.reports.by_label import distinct_names
from mlrec.reports.paper.figure1 import size_table
from mlrec.reports.render.table import Table
from mlrec.reports.results import over_seeds, result_of, scores_and_truth
from mlrec.utils.errors import RunError
from mlrec.workflows.report.report import runs_at


def size_report(
    paths: Sequence[Path],
    *,
    root: Path = Path("runs"),
    labels: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
) -> Table:
    """Return AP by size and number of objects, with differences from the first method.

    Runs that differ only in the seed form one method; the AP of a method is the mean over its runs, and intervals are
    computed by resampling images and seeds.

    Args:
        paths: Run folders, or folders of runs. All runs must be scored on the same split of a dataset with annotated
            objects.
        root: Folder of runs, used if `paths` is empty.
        labels: Labels to score; by default all.
        resamples: Number of bootstrap resamples; each resample contains the same images for all runs.

    Raises:
        MlrecError: The runs were scored on different data, or the dataset is missing, has changed or contains no
            objects.
    """
    runs = runs_at(paths, root)
    first, scored = runs[0], runs[0].record.scored
    if scored is None:
        raise RunError(f"{first.path}: the run record contains no scored split; train or evaluate the run again")
    for run in runs:
        if run.record.scored is None or run.record.scored.digest != scored.digest:
            raise RunError(
                f"{run.path}: the run was scored on different data than {first.path.name}; choose runs that were "
                "scored on the same split"
            )
    dataset = Dataset.load(scored.path)
    if dataset.manifest(scored.split).digest != scored.digest:
        raise RunError(
            f"{dataset.path}: the dataset has changed since {first.path.name} was scored; evaluate the run again"
        )
    _, targets, names = scores_and_truth(first, labels)
    object_extents = extents(load_objects(dataset, scored.split), dataset.info.labels).columns(names)
    by_path = {run.path: run for run in runs}
    rows = over_seeds(result_of(run) for run in runs)
    methods = [[scores_and_truth(by_path[path], names)[0] for path in row.paths] for row in rows]
    groups = [image_of(sample) for sample in first.predictions().sample_ids]
    size_bins = ap_by_size(methods, targets, object_extents, resamples=resamples, groups=groups)
    title = f"AP by size and number of objects: {scored.dataset} {scored.split}"
    return size_table(size_bins, distinct_names(rows), title, seeds=[len(row.paths) for row in rows])
