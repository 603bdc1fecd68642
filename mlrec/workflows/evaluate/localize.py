"""`mlrec eval --localize`: compare heat maps of a model with object boxes and masks."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.images.decode import read_orientation, upright_mask
from mlrec.datasets.manifest import POSITIVE, Manifest
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
from mlrec.utils.errors import DataError, UsageError
from mlrec.utils.files import write_json, write_text
from mlrec.utils.names import label_columns
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate.evaluate import Evaluation
from mlrec.workflows.runtime import RuntimeOptions

if TYPE_CHECKING:
    from mlrec.datasets.objects import Objects


logger = logging.getLogger(__name__)
RESULT, PAIRS = "localization.json", "localization.csv"
ALL = "all"


@dataclass(frozen=True)
class PairGroup:
    """Mean localization measures over a group of image-label pairs.

    Attributes:
        name: Name of the group.
        pairs: Number of pairs.
        means: Mean of each measure in `MEASURES`, with a confidence interval.
    """

    name: str
    pairs: int
    means: dict[str, Interval | None]


@dataclass(frozen=True)
class Localization:
    """Result of `localize`: how well the heat maps of a model locate the annotated objects.

    Attributes:
        name: Name of the model.
        tolerance: Pointing tolerance in map cells.
        grid: Number of rows and columns in the maps.
        pairs: Image-label pairs, in the order of the manifest.
        groups: Mean measures over all pairs, over the pairs of each object size, and over the pairs of each label.
        sharpness: Effective number of attended locations for each attention head, by temperature; empty for a model
            without CSRA or spatial head.
    """

    name: str
    tolerance: float
    grid: tuple[int, int]
    pairs: list[LabeledMap]
    groups: list[list[PairGroup]]
    sharpness: dict[str, float]

    @property
    def tables(self) -> list[Table]:
        """Tables of pointing accuracy, heat-map mass inside objects, and attention sharpness."""
        tables = [_table(self)]
        if self.sharpness:
            tables.append(_sharpness_table(self))
        return tables

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `localization.json`."""
        groups = []
        for group in (group for block in self.groups for group in block):
            content: dict[str, Any] = {"name": group.name, "pairs": group.pairs}
            for key, interval in group.means.items():
                content[key] = None
                if interval is not None:
                    content[key] = {"value": interval.value, "low": interval.low, "high": interval.high}
            groups.append(content)
        return {
            "tolerance": self.tolerance,
            "grid": list(self.grid),
            "pairs": len(self.pairs),
            "groups": groups,
            "effective_locations": self.sharpness,
        }


def localize(
    evaluation: Evaluation,
    *,
    tolerance: float = TOLERANCE,
    machine: RuntimeOptions | None = None,
    progress: Progress = SILENT,
) -> Localization:
    """Compare the heat maps of an evaluated model with the objects in the split.

    The files `localization.json` and `localization.csv` are written to the folder of the evaluation.

    Args:
        evaluation: Evaluation of the model.
        tolerance: Pointing tolerance in map cells.
        machine: Runtime options.
        progress: Progress display.

    Raises:
        UsageError: There is more than one process.
        DataError: The dataset has no annotated objects, or no object in the split has a scored label.
    """
    if processes.world_size() > 1:
        raise UsageError("--localize runs in a single process; run the command without torchrun")
    machine = machine or RuntimeOptions()
    manifest = evaluation.dataset.manifest(evaluation.split)
    columns = label_columns(manifest.labels, evaluation.predictions.labels, evaluation.split)
    scored = set(label_columns(manifest.labels, list(evaluation.metrics.average_precision), evaluation.split))
    turned = not _sees_stored_pixels(evaluation.model)
    from mlrec.datasets.objects import load_objects  # imports readers

    objects = load_objects(evaluation.dataset, evaluation.split)
    pairs: list[LabeledMap] = []
    spread: list[NDArray[np.float64]] = []
    grid = (0, 0)
    for sample, scores, contributions, attention in _maps(evaluation.model, manifest, machine, progress):
        grid = scores.shape[-2:]
        masks = _masks(manifest.path_of(sample), objects[sample], turned=turned)
        for k, column in enumerate(columns):
            if column not in scored or manifest.targets[sample, column] != POSITIVE:
                continue
            counting, ignored = masks(column)
            if not counting:  # crowds and difficult objects only
                continue
            pairs.append(judge(sample, column, scores[k], contributions[k], counting, ignored, tolerance))
            if attention is not None:
                spread.append(effective_locations(attention[:, k]))
    if not pairs:
        raise DataError(
            f"{evaluation.dataset.path}: split '{evaluation.split}' has no object of a scored label; choose a "
            "different split"
        )
    result = Localization(
        name=evaluation.model.name,
        tolerance=tolerance,
        grid=grid,
        pairs=pairs,
        groups=_groups(pairs, manifest.labels),
        sharpness=_sharpness(evaluation.model, spread),
    )
    write_json(evaluation.path / RESULT, result.to_dict())
    write_text(evaluation.path / PAIRS, _csv(pairs, manifest))
    logger.info(f"{evaluation.path / PAIRS}: one line per image and label")
    return result


