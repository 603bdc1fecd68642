"""`mlrec attend`: heat maps of the contribution of each image location to the logit of a label."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.images.decode import Decoder
from mlrec.datasets.listing import Item
from mlrec.datasets.manifest import label_columns
from mlrec.predictions import probabilities_of
from mlrec.reports.figures.overlays import FileNames, Panel, Range, Strip, draw_strips, outlined, overlaid, picture_of
from mlrec.utils.errors import DataError, PredictionsError, UsageError, ValidationReport, counted
from mlrec.utils.files import write_bytes
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.runtime import RuntimeOptions

if TYPE_CHECKING:
    from mlrec.models.classifier import Architecture, Classifier

SHEET = "sheet.png"
SIDE, SHEET_SIDE = 360, 200  # pixels: longer side of an image in its own file, and on the contact sheet
TOP = 3  # labels per image


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Heat maps of one image.

    Attributes:
        item: Image, or a box of an image.
        labels: Names of K labels.
        probabilities: Their probabilities (K,).
        maps: Maps (K, h, w): contributions, whose sum is the logit, or the attention of one head, whose sum is 1.
        decode: Image backend of the model, with which the image is also shown.

    Example:
        >>> maps = AttentionMaps(Item("a.jpg", Path("a.jpg")), ("cat",), np.array([0.9]), np.zeros((1, 7, 7)))
        >>> maps.labels, maps.maps.shape
        (('cat',), (1, 7, 7))
    """

    item: Item
    labels: tuple[str, ...]
    probabilities: NDArray[np.float64]
    maps: NDArray[np.float32]
    decode: Decoder = "fast"


def attend(
    model: Path | str,
    items: Iterable[Item],
    *,
    labels: Sequence[str] | None = None,
    top: int = TOP,
    temperature: float | None = None,
    out: Path | str = "attention",
    machine: RuntimeOptions | None = None,
    progress: Progress = SILENT,
) -> list[Path]:
    """Draw each image next to the heat maps of some labels, and all images on a contact sheet.

    Args:
        model: Folder of a run or of an imported model, or a `.safetensors` file.
        items: Images or boxes of images.
        labels: Labels whose maps are drawn; by default the `top` most probable labels of each image.
        top: Number of labels per image.
        temperature: Draw the attention of the head with this temperature, instead of the contributions of all heads.
        out: Folder of the files.
        machine: Runtime options.
        progress: Receives progress bars and notes.

    Returns:
        Files that were written, the contact sheet last.

    Raises:
        UsageError: No head has this temperature.
        PredictionsError: A label is unknown.
        DataError: Some images cannot be read; all others have been drawn.
    """
    out, findings = Path(out), ValidationReport()
    maps = compute_maps(
        model, items, labels=labels, top=top, temperature=temperature, machine=machine, findings=findings,
        progress=progress,
    )  # fmt: skip
    written = []
    if maps:
        colours = Range.over([one.maps for one in maps], meaning(temperature))
        names = FileNames(taken={SHEET})
        with progress.task("drawing", len(maps)) as step:
            for one in maps:
                written.append(out / names.of(one.item))
                write_bytes(written[-1], draw_strips([strip(one, colours, SIDE)], colours)[0])
                step()
        sheet, count = draw_strips([strip(one, colours, SHEET_SIDE) for one in maps], colours)
        write_bytes(out / SHEET, sheet)
        written.append(out / SHEET)
        progress.say(f"{out / SHEET}: {count} of {counted(len(maps), 'image')}, with one colour scale")
    if len(findings.errors) > 1:
        raise DataError(f"{counted(len(findings.errors), 'image')} could not be read: {'; '.join(findings.errors[:3])}")
    findings.raise_errors("images", "")
    return written


