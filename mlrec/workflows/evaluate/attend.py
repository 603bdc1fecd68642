"""`mlrec attend`: heat maps that show the contribution of each image location to the logit of a label."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.images.decode import Decoder
from mlrec.datasets.listing import Item
from mlrec.predictions import probabilities_of
from mlrec.reports.figures.overlays import (
    PEAKS_BELOW,
    ColorScale,
    FileNames,
    Panel,
    Pixels,
    Strip,
    draw_sheet,
    draw_strip,
    jpeg,
    name_of,
    outlined,
    overlaid,
    picture_of,
)
from mlrec.utils.errors import DataError, PredictionsError, UsageError, ValidationReport, counted
from mlrec.utils.files import write_bytes
from mlrec.utils.names import label_columns
from mlrec.utils.progress import SILENT, Progress
from mlrec.utils.threads import thread_map
from mlrec.workflows.runtime import RuntimeOptions

if TYPE_CHECKING:
    from mlrec.models.classifier import Architecture, Classifier


logger = logging.getLogger(__name__)
SIDE = 360  # pixels: longer side of an image
PER_SHEET = 40  # images on one contact sheet
TOP = 3  # labels per image
Scale = Literal["image", "sheet"]


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Heat maps for one image.

    Attributes:
        item: Image, or a box in an image.
        labels: Names of the K labels.
        probabilities: Array of shape (K,) with the probabilities of the labels.
        maps: Array of shape (K, h, w) with one map per label. The values are contributions to the logit, the attention
            of one head, or the attention of the label's query; `meaning` states which.
        decode: Image backend of the model, which also reads the image for the figure.
        meaning: Meaning of the map values, as text.

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
    meaning: str = "contribution to the logit"


def attend(
    model: Path | str,
    items: Iterable[Item],
    *,
    labels: Sequence[str] | None = None,
    top: int = TOP,
    temperature: float | None = None,
    scale: Scale = "image",
    out: Path | str = "attention",
    machine: RuntimeOptions | None = None,
    progress: Progress = SILENT,
) -> list[Path]:
    """Draw each image next to the heat maps of selected labels, and write contact sheets of all images.

    Args:
        model: Folder of a run or of an imported model, or a `.safetensors` file.
        items: Images or boxes in images.
        labels: Labels whose maps are drawn; by default the `top` most probable labels of each image.
        top: Number of labels per image, used if `labels` is None.
        temperature: Temperature of a head. If set, the attention of this head is drawn instead of the contributions of
            all heads.
        scale: "image" for a separate color scale per image, or "sheet" for one scale for all images.
        out: Output folder.
        machine: Runtime options.
        progress: Progress display.

    Returns:
        Paths of the written files; the contact sheets are last.

    Raises:
        UsageError: The model has no head with this temperature.
        PredictionsError: A label is unknown.
        DataError: Some images cannot be read; all other images have been drawn.
    """
    findings = ValidationReport()
    maps = compute_maps(
        model,
        items,
        labels=labels,
        top=top,
        temperature=temperature,
        machine=machine,
        findings=findings,
        progress=progress,
    )
    written = []
    if maps:
        shared = None
        note = f"{maps[0].meaning}; each image has its own color scale"
        if scale == "sheet":
            shared = ColorScale.over([one.maps for one in maps], PEAKS_BELOW)
            note = f"{maps[0].meaning}; one color scale for all images"
        written = draw_maps(maps, Path(out), shared, note, progress)
    if len(findings.errors) > 1:
        raise DataError(f"{counted(len(findings.errors), 'image')} could not be read: {'; '.join(findings.errors[:3])}")
    findings.raise_errors("images", "")
    return written


def draw_maps(
    maps: Sequence[AttentionMaps], out: Path, shared: ColorScale | None, note: str, progress: Progress = SILENT
) -> list[Path]:
    """Write one JPEG file per image, and contact sheets with at most 40 images each.

    Args:
        maps: Heat maps of the images.
        out: Output folder.
        shared: Color scale shared by all images; None for one scale per image.
        note: Line at the top of the contact sheets.
        progress: Progress display.

    Returns:
        Paths of the written files; the contact sheets are last.
    """

    def draw(one: AttentionMaps) -> tuple[Pixels, bytes]:
        picture = draw_strip(strip(one, shared or ColorScale.over([one.maps])))
        return picture, jpeg(picture)

    sheets = [out / name for name in sheet_names(len(maps))]
    names = FileNames(taken={sheet.name for sheet in sheets})
    written, page = [], []
    with progress.task("drawing", len(maps)) as step, thread_map(draw, maps) as pictures:
        for k, (picture, content) in enumerate(pictures):
            written.append(out / names.of(maps[k].item))
            write_bytes(written[-1], content)
            page.append(picture)
            if len(page) == PER_SHEET or k == len(maps) - 1:
                write_bytes(sheets[k // PER_SHEET], jpeg(draw_sheet(page, note)))
                page = []
            step()
    logger.info(f"{counted(len(sheets), 'contact sheet')} of {counted(len(maps), 'image')}: {note}")
    return [*written, *sheets]


def sheet_names(images: int) -> list[str]:
    """Return the file names of the contact sheets for a number of images.

    The names contain the number of sheets, so that they differ from the names written by an earlier call.

    Example:
        >>> sheet_names(3), sheet_names(41)
        (['sheet.jpg'], ['sheet-1-of-2.jpg', 'sheet-2-of-2.jpg'])
    """
    count = -(-images // PER_SHEET)
    if count == 1:
        return ["sheet.jpg"]
    return [f"sheet-{k}-of-{count}.jpg" for k in range(1, count + 1)]


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
    """Compute the heat maps of images with a stored or loaded model; for the arguments, see `attend`.

    Unreadable images are skipped, and the errors are added to `findings`. If `findings` is None, the first error is
    raised.
    """
    from mlrec.training.attention_maps import read_shown_maps
    from mlrec.training.inference_loader import load_stream
    from mlrec.training.prediction import open_on

    machine = machine or RuntimeOptions()
    loaded, device, config, decode = _loaded(model, machine.device)
    wanted = None
    if labels is not None:
        source = model if isinstance(model, str | Path) else "the model"
        wanted = label_columns(loaded.labels, labels, source, PredictionsError)
    head = None
    if temperature is not None:
        head = _head_of(temperature, loaded.architecture)
    shown = meaning(loaded.architecture.head, temperature)
    opened = open_on(loaded, device, machine.precision, keep_mode=True)
    size = machine.batch_size_for(config, opened.device)
    batches = load_stream(items, loaded.preprocessing, batch_size=size, threads=machine.workers, decode=decode)
    read = partial(read_shown_maps, opened.model.head, temperature_head=head)
    results = []
    with progress.task("computing heat maps") as step:
        for batch in batches:
            readable = [item for item, error in batch.items if _readable(error, findings)]
            if readable:
                found, values = opened.run(batch.images, read)
                # Rows after the last readable item fill up the batch.
                for item, logits, of_item in zip(readable, found, values, strict=False):
                    columns = wanted or np.argsort(-logits, kind="stable")[:top].tolist()
                    names = tuple(loaded.labels[k] for k in columns)
                    probabilities = probabilities_of(logits[columns])
                    results.append(AttentionMaps(item, names, probabilities, of_item[columns].copy(), decode, shown))
            step(len(batch.items))
    return results


def _loaded(model: Classifier | Path | str, device: str) -> tuple[Classifier, str, Mapping[str, Any], Decoder]:
    """Return a model, and its device, training config and image backend."""
    from mlrec.models.checkpoint import load_model, read_metadata

    if isinstance(model, str | Path):
        metadata = read_metadata(model)
        return load_model(model), device, metadata.config, metadata.decode
    if device == "auto":  # the user's model stays on its device
        device = str(next(model.parameters()).device)
    return model, device, {}, "fast"


def strip(maps: AttentionMaps, scale: ColorScale) -> Strip:
    """Return a horizontal strip: the image with its box outline, and each map with label and probability.

    Args:
        maps: Heat maps of the image.
        scale: Color scale.
    """
    image, box = picture_of(maps.item, SIDE, maps.decode)
    original = image if box is None else outlined(image, box)
    panels = [Panel(original, ("image",))]
    for label, probability, values in zip(maps.labels, maps.probabilities, maps.maps, strict=True):
        panels.append(Panel(overlaid(image, values, scale, box), (f"{label}  p = {probability:.2f}",)))
    return Strip(name_of(maps.item), tuple(panels), scale)


def meaning(head: str, temperature: float | None) -> str:
    """Describe what the map values are: contributions, or the attention of a head or a query."""
    if head in ("attention-pool", "ml-decoder", "q2l"):
        return "attention of the label's query"
    if temperature is None:
        return "contribution to the logit"
    return f"attention of the head with T = {temperature:g}"


def _head_of(temperature: float, architecture: Architecture) -> int:
    """Return the index of the head with this temperature."""
    if architecture.head not in ("csra", "spatial"):
        raise UsageError(
            f"--temperature {temperature:g}: only csra and spatial heads have temperatures; omit --temperature"
        )
    for k, known in enumerate(architecture.temperatures):
        if math.isclose(known, temperature):
            return k
    temperatures = ", ".join(f"{known:g}" for known in architecture.temperatures)
    raise UsageError(f"--temperature {temperature:g}: no head has this temperature; choose one of {temperatures}")


def _readable(error: DataError | None, findings: ValidationReport | None) -> bool:
    if error is None:
        return True
    if findings is None:
        raise error
    findings.errors.append(str(error))
    return False