def _maps(path: Path, manifest: Manifest, machine: RuntimeOptions, progress: Progress) -> Iterator[tuple[Any, ...]]:
    """Yield the row number, scores, contributions and attention of each sample."""
    from mlrec.models.checkpoint import load_model, read_metadata
    from mlrec.training.attention_maps import read_maps
    from mlrec.training.dataloader import eval_batches
    from mlrec.training.prediction import open_on

    metadata, model = read_metadata(path), load_model(path)
    opened = open_on(model, machine.device, machine.precision)
    batches = eval_batches(
        manifest,
        model.preprocessing,
        batch_size=machine.batch_size_for(metadata.config, opened.device),
        workers=machine.workers,
        decode=metadata.decode,
        device=opened.device,
    )
    with progress.task("computing heat maps", len(manifest)) as step:
        for batch in batches:
            maps = opened.run(batch.images, partial(read_maps, model.head))
            for place, sample in enumerate(batch.samples.tolist()):
                if sample >= 0:
                    attention = None if maps.attention is None else maps.attention[place]
                    yield sample, maps.scores[place], maps.contributions[place], attention
            step(int((batch.samples >= 0).sum()))


def _sees_stored_pixels(path: Path) -> bool:
    """Return whether the model was trained on stored pixels, without applying the EXIF orientation."""
    from mlrec.models.checkpoint import read_metadata

    return read_metadata(path).decode == "pil"


def _masks(image: Path, objects: Objects, *, turned: bool = True) -> Callable[[int], tuple[list[Mask], Mask]]:
    """Return a function that maps a label to the masks of its objects, and the mask of ignored regions.

    Masks have the same orientation as the image passed to the model. Crowds and difficult objects are ignored.
    """
    orientation = read_orientation(image) if turned and len(objects) else 1

    def of_label(column: int) -> tuple[list[Mask], Mask]:
        mine = np.flatnonzero(objects.labels == column)
        if not len(mine):
            return [], np.zeros((1, 1), dtype=np.bool_)
        masks = [upright_mask(objects.mask(int(k)), orientation) for k in mine]
        left_out = objects.crowd[mine] | objects.difficult[mine]
        counting = [mask for mask, out in zip(masks, left_out, strict=True) if not out and mask.any()]
        ignored = [mask for mask, out in zip(masks, left_out, strict=True) if out]
        return counting, np.logical_or.reduce([np.zeros_like(masks[0]), *ignored])

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


def _table(result: Localization) -> Table:
    columns = (
        Column("group", "group", identity=True),
        Column("pairs", "pairs", "count"),
        Column("hit", "peak", "percent", "Pointing"),
        Column("hit_margin", "±", "percent", "Pointing"),
        Column("hit_by_chance", "chance", "percent", "Pointing"),
        Column("hit_by_centre", "center", "percent", "Pointing"),
        Column("attended", "T = 1", "percent", "Mass inside"),
        Column("contributed", "contributions", "percent", "Mass inside"),
        Column("contributed_margin", "±", "percent", "Mass inside"),
        Column("covered", "even map", "percent", "Mass inside"),
    )
    titles = ("", "by the largest object", "by label")
    rows = []
    for title, block in zip(titles, result.groups, strict=True):
        for group in block:
            cells = _cells(group)
            rows.append(Row(tuple(cells[column.key] for column in columns), title))
    notes = (
        f"pair: an image and one of its labels. A map has {result.grid[0]} x {result.grid[1]} cells. peak: "
        "percentage of pairs in which the distance from the maximum of the map to an object is at most "
        f"{result.tolerance:g} (in cells)",
        "T = 1: softmax of the scores, summed over heads; contributions: positive contributions of the locations to "
        "the logit",
        "±: half-width of the 95% bootstrap confidence interval over images; crowds and difficult objects are ignored",
    )
    return Table(f"{result.name}: localization", columns, tuple(rows), notes)


def _cells(group: PairGroup) -> dict[str, Any]:
    """Return the values of a table row: name, number of pairs, and each mean and its margin."""
    cells: dict[str, Any] = {"group": group.name, "pairs": group.pairs}
    for key, interval in group.means.items():
        cells[key] = cells[f"{key}_margin"] = None
        if interval is not None:
            cells[key], cells[f"{key}_margin"] = interval.value, interval.half_width
    return cells


def _sharpness_table(result: Localization) -> Table:
    columns = (Column("T", "T of the head", identity=True), Column("locations", "effective locations", "seconds"))
    rows = tuple(Row((t, number)) for t, number in result.sharpness.items())
    locations = result.grid[0] * result.grid[1]
    note = f"effective locations (out of {locations}): exponential of the attention entropy, averaged over pairs"
    return Table("Sharpness of the attention", columns, rows, (note,))


def _csv(pairs: Sequence[LabeledMap], manifest: Manifest) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["id", *(field.name for field in fields(LabeledMap)[1:])])
    for pair in pairs:
        _, _, *values = astuple(pair)
        shown = ["" if value != value else f"{value:.6g}" for value in values]
        writer.writerow([manifest.sample_ids[pair.sample], manifest.labels[pair.label], *shown])
    return stream.getvalue()
