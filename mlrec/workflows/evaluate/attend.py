"""`mlrec attend`: what in an image speaks for a label, as pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

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

SHEET = "sheet.png"
SIDE, SHEET_SIDE = 360, 200  # pixels of a picture's longer side
TOP = 3


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """The chosen maps of one image.

    Attributes:
        labels: K names.
        probabilities: (K,).
        maps: (K, h, w); contributions, which add up to the logits, or the attention of a head, which adds up to 1.
        decode: how the model saw the image, and it is to be shown.
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
    """Draw each image beside the maps of some labels, and all of them on a sheet; the files, the sheet last.

    Args:
        model: folder of a run or of an imported model, or a `.safetensors`.
        items: images or boxes of images.
        labels: whose maps to draw; left out, those of the `top` most probable labels of each image.
        top: how many.
        temperature: draw the attention of the head of this temperature instead of the contributions of all heads.
        out: folder of the pictures.
        machine: how to run the model.
        progress: where bars and notes go.

    Raises:
        UsageError: no head has that temperature.
        PredictionsError: no label has that name.
        DataError: images that cannot be read; all others have been drawn.
    """
    out, findings = Path(out), ValidationReport()
    looks = compute_maps(
        model, items, labels=labels, top=top, temperature=temperature, machine=machine, findings=findings,
        progress=progress,
    )  # fmt: skip
    written = []
    if looks:
        colours = Range.over([one.maps for one in looks], meaning(temperature))
        names = FileNames(taken={SHEET})
        with progress.task("drawing", len(looks)) as step:
            for one in looks:
                written.append(out / names.of(one.item))
                write_bytes(written[-1], draw_strips([strip(one, colours, SIDE)], colours)[0])
                step()
        sheet, fitted = draw_strips([strip(one, colours, SHEET_SIDE) for one in looks], colours)
        write_bytes(out / SHEET, sheet)
        written.append(out / SHEET)
        progress.say(f"{out / SHEET}: {fitted} of {counted(len(looks), 'image')}, one range of colours for all")
    if len(findings.errors) > 1:
        raise DataError(f"{counted(len(findings.errors), 'image')} could not be read: {'; '.join(findings.errors[:3])}")
    findings.raise_errors("images", "")
    return written


def compute_maps(
    model: Path | str,
    items: Iterable[Item],
    *,
    labels: Sequence[str] | None = None,
    top: int = TOP,
    temperature: float | None = None,
    machine: RuntimeOptions | None = None,
    findings: ValidationReport | None = None,
    progress: Progress = SILENT,
) -> list[AttentionMaps]:
    """The maps that `attend` draws; an image that cannot be read goes to `findings`, or is an error without them."""
    from mlrec.models.checkpoint import load_model, read_metadata
    from mlrec.training.attention_maps import read_maps
    from mlrec.training.inference import open_on
    from mlrec.training.inference_loader import load_stream

    machine = machine or RuntimeOptions()
    metadata = read_metadata(model)
    wanted = None if labels is None else label_columns(metadata.labels, labels, model, PredictionsError)
    head = None
    if temperature is not None:
        known = metadata.architecture.temperatures if metadata.architecture.head in ("csra", "spatial") else ()
        head = _head_of(temperature, known)
    loaded = load_model(model)
    opened = open_on(loaded, machine.device, machine.precision)
    batches = load_stream(
        items, loaded.preprocessing, batch_size=machine.batch_size_for(metadata.config), threads=machine.workers,
        decode=metadata.decode,
    )  # fmt: skip
    looks = []
    with progress.task("reading maps") as step:
        for batch in batches:
            good = [item for item, error in batch.items if _readable(error, findings)]
            maps = opened.run(batch.images, partial(read_maps, loaded.head)) if good else None
            if maps is not None:
                drawn = maps.contributions if head is None or maps.attention is None else maps.attention[:, head]
                # Rows after the last readable item fill up the batch.
                for item, logits, values in zip(good, maps.logits, drawn, strict=False):
                    columns = wanted or np.argsort(-logits, kind="stable")[:top].tolist()
                    names = tuple(metadata.labels[k] for k in columns)
                    looks.append(
                        AttentionMaps(
                            item, names, probabilities_of(logits[columns]), values[columns].copy(), metadata.decode
                        )
                    )
            step(len(batch.items))
    return looks


def strip(look: AttentionMaps, colours: Range, side: int) -> Strip:
    """The image, its box drawn, and beside it each map with the label and its probability."""
    small, box = picture_of(look.item, side, look.decode)
    original = small if box is None else outlined(small, box)
    maps = tuple(
        Panel(overlaid(small, values, colours, box), (label, f"p = {probability:.2f}"))
        for label, probability, values in zip(look.labels, look.probabilities, look.maps, strict=True)
    )
    return Strip(look.item.id, (Panel(original, ("image", "")), *maps))


def meaning(temperature: float | None) -> str:
    """What the numbers of a map are."""
    if temperature is None:
        return "contribution to the logit"
    return f"attention of the head T = {temperature:g}"


def _head_of(temperature: float, known: Sequence[float]) -> int:
    for k, degree in enumerate(known):
        if math.isclose(degree, temperature):
            return k
    there = ", ".join(f"{degree:g}" for degree in known)
    raise UsageError(
        f"--temperature {temperature:g}: the model's heads have T = {there}"
        if known
        else f"--temperature {temperature:g}: the model has no attention; leave --temperature out to see contributions"
    )


def _readable(error: DataError | None, findings: ValidationReport | None) -> bool:
    if error is None:
        return True
    if findings is None:
        raise error
    findings.errors.append(str(error))
    return False
