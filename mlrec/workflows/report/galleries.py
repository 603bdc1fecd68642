"""Galleries of a report: the hardest images and the annotations to review, with heat maps."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.images.decode import Decoder, decode, decode_box
from mlrec.datasets.listing import Item
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.label_errors import DOUBTFUL, LikelyError, Review, hardest, likely_errors, to_review
from mlrec.predictions import Floats
from mlrec.reports.figures.overlays import Pixels, Range, draw_strips, overlaid, shrunk
from mlrec.reports.render.html import PageGallery, Picture, Section, SummaryCard
from mlrec.reports.render.table import percent
from mlrec.reports.results import Result, scores_and_truth
from mlrec.run_folders.record import Run
from mlrec.utils.errors import MlrecError, ValidationReport
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate.attend import compute_maps, meaning
from mlrec.workflows.report.report import Report

HARDEST, WORST = 24, 3  # number of images, and of labels per image
PER_LABEL, MOST = 4, 100  # annotations to review per label and in all: a larger page is too large for an e-mail
SIDE = 176  # pixels: longer side of a thumbnail
Map = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class _Pictures:
    """Images and heat maps of the samples to show.

    Attributes:
        names: Names of the labels.
        ids: Ids of all samples.
        pictures: Thumbnails by sample, of images that can be read.
        maps: Contribution of each location to the logit, by sample and label; empty without the model.
        colours: Colour scale of all maps.
    """

    names: tuple[str, ...]
    ids: Sequence[str]
    pictures: Mapping[int, Pixels]
    maps: Mapping[tuple[int, int], Map]
    colours: Range | None

    @property
    def scale(self) -> Picture | None:
        """The colour scale as an image."""
        if self.colours is None:
            return None
        return Picture(draw_strips([], self.colours)[0], "image/png", f"colours: {self.colours.meaning}")

    def card(self, sample: int, errors: Sequence[LikelyError]) -> SummaryCard:
        """Return the card of a sample with some of its labels, and the map of each."""
        name, lines, pixels = self.ids[sample], tuple(map(self._line, errors)), self.pictures.get(sample)
        if pixels is None:
            return SummaryCard(name, lines)
        if self.colours is None or not all((sample, one.label) in self.maps for one in errors):
            return SummaryCard(name, lines, _jpeg(pixels))
        maps = tuple(
            _jpeg(overlaid(pixels, self.maps[sample, one.label], self.colours), line)
            for one, line in zip(errors, lines, strict=True)
        )
        return SummaryCard(name, (), _jpeg(pixels), maps)

    def _line(self, one: LikelyError) -> str:
        annotation = "labelled" if one.given else "not labelled"
        return f"{self.names[one.label]}: {annotation}, {percent(one.probability)} %"


def galleries(report: Report, labels: Sequence[str] | None = None, *, progress: Progress = SILENT) -> list[PageGallery]:
    """Return the hardest images and the annotations to review, by the best run of each dataset.

    Args:
        report: Report with the runs.
        labels: Labels of the report; by default all.
        progress: Receives progress bars and notes.
    """
    best: dict[tuple[object, ...], Result] = {}
    for row in sorted(report.rows, key=lambda row: -(row.values["mAP"] or 0.0)):
        best.setdefault((row.dataset, row.split, row.digest), row)
    runs = {run.path: run for run in report.runs}
    shown = []
    for row in best.values():
        dataset = f", {row.dataset} {row.split}" if len(best) > 1 else ""
        shown += _galleries_of(runs[row.paths[0]], dataset, labels, progress)
    return shown


def _galleries_of(run: Run, dataset: str, labels: Sequence[str] | None, progress: Progress) -> list[PageGallery]:
    """Return the galleries of one run; `dataset` is appended to the titles."""
    logits, targets, names = scores_and_truth(run, labels)
    hard = {sample: _errors_of_sample(logits, targets, sample) for sample in hardest(logits, targets, HARDEST)}
    review = to_review(logits, targets)
    by_label = _errors_by_label(logits, targets, review)
    errors = [error for some in (*hard.values(), *by_label.values()) for error in some]
    pictures = _read_pictures(run, names, errors, progress)
    cards = tuple(pictures.card(sample, some) for sample, some in hard.items())
    why = "Images with the highest mean loss over all labels, and the labels on which model and annotation disagree."
    if pictures.maps:
        why += " Heat maps: contribution of each location to the logit of the label."
    shown = [PageGallery(f"Hardest images of {run.name}{dataset}", why, (Section("", cards),), pictures.scale)]
    if by_label:
        why = (
            f"The model confidently contradicts {int(review.flags.sum()):,} annotations, by a threshold per label; "
            f"about {float(review.expected.sum()):,.0f} wrong or missing labels are expected. "
            f"Shown: at most {PER_LABEL} per label."
        )
        sections = tuple(
            Section(names[label], tuple(pictures.card(error.sample, [error]) for error in some))
            for label, some in by_label.items()
        )
        shown.append(PageGallery(f"Annotations to review{dataset}", why, sections, pictures.scale))
    return shown


def _errors_of_sample(logits: Floats, targets: NDArray[np.int8], sample: int) -> list[LikelyError]:
    """Return the most likely wrong labels of a sample, at least one and at most three."""
    row = slice(sample, sample + 1)
    first, *others = likely_errors(logits[row], targets[row], WORST)
    return [replace(one, sample=sample) for one in (first, *(one for one in others if one.error_score >= DOUBTFUL))]


def _errors_by_label(logits: Floats, targets: NDArray[np.int8], review: Review) -> dict[int, list[LikelyError]]:
    """Return the annotations to review by label, the most likely errors first.

    With many labels, only the labels with the most likely errors are included.
    """
    count = targets.shape[1]
    per_label = min(max(MOST // count, 1), PER_LABEL)
    errors: dict[int, list[LikelyError]] = {}
    for label in range(count):
        rows = np.flatnonzero(review.flags[:, label])
        ranked = likely_errors(logits[rows, label : label + 1], targets[rows, label : label + 1], per_label)
        if ranked:
            errors[label] = [replace(one, sample=int(rows[one.sample]), label=label) for one in ranked]
    most = sorted(errors, key=lambda label: -errors[label][0].error_score)[: MOST // per_label]
    return {label: errors[label] for label in sorted(most)}


def _read_pictures(run: Run, names: tuple[str, ...], errors: Sequence[LikelyError], progress: Progress) -> _Pictures:
    """Read the images of the samples to show, and compute the heat maps of their labels."""
    ids, manifest = run.predictions().sample_ids, _manifest(run)
    if manifest is None:
        return _Pictures(names, ids, {}, {}, None)
    pictures: dict[int, Pixels] = {}
    items = _items(manifest, ids, {error.sample for error in errors})
    how: Decoder = "pil" if run.record.config.get("image_backend") == "pil" else "fast"
    for sample, item in items.items():
        try:
            pixels = decode(item.path, how) if item.box is None else decode_box(item.path, item.box, how)
        except MlrecError:
            continue
        pictures[sample] = shrunk(pixels, SIDE)
    maps = _maps(run, names, {sample: items[sample] for sample in pictures}, progress)
    keys = [(error.sample, error.label) for error in errors]
    shown = [maps[key][None] for key in keys if key in maps]
    colours = Range.over(shown, meaning(None)) if shown else None
    return _Pictures(names, ids, pictures, maps, colours)


def _items(manifest: Manifest, ids: Sequence[str], samples: set[int]) -> dict[int, Item]:
    rows = {name: k for k, name in enumerate(manifest.sample_ids)}
    items = {}
    for sample in sorted(samples):
        name = ids[sample]
        if name in rows:
            box = None if manifest.boxes is None else tuple(manifest.boxes[rows[name]].tolist())
            items[sample] = Item(name, manifest.path_of(rows[name]), box)
    return items


def _maps(run: Run, names: Sequence[str], items: Mapping[int, Item], progress: Progress) -> dict[tuple[int, int], Map]:
    """Return the heat maps by sample and label; empty, with a warning, if the model is not available."""
    if not items:
        return {}
    try:
        attention = compute_maps(
            run.model or run.path, items.values(), labels=names, findings=ValidationReport(), progress=progress
        )
    except MlrecError as error:
        progress.warn(f"no heat maps on the page: {error}")
        return {}
    sample = {item.id: k for k, item in items.items()}
    return {(sample[one.item.id], k): values for one in attention for k, values in enumerate(one.maps)}


def _manifest(run: Run) -> Manifest | None:
    """Return the manifest that a run was scored on; None if it is missing or has changed."""
    scored = run.record.scored
    if scored is None or not scored.path:
        return None
    try:
        manifest = Dataset.load(scored.path).manifest(scored.split)
    except MlrecError:
        return None
    if manifest.digest != scored.digest:
        return None
    return manifest


def _jpeg(pixels: Pixels, caption: str = "") -> Picture:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=80)
    return Picture(stream.getvalue(), "image/jpeg", caption)
