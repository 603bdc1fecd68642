"""Report galleries: the hardest images and the annotations to review, with heat maps."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.dataset import Dataset
from mlrec.datasets.images.decode import Decoder, decode_box
from mlrec.datasets.listing import Item
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.label_errors import DOUBTFUL, LikelyError, Review, hardest, likely_errors, to_review
from mlrec.predictions import Floats
from mlrec.reports.figures.overlays import ColorScale, Pixels, bar, jpeg, overlaid, resized
from mlrec.reports.render.html import PageGallery, Picture, SampleCard, Section
from mlrec.reports.results import Result, scores_and_truth
from mlrec.run_folders.record import Run
from mlrec.utils.errors import MlrecError, ValidationReport
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate.attend import compute_maps
from mlrec.workflows.report.report import Report

logger = logging.getLogger(__name__)
HARDEST, WORST = 24, 3  # number of images, and of labels per image
PER_LABEL, MOST = 4, 100  # annotations to review per label and in all: a larger page is too large for an e-mail
SIDE, QUALITY = 256, 80  # pixels: longer side of an image; quality of JPEG
Map = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class _Pictures:
    """Images and heat maps for the samples to show.

    Attributes:
        names: Names of the labels.
        ids: Ids of all samples.
        pictures: Thumbnails of readable images, by sample.
        maps: Heat maps by sample and label, with the contribution of each location to the logit; empty if the model is
            not available.
    """

    names: tuple[str, ...]
    ids: Sequence[str]
    pictures: Mapping[int, Pixels]
    maps: Mapping[tuple[int, int], Map]

    @property
    def scale(self) -> Picture | None:
        """Color bar of the maps, from the lowest to the highest value; None without maps."""
        if not self.maps:
            return None
        colors = np.rot90(bar(ColorScale(1.0, -1.0), 160), k=-1)
        return Picture(jpeg(np.ascontiguousarray(colors)), "image/jpeg", "colors of the heat maps")

    def card(self, sample: int, errors: Sequence[LikelyError]) -> SampleCard:
        """Return the card of a sample: image, selected labels and maps; all maps share one color scale."""
        name, lines, pixels = self.ids[sample], tuple(map(self._line, errors)), self.pictures.get(sample)
        if pixels is None:
            return SampleCard(name, lines)
        if not all((sample, one.label) in self.maps for one in errors):
            return SampleCard(name, lines, _picture(pixels))
        maps = [self.maps[sample, one.label] for one in errors]
        scale = ColorScale.over([values[None] for values in maps])
        drawn = [_picture(overlaid(pixels, values, scale), line) for values, line in zip(maps, lines, strict=True)]
        return SampleCard(name, (f"colors: ±{scale.limit:.2g}",), _picture(pixels), tuple(drawn))

    def _line(self, one: LikelyError) -> str:
        annotation = "yes" if one.given else "no"
        return f"{self.names[one.label]} · label: {annotation}, model: {probability_text(one.probability)}"


def probability_text(probability: float) -> str:
    """Format a probability as a whole percentage, or as "< 1%" or "> 99%" below 0.01 or above 0.99.

    Example:
        >>> probability_text(0.04), probability_text(0.9991), probability_text(0.0)
        ('4%', '> 99%', '< 1%')
    """
    if probability < 0.01:
        return "< 1%"
    if probability > 0.99:
        return "> 99%"
    return f"{100 * probability:.0f}%"


def galleries(report: Report, labels: Sequence[str] | None = None, *, progress: Progress = SILENT) -> list[PageGallery]:
    """Return the hardest images and the annotations to review for each scored split.

    For each split, they are based on the first run of the row with the highest mAP.

    Args:
        report: Report that contains the runs.
        labels: Labels of the report; by default all.
        progress: Progress display.
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
    """Return the galleries for one run; `dataset` is appended to the titles."""
    logits, targets, names = scores_and_truth(run, labels)
    hard = {sample: _errors_of_sample(logits, targets, sample) for sample in hardest(logits, targets, HARDEST)}
    review = to_review(logits, targets)
    by_label = _errors_by_label(logits, targets, review)
    errors = [error for some in (*hard.values(), *by_label.values()) for error in some]
    pictures = _read_pictures(run, names, errors, progress)
    cards = tuple(pictures.card(sample, some) for sample, some in hard.items())
    why = (
        "Images with the highest mean loss over all labels, and the labels on which the model and the annotation "
        "disagree."
    )
    if pictures.maps:
        why += (
            " Heat maps show what each location adds to the logit of the label: red adds, blue subtracts. Each image "
            "has a separate scale, and the value of the strongest colors is stated; the white line encloses values of "
            "at least half the maximum of the scale."
        )
    shown = [PageGallery(f"Hardest images of {run.name}{dataset}", why, (Section("", cards),), pictures.scale)]
    if by_label:
        why = (
            f"The model confidently contradicts {int(review.flags.sum()):,} annotations, based on one threshold per "
            f"label; about {float(review.expected.sum()):,.0f} wrong or missing labels are expected. At most "
            f"{PER_LABEL} annotations per label are shown."
        )
        sections = tuple(
            Section(names[label], tuple(pictures.card(error.sample, [error]) for error in some))
            for label, some in by_label.items()
        )
        shown.append(PageGallery(f"Annotations to review{dataset}", why, sections, pictures.scale))
    return shown


