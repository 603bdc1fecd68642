"""The images of a report that are worth a look, with what the best model of each dataset sees in them."""

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
from mlrec.runs.record import Run
from mlrec.utils.errors import MlrecError, ValidationReport
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate.attend import compute_maps, meaning
from mlrec.workflows.report.report import Report

HARDEST, WORST = 24, 3  # images, and at most so many labels of each
PER_LABEL, MOST = 4, 100  # annotations to review per label, and of all: a larger page is too large for a mail
SIDE = 176  # pixels of a thumbnail's longer side
Map = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class _Album:
    """What is at hand of the samples to be shown.

    Attributes:
        names: of the labels.
        ids: of all samples.
        pictures: by sample; those whose image can be read.
        maps: by sample and label, what each location adds to the logit; empty without the model.
        colours: what the colours of all maps stand for.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...]
    pictures: Mapping[int, Pixels]
    maps: Mapping[tuple[int, int], Map]
    colours: Range | None

    @property
    def scale(self) -> Picture | None:
        """The colours and their values."""
        if self.colours is None:
            return None
        return Picture(draw_strips([], self.colours)[0], "image/png", f"colours: {self.colours.meaning}")

    def card(self, sample: int, found: Sequence[LikelyError]) -> SummaryCard:
        """A sample with some of its labels, and the map of each."""
        name, lines, pixels = self.ids[sample], tuple(map(self._line, found)), self.pictures.get(sample)
        if pixels is None:
            return SummaryCard(name, lines)
        if self.colours is None or not all((sample, one.label) in self.maps for one in found):
            return SummaryCard(name, lines, _jpeg(pixels))
        maps = tuple(
            _jpeg(overlaid(pixels, self.maps[sample, one.label], self.colours), line)
            for one, line in zip(found, lines, strict=True)
        )
        return SummaryCard(name, (), _jpeg(pixels), maps)

    def _line(self, one: LikelyError) -> str:
        said = "labelled" if one.given else "not labelled"
        return f"{self.names[one.label]}: {said}, {percent(one.probability)} %"


def galleries(report: Report, labels: Sequence[str] | None = None, *, progress: Progress = SILENT) -> list[PageGallery]:
    """The hardest images of each dataset by its best run of a report, and the annotations to review of each label.

    Args:
        report: whose best runs they are.
        labels: those that the report was made of; None for all.
        progress: where bars and notes go.
    """
    best: dict[tuple[object, ...], Result] = {}
    for row in sorted(report.rows, key=lambda row: -(row.values["mAP"] or 0.0)):
        best.setdefault((row.dataset, row.split, row.digest), row)
    runs = {run.path: run for run in report.runs}
    return [
        gallery
        for row in best.values()
        for gallery in _galleries_of(
            runs[row.paths[0]], f", {row.dataset} {row.split}" if len(best) > 1 else "", labels, progress
        )
    ]


def _galleries_of(run: Run, where: str, labels: Sequence[str] | None, progress: Progress) -> list[PageGallery]:
    """Those of one run; `where` tells its dataset in the titles."""
    logits, targets, names = scores_and_truth(run, labels)
    hard = [(sample, _of_sample(logits, targets, sample)) for sample in hardest(logits, targets, HARDEST)]
    review = to_review(logits, targets)
    doubted = _by_label(logits, targets, review)
    seen = [*(one for _, found in hard for one in found), *(one for found in doubted.values() for one in found)]
    album = _album(run, names, seen, progress)
    cards = tuple(album.card(sample, found) for sample, found in hard)
    why = "The highest mean loss over all labels; of each the labels that the model and the annotation disagree on."
    why += " Maps: what each place of the image adds to the label's logit." if album.maps else ""
    shown = [PageGallery(f"Hardest images of {run.name}{where}", why, (Section("", cards),), album.scale)]
    if doubted:
        why = (
            f"The model confidently contradicts {int(review.flags.sum()):,} annotations, by thresholds of each label; "
            f"about {float(review.expected.sum()):,.0f} wrong or missing labels are expected. "
            f"Shown: at most {PER_LABEL} per label."
        )
        sections = tuple(
            Section(names[label], tuple(album.card(one.sample, [one]) for one in found))
            for label, found in doubted.items()
        )
        shown.append(PageGallery(f"Annotations to review{where}", why, sections, album.scale))
    return shown


def _of_sample(logits: Floats, targets: NDArray[np.int8], sample: int) -> list[LikelyError]:
    """The labels of a sample that the model doubts, at most three; the one it doubts most in any case."""
    row = slice(sample, sample + 1)
    first, *others = likely_errors(logits[row], targets[row], WORST)
    return [replace(one, sample=sample) for one in (first, *(one for one in others if one.error_score >= DOUBTFUL))]


def _by_label(logits: Floats, targets: NDArray[np.int8], review: Review) -> dict[int, list[LikelyError]]:
    """By label the annotations to review, the most doubtful first; of many labels those that are doubted most."""
    count = targets.shape[1]
    each = min(max(MOST // count, 1), PER_LABEL)
    found: dict[int, list[LikelyError]] = {}
    for label in range(count):
        rows = np.flatnonzero(review.flags[:, label])
        ranked = likely_errors(logits[rows, label : label + 1], targets[rows, label : label + 1], each)
        doubted = [replace(one, sample=int(rows[one.sample])) for one in ranked]
        if doubted:
            found[label] = [replace(one, label=label) for one in doubted]
    most = sorted(found, key=lambda label: -found[label][0].error_score)[: MOST // each]
    return {label: found[label] for label in sorted(most)}


def _album(run: Run, names: tuple[str, ...], seen: Sequence[LikelyError], progress: Progress) -> _Album:
    ids, manifest = run.predictions().sample_ids, _manifest(run)
    pictures: dict[int, Pixels] = {}
    maps: dict[tuple[int, int], Map] = {}
    if manifest is not None:
        items = _items(manifest, ids, {one.sample for one in seen})
        how: Decoder = "pil" if run.record.config.get("image_backend") == "pil" else "fast"
        for sample, item in items.items():
            try:
                pixels = decode(item.path, how) if item.box is None else decode_box(item.path, item.box, how)
            except MlrecError:
                continue
            pictures[sample] = shrunk(pixels, SIDE)
        maps = _maps(run, names, {sample: items[sample] for sample in pictures}, progress)
    drawn = [maps[key][None] for one in seen if (key := (one.sample, one.label)) in maps]
    return _Album(names, ids, pictures, maps, Range.over(drawn, meaning(None)) if drawn else None)


def _items(manifest: Manifest, ids: Sequence[str], samples: set[int]) -> dict[int, Item]:
    place = {name: k for k, name in enumerate(manifest.sample_ids)}
    items = {}
    for sample in sorted(samples):
        if (k := place.get(ids[sample])) is not None:
            box = None if manifest.boxes is None else tuple(manifest.boxes[k].tolist())
            items[sample] = Item(ids[sample], manifest.path_of(k), box)
    return items


def _maps(run: Run, names: Sequence[str], items: Mapping[int, Item], progress: Progress) -> dict[tuple[int, int], Map]:
    """By sample and label; nothing where the model is not at hand, which is told."""
    if not items:
        return {}
    try:
        looks = compute_maps(
            run.model or run.path, items.values(), labels=names, findings=ValidationReport(), progress=progress
        )
    except MlrecError as error:
        progress.warn(f"no maps on the page: {error}")
        return {}
    sample = {item.id: k for k, item in items.items()}
    return {(sample[one.item.id], k): values for one in looks for k, values in enumerate(one.maps)}


def _manifest(run: Run) -> Manifest | None:
    """The manifest a run was scored on; None where it is gone or has changed since."""
    scored = run.record.scored
    if scored is None or not scored.path:
        return None
    try:
        manifest = Dataset.load(scored.path).manifest(scored.split)
    except MlrecError:
        return None
    return manifest if manifest.digest == scored.digest else None


def _jpeg(pixels: Pixels, caption: str = "") -> Picture:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=80)
    return Picture(stream.getvalue(), "image/jpeg", caption)
