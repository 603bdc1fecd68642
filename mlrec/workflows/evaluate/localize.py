"""`mlrec eval --localize`: the maps of a model beside the boxes and masks of what they should lie on."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.images.decode import read_orientation, upright_mask
from mlrec.datasets.manifest import POSITIVE, Manifest, label_columns
from mlrec.datasets.object_sizes import MAP_SIZES
from mlrec.metrics.intervals import Interval
from mlrec.metrics.localization import (
    MEASURES,
    TOLERANCE,
    LabeledMap,
    Mask,
    effective_locations,
    judge,
    mean_intervals,
)
from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils import processes
from mlrec.utils.errors import DataError, UsageError, printable
from mlrec.utils.files import write_json, write_text
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate.evaluate import Evaluation
from mlrec.workflows.runtime import RuntimeOptions

if TYPE_CHECKING:
    from mlrec.datasets.objects import Objects

RESULT, PAIRS = "localization.json", "localization.csv"
ALL = "all"


@dataclass(frozen=True)
class PairGroup:
    """Pairs taken together: their number, and the mean of each of `MEASURES` with its interval."""

    name: str
    pairs: int
    means: dict[str, Interval | None]


@dataclass(frozen=True)
class Localization:
    """How the maps did.

    Attributes:
        name: of the model.
        tolerance: of pointing, in cells.
        grid: rows and columns of the maps.
        pairs: (image, label), in the manifest's order.
        groups: all pairs, by the size of the largest object, by label.
        sharpness: for each head's temperature, the effective number of locations its attention is spread over.
    """

    name: str
    tolerance: float
    grid: tuple[int, int]
    pairs: list[LabeledMap]
    groups: list[list[PairGroup]]
    sharpness: dict[str, float]

    @property
    def tables(self) -> list[Table]:
        """Pointing and mass by group; the sharpness of each head."""
        found = [_table(self)]
        if self.sharpness:
            found.append(_sharpness_table(self))
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "tolerance": self.tolerance,
            "grid": list(self.grid),
            "pairs": len(self.pairs),
            "groups": [
                {"name": group.name, "pairs": group.pairs}
                | {key: None if i is None else {"value": i.value, "low": i.low, "high": i.high}
                   for key, i in group.means.items()}
                for block in self.groups
                for group in block
            ],
            "effective_locations": self.sharpness,
        }  # fmt: skip


def localize(
    found: Evaluation,
    *,
    tolerance: float = TOLERANCE,
    machine: RuntimeOptions | None = None,
    progress: Progress = SILENT,
) -> Localization:
    """Compare the maps of an evaluated model with the objects of the split, and write what came out beside it.

    Args:
        found: the evaluation.
        tolerance: of pointing, in cells of the map.
        machine: how to run the model.
        progress: where bars and notes go.

    Raises:
        DataError: the dataset has no objects, or none of a label that the model knows.
    """
    if processes.world_size() > 1:
        raise UsageError("--localize works in one process; run it without torchrun")
    manifest = found.dataset.manifest(found.split)
    columns = label_columns(manifest.labels, found.predictions.labels, found.split)
    asked = set(label_columns(manifest.labels, list(found.metrics.average_precision), found.split))
    turned = not _sees_stored_pixels(found.model)
    from mlrec.datasets.objects import load_objects  # imports readers

    objects = load_objects(found.dataset, found.split)
    pairs: list[LabeledMap] = []
    spread: list[NDArray[np.float64]] = []
    grid = (0, 0)
    for sample, scores, contributions, attention in _maps(found.model, manifest, machine or RuntimeOptions(), progress):
        grid = scores.shape[-2:]
        masks = _masks(manifest.path_of(sample), objects[sample], turned=turned)
        for k, column in enumerate(columns):
            if column not in asked or manifest.targets[sample, column] != POSITIVE:
                continue
            things, ignored = masks(column)
            if not things:
                continue
            pairs.append(judge(sample, column, scores[k], contributions[k], things, ignored, tolerance))
            if attention is not None:
                spread.append(effective_locations(attention[:, k]))
    if not pairs:
        raise DataError(
            f"{printable(found.dataset.path)}: {found.split} has no object that counts; choose another split"
        )
    result = Localization(
        name=found.model.name,
        tolerance=tolerance,
        grid=grid,
        pairs=pairs,
        groups=_groups(pairs, manifest.labels),
        sharpness=_sharpness(found.model, spread),
    )
    write_json(found.path / RESULT, result.to_dict())
    write_text(found.path / PAIRS, _csv(pairs, manifest))
    progress.say(f"{found.path / PAIRS}: each image and label")
    return result


def _maps(path: Path, manifest: Manifest, machine: RuntimeOptions, progress: Progress) -> Iterator[tuple[Any, ...]]:
    """For each sample its place, scores, contributions and attention."""
    from mlrec.models.checkpoint import load_model, read_metadata
    from mlrec.training.attention_maps import read_maps
    from mlrec.training.batches import eval_batches
    from mlrec.training.inference import open_on

    metadata, model = read_metadata(path), load_model(path)
    opened = open_on(model, machine.device, machine.precision)
    batches = eval_batches(
        manifest,
        model.preprocessing,
        batch_size=machine.batch_size_for(metadata.config),
        workers=machine.workers,
        decode=metadata.decode,
        progress=progress,
        device=opened.device,
    )
    with progress.task("reading maps", len(manifest)) as step:
        for batch in batches:
            maps = opened.run(batch.images, partial(read_maps, model.head))
            for place, sample in enumerate(batch.samples.tolist()):
                if sample >= 0:
                    attention = None if maps.attention is None else maps.attention[place]
                    yield sample, maps.scores[place], maps.contributions[place], attention
            step(int((batch.samples >= 0).sum()))


def _sees_stored_pixels(path: Path) -> bool:
    """Whether the model was trained on pixels as they are stored, whatever the EXIF orientation says."""
    from mlrec.models.checkpoint import read_metadata

    return read_metadata(path).decode == "pil"


def _masks(image: Path, objects: Objects, *, turned: bool = True) -> Callable[[int], tuple[list[Mask], Mask]]:
    """By label the masks of the objects that count, and what is ignored; both turned as the model saw the image."""
    orientation = read_orientation(image) if turned and len(objects) else 1

    def of_label(column: int) -> tuple[list[Mask], Mask]:
        mine = np.flatnonzero(objects.labels == column)
        if not len(mine):
            return [], np.zeros((1, 1), dtype=np.bool_)
        masks = [upright_mask(objects.mask(int(k)), orientation) for k in mine]
        left_out = objects.crowd[mine] | objects.difficult[mine]
        things = [mask for mask, out in zip(masks, left_out, strict=True) if not out and mask.any()]
        ignored = [mask for mask, out in zip(masks, left_out, strict=True) if out]
        return things, np.logical_or.reduce([np.zeros_like(masks[0]), *ignored])

    return of_label


def _groups(pairs: Sequence[LabeledMap], labels: Sequence[str]) -> list[list[PairGroup]]:
    by_size = [_group(size.name, [pair for pair in pairs if size.low <= pair.area < size.high]) for size in MAP_SIZES]
    by_label = [_group(label, [pair for pair in pairs if pair.label == k]) for k, label in enumerate(labels)]
    return [[_group(ALL, pairs)], *[[g for g in block if g.pairs] for block in (by_size, by_label)]]


def _group(name: str, pairs: Sequence[LabeledMap]) -> PairGroup:
    if not pairs:
        return PairGroup(name, 0, {})
    values = np.array([[getattr(pair, key) for key in MEASURES] for pair in pairs], dtype=np.float64)
    means = mean_intervals(values, [pair.sample for pair in pairs])
    return PairGroup(name, len(pairs), dict(zip(MEASURES, means, strict=True)))


def _sharpness(path: Path, spread: Sequence[NDArray[np.float64]]) -> dict[str, float]:
    from mlrec.models.checkpoint import read_metadata

    if not spread:
        return {}
    temperatures = read_metadata(path).architecture.temperatures
    return {f"{t:g}": float(mean) for t, mean in zip(temperatures, np.mean(spread, axis=0), strict=True)}


def _table(found: Localization) -> Table:
    columns = (
        Column("group", "pairs of", identity=True),
        Column("pairs", "number", "count"),
        Column("hit", "peak", "percent", "Pointing"),
        Column("hit_margin", "±", "percent", "Pointing"),
        Column("hit_by_chance", "chance", "percent", "Pointing"),
        Column("hit_by_centre", "centre", "percent", "Pointing"),
        Column("attended", "T = 1", "percent", "Mass inside"),
        Column("contributed", "contributions", "percent", "Mass inside"),
        Column("contributed_margin", "±", "percent", "Mass inside"),
        Column("covered", "even map", "percent", "Mass inside"),
    )
    titles = ("", "by the largest object", "by label")
    rows = tuple(
        Row(_cells(group), title) for title, block in zip(titles, found.groups, strict=True) for group in block
    )
    notes = (
        f"a pair is an image and a label it shows; maps of {found.grid[0]} x {found.grid[1]} cells; peak within "
        f"{found.tolerance:g} cells of an object",
        "T = 1: softmax of the scores, heads added; contributions: what is positive of what adds up to the logit",
        "±: half of the 95 % bootstrap interval over images; crowds and difficult objects count neither way",
    )
    return Table(f"{printable(found.name)}: where the maps look", columns, rows, notes)


def _cells(group: PairGroup) -> tuple[Any, ...]:
    def value(key: str) -> float | None:
        interval = group.means[key]
        return None if interval is None else interval.value

    def margin(key: str) -> float | None:
        interval = group.means[key]
        return None if interval is None else interval.half_width

    return (
        group.name, group.pairs, value("hit"), margin("hit"), value("hit_by_chance"), value("hit_by_centre"),
        value("attended"), value("contributed"), margin("contributed"), value("covered"),
    )  # fmt: skip


def _sharpness_table(found: Localization) -> Table:
    columns = (Column("T", "head's T", identity=True), Column("locations", "effective locations", "seconds"))
    rows = tuple(Row((t, number)) for t, number in found.sharpness.items())
    of = f"of {found.grid[0] * found.grid[1]}; e to the entropy of the attention, mean over pairs"
    return Table("How sharp the attention is", columns, rows, (of,))


def _csv(pairs: Sequence[LabeledMap], manifest: Manifest) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["id", *(field.name for field in fields(LabeledMap)[1:])])
    for pair in pairs:
        _, _, *values = astuple(pair)
        shown = ["" if value != value else f"{value:.6g}" for value in values]
        writer.writerow([manifest.sample_ids[pair.sample], manifest.labels[pair.label], *shown])
    return stream.getvalue()
