"""`mlrec compare A B`: compare two models or two methods on the same samples.

A method may consist of multiple runs with different seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlrec.datasets.manifest import Manifest, image_of
from mlrec.metrics.bootstrap import Bootstrap
from mlrec.metrics.conventions import ScoreKind
from mlrec.metrics.id_matching import rows_of
from mlrec.metrics.resamples import RESAMPLES
from mlrec.metrics.scores import Scores, read_scores
from mlrec.metrics.summary import Metrics
from mlrec.reports.comparison import Side, compare, comparison_tables
from mlrec.reports.render.table import Table
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord, SplitRecord, training_positives, warn_undefined
from mlrec.utils.errors import PredictionsError, ValidationReport, counted
from mlrec.utils.names import duplicates_in, label_order
from mlrec.workflows.evaluate.score import read_truth, report_findings


@dataclass(frozen=True)
class _ScoredRun:
    """Scores from a run or a file.

    Attributes:
        name: Path as passed by the user.
        scores: Scores.
        conventions: Scoring conventions that were used for the run; None for a file.
        scored: Name of the scored dataset and split; "" if unknown.
        train: Training split; None for a file, or a model trained elsewhere.
        model: Folder of the trained model; None if unknown.
    """

    name: str
    scores: Scores
    conventions: str | None
    scored: str
    train: SplitRecord | None = None
    model: Path | None = None


def compare_runs(
    ours: Sequence[Path],
    theirs: Sequence[Path],
    *,
    truth: Path | None = None,
    split: str | None = None,
    kind: ScoreKind | None = None,
    conventions: str | None = None,
    labels: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Table]:
    """Compare two methods (A − B) with paired bootstrap confidence intervals.

    Returns a metrics table and a label table. If all runs have the same known training split, and it has medium or rare
    labels, a table of mAP by label frequency is inserted between them.

    Args:
        ours: Method A, with one entry per seed: a run folder, an evaluation folder, or a score file as for `mlrec
            score`.
        theirs: Method B, in the same form as A.
        truth: Ground truth, as for `mlrec score`; by default the targets stored in the first entry of `ours`.
        split: Split of the ground truth, if there are multiple splits.
        kind: Kind of the scores in CSV files; if None, the kind is inferred from the values, see `read_scores`.
        conventions: Scoring conventions; by default those of the runs, or `mlrec` if the conventions differ or are
            unknown.
        labels: Labels to compare; by default all.
        resamples: Number of bootstrap resamples of images (and seeds).
        seed: Random seed of the resamples.

    Raises:
        PredictionsError: The methods differ in samples, labels or targets, an entry is listed twice for one method, or
            there is no ground truth.
        MlrecError: A file cannot be read.
    """
    findings = ValidationReport()
    for side in (ours, theirs):
        duplicates = duplicates_in([str(path.resolve()) for path in side])
        if duplicates:
            raise PredictionsError(
                f"{duplicates[0]}: the run is listed twice for one method and would count as two seeds; list each "
                "run once"
            )
    a = [_read(path, findings, labels, kind) for path in ours]
    b = [_read(path, findings, labels, kind) for path in theirs]
    if truth is None:
        manifest, source = _truth_of(a[0]), a[0].name
    else:
        manifest, source = read_truth(truth, split, labels, findings), None
    side_a, side_b = _side(a, manifest, source), _side(b, manifest, source)
    report_findings([one.scores for one in (*a, *b)], findings)
    warn_undefined(manifest.targets, manifest.labels)
    bootstrap = Bootstrap(
        manifest.targets,
        groups=[image_of(sample) for sample in manifest.sample_ids],
        conventions=conventions or _shared_conventions([*a, *b]),
        resamples=resamples,
        seed=seed,
    )
    comparison = compare(side_a, side_b, manifest.targets, manifest.labels, bootstrap)
    what = f"{counted(len(manifest), 'sample')}, {counted(len(manifest.labels), 'label')}"
    if a[0].scored:
        what = f"{a[0].scored}, {what}"
    training = training_positives([run.train for run in (*a, *b)], manifest.labels)
    return comparison_tables(side_a, side_b, comparison, bootstrap, what=what, training=training)


def _shared_conventions(runs: Sequence[_ScoredRun]) -> str:
    """Return the scoring conventions of the runs; `mlrec` if they differ or are unknown."""
    names = {run.conventions for run in runs}
    if len(names) > 1:
        return "mlrec"
    return names.pop() or "mlrec"


def _read(path: Path, findings: ValidationReport, labels: Sequence[str] | None, kind: ScoreKind | None) -> _ScoredRun:
    if not path.exists():
        raise PredictionsError(f"{path}: no such file or folder; pass a run folder or a score file")
    if not path.is_dir():
        if path.suffix.lower() != ".csv":  # the kind of other files is known
            kind = None
        return _ScoredRun(str(path), read_scores(path, findings, kind=kind, labels=labels), None, "")
    conventions, scored, train, model = None, "", None, None
    if (path / directory.METRICS).is_file():
        conventions = Metrics.load(path / directory.METRICS).conventions.name
    if (path / directory.RECORD).is_file() or not (path / directory.PREDICTIONS).is_file():
        record = RunRecord.load(path)
        train, model = record.train, path.resolve()
        if record.scored is not None:
            scored = f"{record.scored.dataset} {record.scored.split}"
    elif (path.parent / directory.RECORD).is_file():  # an evaluation in the folder of its run
        train, model = RunRecord.load(path.parent).train, path.parent.resolve()
    scores = read_scores(path / directory.PREDICTIONS, findings, labels=labels)
    return _ScoredRun(str(path), scores, conventions, scored, train, model)


def _truth_of(run: _ScoredRun) -> Manifest:
    """Return the samples and targets of a run as ground truth for all runs."""
    scores = run.scores
    if scores.targets is None:
        raise PredictionsError(f"{run.name}: the predictions have no targets; pass the ground truth with --truth")
    return Manifest("", "", Path(), scores.labels, scores.sample_ids, scores.targets)


def _side(runs: Sequence[_ScoredRun], truth: Manifest, source: str | None) -> Side:
    """Return the runs of one method in the order of the ground truth.

    Args:
        runs: Runs of the method.
        truth: Ground truth.
        source: Run that supplied the ground truth; all other runs must have equal targets.
    """
    joined = [run.scores.against(truth) for run in runs]
    for run in runs:
        if source is not None and run.scores.targets is not None and not _same_truth(run.scores, truth):
            raise PredictionsError(
                f"{run.name}: the targets differ from those in {source}; score both runs on the same split"
            )
    if len({scores.kind for scores in joined}) > 1:
        raise PredictionsError(
            "some runs of a method contain logits and others contain probabilities; use only one kind"
        )
    models = [run.model for run in runs if run.model is not None]
    if len(models) < len(runs):
        models = []
    return Side(", ".join(run.name for run in runs), [scores.values for scores in joined], joined[0].threshold, models)


def _same_truth(scores: Scores, truth: Manifest) -> bool:
    rows = rows_of(truth.sample_ids, scores.sample_ids, str(scores.path))
    columns = label_order(scores.labels, truth.labels)
    return scores.targets is not None and np.array_equal(scores.targets[rows][:, columns], truth.targets)