def compute_maps(
    model: Classifier | Path | str,
    items: Iterable[Item],
    *,
    labels: Sequence[str] | None = None,
    top: int = TOP,
    temperature: float | None = None,
    machine: RuntimeOptions | None = None,
    findings: ValidationReport | None = None,
    progress: Progress = SILENT,
) -> list[AttentionMaps]:
    """Compute the heat maps of images; arguments as in `attend`, the model may be loaded already.

    `findings` receives the errors of images that cannot be read, which are skipped; without it the first one is raised.
    """
    from mlrec.training.attention_maps import read_maps
    from mlrec.training.inference import open_on
    from mlrec.training.inference_loader import load_stream

    machine = machine or RuntimeOptions()
    loaded, device, config, decode = _loaded(model, machine.device)
    source = model if isinstance(model, str | Path) else "the model"
    wanted = None if labels is None else label_columns(loaded.labels, labels, source, PredictionsError)
    head = None
    if temperature is not None:
        head = _head_of(temperature, loaded.architecture)
    opened = open_on(loaded, device, machine.precision)
    size = machine.batch_size_for(config, opened.device)
    batches = load_stream(items, loaded.preprocessing, batch_size=size, threads=machine.workers, decode=decode)
    results = []
    with progress.task("computing heat maps") as step:
        for batch in batches:
            readable = [item for item, error in batch.items if _readable(error, findings)]
            if readable:
                maps = opened.run(batch.images, partial(read_maps, loaded.head))
                values = maps.contributions
                if head is not None and maps.attention is not None:
                    values = maps.attention[:, head]
                # Rows after the last readable item fill up the batch.
                for item, logits, of_item in zip(readable, maps.logits, values, strict=False):
                    columns = wanted or np.argsort(-logits, kind="stable")[:top].tolist()
                    names = tuple(loaded.labels[k] for k in columns)
                    probabilities = probabilities_of(logits[columns])
                    results.append(AttentionMaps(item, names, probabilities, of_item[columns].copy(), decode))
            step(len(batch.items))
    return results


def _loaded(model: Classifier | Path | str, device: str) -> tuple[Classifier, str, Mapping[str, Any], Decoder]:
    """Return a model, its device, the keys that it was trained with, and its image backend."""
    from mlrec.models.checkpoint import load_model, read_metadata

    if isinstance(model, str | Path):
        metadata = read_metadata(model)
        return load_model(model), device, metadata.config, metadata.decode
    if device == "auto":  # the user's model stays on its device
        device = str(next(model.parameters()).device)
    return model, device, {}, "fast"


def strip(maps: AttentionMaps, colours: Range, side: int) -> Strip:
    """Return an image, with the outline of its box, next to each of its maps with label and probability.

    Args:
        maps: Maps of the image.
        colours: Colour scale.
        side: Largest length of the longer side of the image in pixels.
    """
    image, box = picture_of(maps.item, side, maps.decode)
    original = image if box is None else outlined(image, box)
    panels = [Panel(original, ("image", ""))]
    for label, probability, values in zip(maps.labels, maps.probabilities, maps.maps, strict=True):
        panels.append(Panel(overlaid(image, values, colours, box), (label, f"p = {probability:.2f}")))
    return Strip(maps.item.id, tuple(panels))


def meaning(temperature: float | None) -> str:
    """Return what the values of a map are, in words: contributions, or the attention of a head."""
    if temperature is None:
        return "contribution to the logit"
    return f"attention of the head T = {temperature:g}"


def _head_of(temperature: float, architecture: Architecture) -> int:
    """Return the index of the head with a temperature."""
    if architecture.head not in ("csra", "spatial"):
        raise UsageError(f"--head {temperature:g}: the model has no attention; leave --head out to see contributions")
    for k, known in enumerate(architecture.temperatures):
        if math.isclose(known, temperature):
            return k
    temperatures = ", ".join(f"{known:g}" for known in architecture.temperatures)
    raise UsageError(f"--temperature {temperature:g}: the heads of the model have T = {temperatures}")


def _readable(error: DataError | None, findings: ValidationReport | None) -> bool:
    if error is None:
        return True
    if findings is None:
        raise error
    findings.errors.append(str(error))
    return False