def _errors_of_sample(logits: Floats, targets: NDArray[np.int8], sample: int) -> list[LikelyError]:
    """Return one to three labels of a sample whose annotations are most likely wrong."""
    row = slice(sample, sample + 1)
    first, *others = likely_errors(logits[row], targets[row], WORST)
    return [replace(one, sample=sample) for one in (first, *(one for one in others if one.error_score >= DOUBTFUL))]


def _errors_by_label(logits: Floats, targets: NDArray[np.int8], review: Review) -> dict[int, list[LikelyError]]:
    """Return the annotations to review by label, most likely errors first.

    If there are many labels, only the labels with the most likely errors are included.
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
    """Read the images of the samples to show, and compute heat maps for their labels."""
    ids, manifest = run.predictions().sample_ids, _manifest(run)
    if manifest is None:
        return _Pictures(names, ids, {}, {})
    pictures: dict[int, Pixels] = {}
    items = _items(manifest, ids, {error.sample for error in errors})
    how: Decoder = "pil" if run.record.config.get("image_backend") == "pil" else "fast"
    for sample, item in items.items():
        try:
            pixels = decode_box(item.path, item.box, how)
        except MlrecError:
            continue
        pictures[sample] = resized(pixels, SIDE)
    maps = _maps(run, names, {sample: items[sample] for sample in pictures}, progress)
    return _Pictures(names, ids, pictures, maps)


def _items(manifest: Manifest, ids: Sequence[str], samples: set[int]) -> dict[int, Item]:
    rows = {name: k for k, name in enumerate(manifest.sample_ids)}
    items = {}
    for sample in sorted(samples):
        name = ids[sample]
        if name in rows:
            items[sample] = Item(name, manifest.path_of(rows[name]), manifest.box_of(rows[name]))
    return items


def _maps(run: Run, names: Sequence[str], items: Mapping[int, Item], progress: Progress) -> dict[tuple[int, int], Map]:
    """Return the heat maps by sample and label; if the model is not available, warn and return none."""
    if not items:
        return {}
    try:
        attention = compute_maps(
            run.model or run.path, items.values(), labels=names, findings=ValidationReport(), progress=progress
        )
    except MlrecError as error:
        logger.warning(f"the page contains no heat maps: {error}")
        return {}
    sample = {item.id: k for k, item in items.items()}
    return {(sample[one.item.id], k): values for one in attention for k, values in enumerate(one.maps)}


def _manifest(run: Run) -> Manifest | None:
    """Return the manifest on which a run was scored; None if the manifest is missing or has changed."""
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


def _picture(pixels: Pixels, caption: str = "") -> Picture:
    return Picture(jpeg(pixels, QUALITY), "image/jpeg", caption)
