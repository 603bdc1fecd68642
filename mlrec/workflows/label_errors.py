"""`mlrec label-errors`: train on folds, predict what was held out, and rank the labels that the models doubt."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.folder import Dataset
from mlrec.datasets.manifest import Manifest
from mlrec.errors import DataError, Findings, UsageError, counted, printable
from mlrec.files import write_text
from mlrec.metrics.scores import one_line, read_scores
from mlrec.metrics.suspects import DOUBTFUL, Suspect, suspects
from mlrec.predictions import Predictions, logits_of
from mlrec.progress import SILENT, Progress
from mlrec.reports.contactsheet import Line, Tile, write_sheet
from mlrec.reports.table import Column, Row, Table
from mlrec.runs import directory
from mlrec.workflows.interrupt import stopped_says
from mlrec.workflows.split import MADE, split
from mlrec.workflows.train import train

RECIPE = "demo"
FOLDS = 5
TABLE, SHEET, RUNS = "label_errors.csv", "label_errors.png", "folds"
TILES = 6  # pictures a label and kind on the contact sheet


@dataclass(frozen=True)
class Doubts:
    """The suspects among the samples of `manifest`, by doubt, and the folder in which everything was written."""

    manifest: Manifest
    found: list[Suspect]
    folder: Path

    def of_label(self, label: int, given: int, most: int | None = None) -> list[Suspect]:
        """The suspects of one column that are given (1) or not (0)."""
        return [s for s in self.found if s.label == label and s.given == given][:most]


def label_errors(
    data: Path | None = None,
    *,
    predictions: Path | None = None,
    split_name: str | None = None,
    folds: int | None = None,
    flags: Mapping[str, Any] | None = None,
    recipe: str = RECIPE,
    out: Path = Path("label-errors"),
    progress: Progress = SILENT,
) -> Doubts:
    """Rank likely wrong and likely missing labels, and write them as a CSV and a contact sheet into `out`.

    Without `predictions` a head is trained on each fold, with a frozen trunk whose features are computed once, and
    each sample is judged by the model that has not seen it. The folds are those that `mlrec split --folds` made, or are
    made now.

    Args:
        data: folder of a prepared data set; the one prepared last where None.
        predictions: scores of `split_name` by a model that was not trained on it: nothing is trained then.
        split_name: the split that was predicted; by default `test`, else `val`.
        folds: how many; by default those that are there, else 5.
        flags: keys of `Config` for the training.
        recipe: of the training.
        out: folder of what is written.
        progress: where bars and notes go.

    Raises:
        MlrecError: no such data set, predictions that do not fit, or a training that fails.
    """
    dataset = Dataset.load(data) if data is not None else Dataset.latest()
    if predictions is None:
        if split_name is not None:
            raise UsageError("--split says what --predictions are of; without them every sample of the folds is judged")
        manifest, logits = _out_of_fold(dataset, folds, dict(flags or {}), recipe, out, progress)
    else:
        manifest = dataset.manifest(split_name or ("test" if "test" in dataset.info.splits else "val"))
        findings = Findings()
        scores = read_scores(predictions, findings).against(manifest)
        one_line(findings, DataError)
        logits = scores.values.astype(np.float64) if scores.threshold == 0 else logits_of(scores.values)
    doubts = Doubts(manifest, suspects(logits, manifest.targets), out)
    write_text(out / TABLE, _table(doubts))
    shown = write_sheet(_lines(doubts), out / SHEET)
    progress.say(f"{out / TABLE}: every label by doubt; {out / SHEET}: {counted(shown, 'image')}")
    return doubts


def _out_of_fold(
    dataset: Dataset, folds: int | None, flags: dict[str, Any], recipe: str, out: Path, progress: Progress
) -> tuple[Manifest, NDArray[np.float64]]:
    """The divided split, and the logits of each of its samples by the fold that held it out."""
    dataset, held_out = _folds(dataset, folds, progress)
    pool = dataset.manifest(dataset.info.source[MADE][held_out[0]])
    from mlrec.training.features import FeatureStore

    features = FeatureStore(whole=pool)
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


def _table(doubts: Doubts) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["filename", "label", "given", "probability", "doubt"])
    for suspect in doubts.found:
        if suspect.doubt < DOUBTFUL:
            break
        writer.writerow(
            [
                doubts.manifest.sample_ids[suspect.sample],
                doubts.manifest.labels[suspect.label],
                suspect.given,
                f"{suspect.probability:.4f}",
                f"{suspect.doubt:.4f}",
            ]
        )
    return stream.getvalue()


def _lines(doubts: Doubts) -> list[Line]:
    """For each label its most doubtful positives, then its most doubtful negatives."""
    lines = []
    for label, name in enumerate(doubts.manifest.labels):
        for given, heading in ((1, f"{name}: given, likely wrong"), (0, f"{name}: not given, likely missing")):
            chosen = [s for s in doubts.of_label(label, given, TILES) if s.doubt >= DOUBTFUL]
            if chosen:
                lines.append(Line(heading, tuple(_tile(doubts.manifest, suspect) for suspect in chosen)))
    return lines


def _tile(manifest: Manifest, suspect: Suspect) -> Tile:
    box = None if manifest.boxes is None else tuple(manifest.boxes[suspect.sample].tolist())
    caption = f"{100 * suspect.probability:.1f} %  {manifest.sample_ids[suspect.sample]}"
    return Tile(manifest.path_of(suspect.sample), caption, box)


def summary(doubts: Doubts) -> Table:
    """For each label how many given ones, and how many that are not, the models doubt by more than one half."""
    rows = []
    for label, name in enumerate(doubts.manifest.labels):
        counts = [sum(s.doubt >= DOUBTFUL for s in doubts.of_label(label, given)) for given in (1, 0)]
        rows.append(Row((name, *counts)))
    columns = (
        Column("label", "label"),
        Column("wrong", "likely wrong", "count"),
        Column("missing", "likely missing", "count"),
    )
    notes = (f"one by one, with probabilities: {doubts.folder / TABLE}", f"pictures: {doubts.folder / SHEET}")
    return Table(f"{doubts.manifest.name}/{doubts.manifest.split}: labels in doubt", columns, tuple(rows), notes)
