"""`mlrec label-errors`: train on folds, predict what was held out, and list the annotations to review."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.conventions import ScoreKind
from mlrec.metrics.label_errors import LikelyError, Review, likely_errors, to_review
from mlrec.metrics.scores import one_line, read_scores
from mlrec.predictions import Predictions
from mlrec.reports.figures.contact_sheet import SheetRow, Tile, write_sheet
from mlrec.reports.render.table import Column, Row, Table
from mlrec.runs import directory
from mlrec.utils.errors import DataError, UsageError, ValidationReport, counted, printable
from mlrec.utils.files import write_text
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.data.split import MADE, split
from mlrec.workflows.evaluate.score import report_findings
from mlrec.workflows.train.interrupt import stopped_says
from mlrec.workflows.train.train import train

RECIPE = "demo"
FOLDS = 5
TABLE, SHEET, RUNS = "label_errors.csv", "label_errors.png", "folds"
TILES = 6  # pictures a label and kind on the contact sheet


@dataclass(frozen=True)
class LabelErrors:
    """All annotations of `manifest` by doubt, which of them to review, and the folder of the written files."""

    manifest: Manifest
    found: list[LikelyError]
    review: Review
    folder: Path

    @property
    def to_review(self) -> list[LikelyError]:
        """The annotations to review, the most doubtful first."""
        return [s for s in self.found if self.review.flags[s.sample, s.label]]


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
    """Rank the annotations to review, and write them as a CSV and a contact sheet into `out`.

    Without `predictions` a head is trained on each fold, with a frozen backbone whose features are computed once, and
    each sample is judged by the model that has not seen it. The folds are those that `mlrec split --folds` made, or are
    made now. How many annotations are listed follows from thresholds of each label, see `likely_errors.to_review`.

    Args:
        data: folder of a prepared dataset; the one prepared last where None.
        predictions: scores of `split_name` by a model that was not trained on it: nothing is trained then.
        kind: Kind of these scores; None decides by the values, see `read_scores`.
        split_name: the split that was predicted; by default `test`, else `val`.
        folds: how many; by default those that are there, else 5.
        flags: keys of `Config` for the training.
        recipe: of the training.
        out: folder of what is written.
        progress: where bars and notes go.

    Raises:
        MlrecError: no such dataset, predictions that do not fit, or a training that fails.
    """
    dataset = Dataset.load(data) if data is not None else Dataset.latest()
    if predictions is None:
        if split_name is not None:
            raise UsageError("--split says what --predictions are of; without them every sample of the folds is judged")
        if kind is not None:
            raise UsageError(f"--{kind} states what the scores of --predictions are; give --predictions, too")
        manifest, logits = _out_of_fold(dataset, folds, dict(flags or {}), recipe, out, progress)
    else:
        manifest = dataset.manifest(split_name or ("test" if "test" in dataset.info.splits else "val"))
        findings = ValidationReport()
        scores = read_scores(predictions, findings, kind=kind).against(manifest)
        one_line(findings, DataError)
        report_findings([scores], findings, progress)
        logits = scores.logits
    doubts = LabelErrors(manifest, likely_errors(logits, manifest.targets), to_review(logits, manifest.targets), out)
    _warn_unjudged(doubts, progress)
    write_text(out / TABLE, _table(doubts))
    shown = write_sheet(_lines(doubts), out / SHEET)
    review = counted(len(doubts.to_review), "annotation")
    progress.say(f"{out / TABLE}: {review} to review; {out / SHEET}: {counted(shown, 'image')}")
    return doubts


def _warn_unjudged(doubts: LabelErrors, progress: Progress) -> None:
    """Name the labels of which nothing can be estimated."""
    names = [name for name, enough in zip(doubts.manifest.labels, doubts.review.enough, strict=True) if not enough]
    if names:
        named = ", ".join(map(printable, names))
        progress.warn(
            f"nothing to review in {counted(len(names), 'label')} without a known positive or negative: {named}"
        )


def _out_of_fold(
    dataset: Dataset, folds: int | None, flags: dict[str, Any], recipe: str, out: Path, progress: Progress
) -> tuple[Manifest, NDArray[np.float64]]:
    """The divided split, and the logits of each of its samples by the fold that held it out."""
    dataset, held_out = _folds(dataset, folds, progress)
    pool = dataset.manifest(dataset.info.source[MADE][held_out[0]])
    from mlrec.training.features import FeatureCache

    features = FeatureCache(whole=pool)
    settings = {"freeze_backbone": True, "unknown": "ignore", **flags, "data": str(dataset.path)}
    row = {sample: k for k, sample in enumerate(pool.sample_ids)}
    logits = np.full(pool.targets.shape, np.nan)
    for val in held_out:
        train_split = val.removesuffix("val") + "train"
        with stopped_says(f"stopped before {val} was scored; mlrec label-errors starts anew"):
            run = train(
                {**settings, "train_split": train_split, "split": val}, recipe=recipe, out=out / RUNS,
                features=features, progress=progress,
            )  # fmt: skip
        found = Predictions.load(run.path / directory.PREDICTIONS)
        logits[[row[sample] for sample in found.sample_ids]] = found.logits
    missing = int(np.isnan(logits).any(axis=1).sum())
    if missing:
        raise DataError(
            f"{printable(dataset.path)}: {counted(missing, 'sample')} in no fold; give --folds to make them anew"
        )
    Predictions(pool.labels, pool.sample_ids, logits, pool.targets, pool.digest).save(out / directory.PREDICTIONS)
    return pool, logits


def _folds(dataset: Dataset, folds: int | None, progress: Progress) -> tuple[Dataset, list[str]]:
    there = [name for name in dataset.info.source.get(MADE, {}) if name.startswith("fold") and name.endswith("-val")]
    if not there or (folds is not None and folds != len(there)):
        made = split(dataset.path, folds=folds or FOLDS, progress=progress)
        progress.say(f"made {folds or FOLDS} folds of {made.pool} (mlrec split --folds says how)")
        return made.dataset, [name for name in made.sizes if name.endswith("-val")]
    progress.say(f"the {len(there)} folds of {dataset.path} (--folds makes others)")
    return dataset, there


def _table(doubts: LabelErrors) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["filename", "label", "given", "probability", "doubt"])
    for suspect in doubts.to_review:
        writer.writerow(
            [
                doubts.manifest.sample_ids[suspect.sample],
                doubts.manifest.labels[suspect.label],
                suspect.given,
                f"{suspect.probability:.4f}",
                f"{suspect.error_score:.4f}",
            ]
        )
    return stream.getvalue()


def _lines(doubts: LabelErrors) -> list[SheetRow]:
    """For each label the positives to review, then the negatives to review, the most doubtful first."""
    lines = []
    found = doubts.to_review
    for label, name in enumerate(doubts.manifest.labels):
        for given, heading in ((1, f"{name}: given, to review"), (0, f"{name}: not given, to review")):
            chosen = [s for s in found if (s.label, s.given) == (label, given)][:TILES]
            if chosen:
                lines.append(SheetRow(heading, tuple(_tile(doubts.manifest, suspect) for suspect in chosen)))
    return lines


def _tile(manifest: Manifest, suspect: LikelyError) -> Tile:
    box = None if manifest.boxes is None else tuple(manifest.boxes[suspect.sample].tolist())
    caption = f"{100 * suspect.probability:.1f} %  {manifest.sample_ids[suspect.sample]}"
    return Tile(manifest.path_of(suspect.sample), caption, box)


def summary(doubts: LabelErrors) -> Table:
    """For each label how many annotations to review, given and not given, and how many errors are expected."""
    review, targets = doubts.review, doubts.manifest.targets
    rows = []
    for label, name in enumerate(doubts.manifest.labels):
        flags = [int(np.count_nonzero(review.flags[:, label] & (targets[:, label] == given))) for given in (1, 0)]
        errors = review.expected[::-1, label].tolist() if review.enough[label] else [None, None]
        rows.append(Row((name, flags[0], errors[0], flags[1], errors[1])))
    columns = (
        Column("label", "label"),
        Column("given", "to review", "count", block="given"),
        Column("wrong", "errors expected", "mean", block="given"),
        Column("not_given", "to review", "count", block="not given"),
        Column("missing", "errors expected", "mean", block="not given"),
    )
    total, expected = int(review.flags.sum()), float(review.expected.sum())
    notes = (
        f"{counted(total, 'annotation')} to review; about {expected:,.0f} errors expected (confident learning)",
        f"with probabilities: {doubts.folder / TABLE}",
        f"pictures: {doubts.folder / SHEET}",
    )
    return Table(f"{doubts.manifest.name}/{doubts.manifest.split}: annotations to review", columns, tuple(rows), notes)
