"""`mlrec label-errors`: train on folds, predict held-out samples, and list annotations to review."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.dataset import Dataset, load_or_latest
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.conventions import ScoreKind
from mlrec.metrics.label_errors import LikelyError, Review, likely_errors, to_review
from mlrec.metrics.scores import one_line, read_scores
from mlrec.predictions import Predictions
from mlrec.reports.figures.contact_sheet import SheetRow, Tile, write_sheet
from mlrec.reports.render.table import Column, Row, Table
from mlrec.run_folders import directory
from mlrec.utils.errors import DataError, UsageError, ValidationReport, counted
from mlrec.utils.files import write_text
from mlrec.utils.progress import SILENT, Progress
from mlrec.utils.signals import stopped_says
from mlrec.workflows.data.split import MADE, split
from mlrec.workflows.evaluate.score import report_findings
from mlrec.workflows.train.train import train

logger = logging.getLogger(__name__)
RECIPE = "demo"
FOLDS = 5
TABLE, SHEET, RUNS = "label_errors.csv", "label_errors.png", "folds"
TILES = 6  # thumbnails per label on the contact sheet, for positives and for negatives


@dataclass(frozen=True)
class LabelErrors:
    """Ranked annotations from a search for label errors.

    Attributes:
        manifest: Samples and annotations.
        found: All known annotations, most likely errors first.
        review: Selection of the annotations to review.
        folder: Written folder.
    """

    manifest: Manifest
    found: list[LikelyError]
    review: Review
    folder: Path

    @property
    def to_review(self) -> list[LikelyError]:
        """Annotations to review, most likely errors first."""
        return [error for error in self.found if self.review.flags[error.sample, error.label]]


def label_errors(
    data: Path | None = None,
    *,
    predictions: Path | None = None,
    kind: ScoreKind | None = None,
    split_name: str | None = None,
    folds: int | None = None,
    flags: Mapping[str, Any] | None = None,
    recipe: str = RECIPE,
    out: Path = Path("label-errors"),
    progress: Progress = SILENT,
) -> LabelErrors:
    """Find likely label errors, and write the annotations to review as a CSV and a contact sheet.

    For each label, the contact sheet shows at most six positives and six negatives.

    Without `predictions`, a head is trained for each fold on features of a frozen backbone, unless `flags` specify
    otherwise. The features are computed once. Each sample is predicted by the model that was not trained on this
    sample. Existing folds from `mlrec split --folds` are used; new folds are added to the dataset if there are none, or
    if their number differs from `folds`. The number of annotations to review depends on thresholds for each label, see
    `metrics.label_errors.to_review`.

    Args:
        data: Folder of a prepared dataset; by default the most recently prepared dataset.
        predictions: Scores for a split from a model that was not trained on this split; if set, nothing is trained.
        kind: Kind of the scores; if None, the kind is inferred from the values, see `read_scores`.
        split_name: Split to which `predictions` belong; by default `test`, or `val` if there is no `test`.
        folds: Number of folds; by default the existing folds of the dataset, or 5 if there are none.
        flags: Keys of `Config` for training; the dataset and the splits are set for each fold.
        recipe: Recipe for training.
        out: Output folder. An existing CSV and contact sheet are replaced, and new runs are added to the subfolder
            `folds`.
        progress: Progress display.

    Raises:
        UsageError: `kind` or `split_name` is set, but `predictions` is None.
        MlrecError: The dataset does not exist, the predictions do not match the dataset, or training fails.
    """
    dataset = load_or_latest(data)
    if predictions is None:
        if split_name is not None:
            raise UsageError("--split requires --predictions (without --predictions, all folds are used); omit --split")
        if kind is not None:
            raise UsageError(f"--{kind} describes the scores in --predictions; add --predictions FILE")
        manifest, logits = _out_of_fold(dataset, folds, dict(flags or {}), recipe, out, progress)
    else:
        default = "val"
        if "test" in dataset.info.splits:
            default = "test"
        manifest = dataset.manifest(split_name or default)
        findings = ValidationReport()
        scores = read_scores(predictions, findings, kind=kind).against(manifest)
        one_line(findings, DataError)
        report_findings([scores], findings)
        logits = scores.logits
    errors = LabelErrors(manifest, likely_errors(logits, manifest.targets), to_review(logits, manifest.targets), out)
    _warn_missing_classes(errors)
    write_text(out / TABLE, _table(errors))
    shown = write_sheet(_sheet_rows(errors), out / SHEET)
    review = counted(len(errors.to_review), "annotation")
    logger.info(f"{out / TABLE}: {review} to review; {out / SHEET}: {counted(shown, 'image')}")
    return errors


def _warn_missing_classes(errors: LabelErrors) -> None:
    """Warn about labels whose errors cannot be estimated, because no positive or no negative is known."""
    names = [name for name, enough in zip(errors.manifest.labels, errors.review.enough, strict=True) if not enough]
    if names:
        named = ", ".join(names)
        logger.warning(
            f"label errors cannot be estimated for {counted(len(names), 'label')} without a known positive or without "
            f"a known negative: {named}"
        )


def _out_of_fold(
    dataset: Dataset, folds: int | None, flags: dict[str, Any], recipe: str, out: Path, progress: Progress
) -> tuple[Manifest, NDArray[np.float64]]:
    """Train on all folds.

    Returns the split that contains the folds, and out-of-fold logits for all samples.
    """
    dataset, held_out = _folds(dataset, folds, progress)
    pool = dataset.manifest(dataset.info.source[MADE][held_out[0]])
    from mlrec.training.features import FeatureCache

    features = FeatureCache(whole=pool)
    settings = {"freeze_backbone": True, "unknown": "ignore", **flags, "data": str(dataset.path)}
    row = {sample: k for k, sample in enumerate(pool.sample_ids)}
    logits = np.full(pool.targets.shape, np.nan)
    for val in held_out:
        train_split = val.removesuffix("val") + "train"
        with stopped_says(f"stopped before {val} was scored; running the same command again starts from the beginning"):
            run = train(
                {**settings, "train_split": train_split, "split": val},
                recipe=recipe,
                out=out / RUNS,
                features=features,
                progress=progress,
            )
        held_out_scores = Predictions.load(run.path / directory.PREDICTIONS)
        logits[[row[sample] for sample in held_out_scores.sample_ids]] = held_out_scores.logits
    missing = int(np.isnan(logits).any(axis=1).sum())
    if missing:
        raise DataError(
            f"{dataset.path}: the folds do not contain all samples ({missing:,} missing); create new folds with --folds"
        )
    Predictions(pool.labels, pool.sample_ids, logits, pool.targets, pool.digest).save(out / directory.PREDICTIONS)
    return pool, logits


def _folds(dataset: Dataset, folds: int | None, progress: Progress) -> tuple[Dataset, list[str]]:
    """Return the dataset and the held-out splits of its folds.

    Folds are created if there are none, or if the number of folds differs.
    """
    known = [name for name in dataset.info.source.get(MADE, {}) if name.startswith("fold") and name.endswith("-val")]
    if not known or (folds is not None and folds != len(known)):
        created = split(dataset.path, folds=folds or FOLDS, progress=progress)
        logger.info(f"created {folds or FOLDS} folds of {created.pool}, as mlrec split --folds does")
        return created.dataset, [name for name in created.sizes if name.endswith("-val")]
    logger.info(f"using the {len(known)} folds of {dataset.path}; use --folds to create new folds")
    return dataset, known


def _table(errors: LabelErrors) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["filename", "label", "given", "probability", "doubt"])
    for error in errors.to_review:
        sample, label = errors.manifest.sample_ids[error.sample], errors.manifest.labels[error.label]
        writer.writerow([sample, label, error.given, f"{error.probability:.4f}", f"{error.error_score:.4f}"])
    return stream.getvalue()


def _sheet_rows(errors: LabelErrors) -> list[SheetRow]:
    """Return the positives and then the negatives to review for each label, most likely errors first."""
    rows = []
    to_review = errors.to_review
    for label, name in enumerate(errors.manifest.labels):
        for given, heading in ((1, f"{name}: positive, to review"), (0, f"{name}: negative, to review")):
            shown = [error for error in to_review if (error.label, error.given) == (label, given)][:TILES]
            if shown:
                rows.append(SheetRow(heading, tuple(_tile(errors.manifest, error) for error in shown)))
    return rows


def _tile(manifest: Manifest, error: LikelyError) -> Tile:
    caption = f"{100 * error.probability:.1f}%  {manifest.sample_ids[error.sample]}"
    return Tile(manifest.path_of(error.sample), caption, manifest.box_of(error.sample))


def summary(errors: LabelErrors) -> Table:
    """Return a table with the number of annotations to review and the number of expected errors for each label."""
    review, targets = errors.review, errors.manifest.targets
    rows = []
    for label, name in enumerate(errors.manifest.labels):
        flags = review.flags[:, label]
        positives = int(np.count_nonzero(flags & (targets[:, label] == 1)))
        negatives = int(np.count_nonzero(flags & (targets[:, label] == 0)))
        wrong, missing = None, None
        if review.enough[label]:
            missing, wrong = review.expected[:, label].tolist()
        rows.append(Row((name, positives, wrong, negatives, missing)))
    columns = (
        Column("label", "label"),
        Column("given", "to review", "count", block="positive"),
        Column("wrong", "errors expected", "mean", block="positive"),
        Column("not_given", "to review", "count", block="negative"),
        Column("missing", "errors expected", "mean", block="negative"),
    )
    total, expected = int(review.flags.sum()), float(review.expected.sum())
    notes = (
        f"{counted(total, 'annotation')} to review; expected number of errors: {expected:,.0f} (confident learning)",
        f"probabilities: {errors.folder / TABLE}",
        f"contact sheet: {errors.folder / SHEET}",
    )
    return Table(f"{errors.manifest.name}/{errors.manifest.split}: annotations to review", columns, tuple(rows), notes)
