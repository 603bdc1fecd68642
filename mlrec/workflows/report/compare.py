"""`mlrec compare A B`: two models, or two methods of several seeds each, on the same samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mlrec.datasets.manifest import Manifest, duplicates_in, image_of, label_order
from mlrec.metrics.bootstrap import Bootstrap
from mlrec.metrics.conventions import ScoreKind
from mlrec.metrics.evaluate import Metrics
from mlrec.metrics.id_matching import rows_of
from mlrec.metrics.resamples import RESAMPLES
from mlrec.metrics.scores import Scores, read_scores
from mlrec.reports.comparison import Side, compare, comparison_tables
from mlrec.reports.render.table import Table
from mlrec.runs import directory
from mlrec.runs.record import RunRecord
from mlrec.utils.errors import PredictionsError, ValidationReport, counted, printable
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate.score import read_truth, report_findings
from mlrec.workflows.evaluate.write_scores import warn_undefined


@dataclass(frozen=True)
class _Given:
    """The scores of a run or file, and what is known of them."""

    name: str
    scores: Scores
    conventions: str | None
    scored: str


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
    progress: Progress = SILENT,
) -> list[Table]:
    """The difference A − B of two methods, with paired bootstrap intervals, as tables of metrics and labels.

    Args:
        ours: A: folders of runs or evaluations, or files of scores as `mlrec score` takes them, one for each seed.
        theirs: B: the same.
        truth: what is true, as `mlrec score` takes it; None takes what the first run holds.
        split: of the truth, where it has several.
        kind: Kind of the scores in CSV files; None decides by the values, see `read_scores`.
        conventions: how to score; None takes what all were scored by, or `mlrec`.
        labels: compare these alone.
        resamples: how often images (and seeds) are drawn.
        seed: of the draws.
        progress: is told the warnings.

    Raises:
        PredictionsError: the two were not made on the same samples, labels and truth.
    """
    findings = ValidationReport()
    for side in (ours, theirs):
        if twice := duplicates_in([str(path.resolve()) for path in side]):
            raise PredictionsError(f"{printable(twice[0])}: stands twice on one side; it would count as two seeds")
    a, b = ([_given(path, findings, labels, kind) for path in paths] for paths in (ours, theirs))
    known = {given.conventions for given in (*a, *b)}
    manifest = read_truth(truth, split, labels, findings) if truth else _truth_of(a[0])
    sides = [_side(given, manifest, a[0].name if truth is None else None) for given in (a, b)]
    report_findings([given.scores for given in (*a, *b)], findings, progress)
    warn_undefined(manifest.targets, manifest.labels, progress)
    bootstrap = Bootstrap(
        manifest.targets,
        groups=[image_of(sample) for sample in manifest.sample_ids],
        conventions=conventions or (known.pop() if len(known) == 1 else None) or "mlrec",
        resamples=resamples,
        seed=seed,
    )
    comparison = compare(sides[0], sides[1], manifest.targets, manifest.labels, bootstrap)
    what = f"{a[0].scored}{counted(len(manifest), 'sample')}, {counted(len(manifest.labels), 'label')}"
    return comparison_tables(sides[0], sides[1], comparison, bootstrap, what=what)


def _given(path: Path, findings: ValidationReport, labels: Sequence[str] | None, kind: ScoreKind | None) -> _Given:
    if not path.is_dir():
        stated = kind if path.suffix.lower() == ".csv" else None  # the kind of other files is known
        return _Given(str(path), read_scores(path, findings, kind=stated, labels=labels), None, "")
    metrics = path / directory.METRICS
    stored = Metrics.load(metrics).conventions.name if metrics.is_file() else None
    where = ""
    if (path / directory.RECORD).is_file() or not (path / directory.PREDICTIONS).is_file():
        scored = RunRecord.load(path).scored
        where = f"{scored.dataset} {scored.split}, " if scored else ""
    return _Given(str(path), read_scores(path / directory.PREDICTIONS, findings, labels=labels), stored, where)


def _truth_of(given: _Given) -> Manifest:
    """The samples of a run as a truth for the others."""
    scores = given.scores
    if scores.targets is None:
        raise PredictionsError(f"{printable(given.name)}: holds no targets; give the truth with --truth")
    return Manifest("", "", Path(), scores.labels, scores.sample_ids, scores.targets)


def _side(side: Sequence[_Given], truth: Manifest, source: str | None) -> Side:
    """Runs of one method in the order of the truth; where it came from the run `source`, theirs must equal it."""
    joined = [given.scores.against(truth) for given in side]
    for given in side:
        if source is not None and given.scores.targets is not None and not _same_truth(given.scores, truth):
            raise PredictionsError(
                f"{printable(given.name)}: its truth differs from that of {printable(source)}; score both on one split"
            )
    if len({scores.kind for scores in joined}) > 1:
        raise PredictionsError("runs of one method must all hold logits, or all probabilities")
    return Side(", ".join(given.name for given in side), [scores.values for scores in joined], joined[0].threshold)


def _same_truth(scores: Scores, truth: Manifest) -> bool:
    rows = rows_of(truth.sample_ids, scores.sample_ids, printable(scores.path))
    columns = label_order(scores.labels, truth.labels)
    return scores.targets is not None and np.array_equal(scores.targets[rows][:, columns], truth.targets)
