"""`mlrec predict`: images → labels and scores, one after the other, whoever computes the logits."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.images.decode import Decoder
from mlrec.datasets.listing import Item, items_of
from mlrec.models.onnx_file import onnx_file
from mlrec.models.preprocessing import Preprocessing
from mlrec.predictions import probabilities_of
from mlrec.reports.figures.overlays import FileNames, Panel, Strip, draw_strips, outlined, picture_of
from mlrec.runs.tuned import Tuned
from mlrec.utils.errors import DataError, MlrecError
from mlrec.utils.files import write_bytes
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.runtime import BATCH_SIZE, RuntimeOptions

if TYPE_CHECKING:
    from torch import Tensor

    from mlrec.models.classifier import Classifier

SIDE = 640  # pixels of a saved picture's longer side


@dataclass(frozen=True)
class Scorer:
    """Whatever gives logits: a trained model, or an exported one.

    Attributes:
        labels: C names.
        preprocessing: what it wants images to be made into.
        logits: uint8 images (B, 3, S, S), not normalised, → (B, C).
        decode: the decoder it was trained with.
        batch_size: images per batch unless the user sets another.
    """

    labels: tuple[str, ...]
    preprocessing: Preprocessing
    logits: Callable[[Tensor], NDArray[np.floating[Any]]]
    decode: Decoder = "fast"
    batch_size: int = BATCH_SIZE


@dataclass(frozen=True, eq=False)
class Prediction:
    """What was said of one image, or of one box of it.

    Attributes:
        id: its path, the sample's id in a manifest, or the box's.
        labels: all labels of the model, in its order.
        probabilities: (C,), of `labels`.
        predicted: Predicted labels, the most probable first.
        item: the image file, and the box.
    """

    id: str
    labels: tuple[str, ...]
    probabilities: NDArray[np.float64]
    predicted: tuple[str, ...]
    item: Item

    @property
    def scores(self) -> dict[str, float]:
        """Probability by label."""
        return dict(zip(self.labels, self.probabilities.tolist(), strict=True))


def predict(
    model: Classifier | Scorer | Path | str,
    images: str | Path | Iterable[str | Path | Item],
    *,
    threshold: float | NDArray[np.float64] = 0.5,
    top: int | None = None,
    machine: RuntimeOptions | None = None,
    on_error: Callable[[Item, DataError], None] | None = None,
    progress: Progress = SILENT,
) -> Iterator[Prediction]:
    """Predict the labels of images, one `Prediction` per image in input order, read as needed.

    Args:
        model: Model, or path of a run folder, an imported folder, a model file or an ONNX file.
        images: Files, folders, globs, manifests (`.jsonl`), or items with boxes.
        threshold: Lowest probability of a predicted label: one number, or one per label (C,).
        top: Number of labels to predict per image, the most probable ones, instead of those above the threshold.
        machine: Device, precision, batch size and number of threads.
        on_error: Function called with an image that cannot be read, which is then skipped; None raises the error.
        progress: Receives one step per image.

    Raises:
        DataError: An image cannot be read, and `on_error` is None.
        UsageError: A path does not exist.
        ModelError: There is no model at this path.

    Example:
        >>> from mlrec import create_model
        >>> from PIL import Image
        >>> Image.new("RGB", (64, 64), "red").save("photo.png")
        >>> model = create_model("test_resnet", 2, img_size=64, labels=["cat", "dog"])
        >>> [(prediction.id, prediction.probabilities.shape) for prediction in predict(model, "photo.png")]
        [('photo.png', (2,))]
    """
    machine = machine or RuntimeOptions()
    scorer = model if isinstance(model, Scorer) else open_scorer(model, machine)
    return _predictions(scorer, _items(images, progress), threshold, top, machine, on_error or _raise, progress)


def open_scorer(model: Classifier | Path | str, machine: RuntimeOptions | None = None) -> Scorer:
    """The scorer that a model is on this machine.

    Raises:
        ModelError: no model there.
        UsageError: a device or a precision that this machine does not have.
    """
    if isinstance(model, (str, Path)) and (file := onnx_file(model)) is not None:
        return _onnx_scorer(file)
    from mlrec.models.checkpoint import load_model, read_metadata
    from mlrec.training.inference import open_on

    machine = machine or RuntimeOptions()
    if isinstance(model, (str, Path)):
        metadata, loaded, device = read_metadata(model), load_model(model), machine.device
        decode, size = metadata.decode, machine.batch_size_for(metadata.config)
    else:  # a model of the user's own stays where it is, unless another device is asked for
        loaded, decode, size = model, "fast", machine.batch_size_for({})
        device = str(next(model.parameters()).device) if machine.device == "auto" else machine.device
    opened = open_on(loaded, device, machine.precision)

    def logits(images: Tensor) -> NDArray[np.floating[Any]]:
        made: NDArray[np.floating[Any]] = opened.run(images, loaded.head).cpu().numpy()
        return made

    return Scorer(loaded.labels, loaded.preprocessing, logits, decode, size)


def _onnx_scorer(file: Path) -> Scorer:
    """An exported model: neither timm nor the classes of the model are needed."""
    import torch

    from mlrec.models.onnx_file import OnnxModel
    from mlrec.training.failures import memory_explained
    from mlrec.training.transforms import normalize

    model = OnnxModel.load(file)

    def logits(images: Tensor) -> NDArray[np.floating[Any]]:
        with memory_explained("--batch-size", torch.device("cpu"), batch_size=len(images), size=images.shape[-1]):
            return model.logits(normalize(images, model.preprocessing).numpy())

    return Scorer(model.labels, model.preprocessing, logits, "pil" if model.decode == "pil" else "fast")


def with_tuned(
    scorer: Scorer, model: Path | str | None, threshold: float | None = None
) -> tuple[Scorer, float | NDArray[np.float64]]:
    """The scorer with calibrated probabilities, and the thresholds on them, that `tune` left beside `model`.

    Without a model the scorer as it is, and `threshold`, or 0.5.

    Raises:
        RunError: no tuned thresholds there.
    """
    if model is None:
        return scorer, 0.5 if threshold is None else threshold
    tuned = Tuned.load(model).ordered(scorer.labels)
    return replace(scorer, logits=lambda images: tuned.calibrated(scorer.logits(images))), tuned.probabilities


def _predictions(
    scorer: Scorer,
    items: Iterator[Item],
    threshold: float | NDArray[np.float64],
    top: int | None,
    machine: RuntimeOptions,
    on_error: Callable[[Item, DataError], None],
    progress: Progress,
) -> Iterator[Prediction]:
    from mlrec.training.inference_loader import load_stream

    batches = load_stream(
        items,
        scorer.preprocessing,
        batch_size=machine.batch_size or scorer.batch_size,
        threads=machine.workers,
        decode=scorer.decode,
    )
    with progress.task("predicting") as step:
        for batch in batches:
            rows = iter(_probabilities(scorer, batch.images))
            for item, error in batch.items:
                if error is not None:
                    on_error(item, error)
                else:
                    row = next(rows)
                    chosen = _chosen(row, threshold, top)
                    yield Prediction(item.id, scorer.labels, row, tuple(scorer.labels[k] for k in chosen), item)
                step()


def _probabilities(scorer: Scorer, images: Tensor) -> NDArray[np.float64]:
    if not len(images):
        return np.empty((0, len(scorer.labels)))
    logits = np.asarray(scorer.logits(images), dtype=np.float64)
    if not np.isfinite(logits).all():
        raise MlrecError("the model gives logits that are no finite numbers; its weights are damaged or diverged")
    return probabilities_of(logits)


def _chosen(row: NDArray[np.float64], threshold: float | NDArray[np.float64], top: int | None) -> Sequence[int]:
    """Columns that are said, the most probable first; of equal ones the first."""
    order = np.argsort(-row, kind="stable")
    if top is not None:
        return order[:top].tolist()  # type: ignore[no-any-return]
    return order[(row >= threshold)[order]].tolist()  # type: ignore[no-any-return]


def _items(images: str | Path | Iterable[str | Path | Item], progress: Progress) -> Iterator[Item]:
    if isinstance(images, (str, Path)):
        return items_of([str(images)], progress.warn)
    given = list(images) if isinstance(images, (list, tuple)) else images
    if isinstance(given, list) and not any(isinstance(image, Item) for image in given):
        return items_of([str(image) for image in given], progress.warn)
    return (
        item
        for image in given
        for item in ([image] if isinstance(image, Item) else items_of([str(image)], progress.warn))
    )


SEPARATOR = ";"  # between the labels of a CSV cell
RowFormat = Callable[[str, Sequence[str], Mapping[str, float]], str]  # id, predicted labels, probability by label


def csv_header(labels: Sequence[str]) -> str:
    """Return the heading line of the CSV output: `id`, `labels`, and one column per label."""
    return _csv_line(["id", "labels", *labels])


def csv_row(sample_id: str, predicted: Sequence[str], scores: Mapping[str, float]) -> str:
    """Return one prediction as a line of CSV.

    Probabilities have all their digits, because rounded ones would be tied when they are scored.

    Args:
        sample_id: Id of the image.
        predicted: Predicted labels.
        scores: Probability by label.

    Example:
        >>> csv_row("a.jpg", ["cat", "dog"], {"cat": 0.9, "dog": 0.75})
        'a.jpg,cat;dog,0.9,0.75'
    """
    return _csv_line([sample_id, SEPARATOR.join(predicted), *(repr(float(score)) for score in scores.values())])


def jsonl_row(sample_id: str, predicted: Sequence[str], scores: Mapping[str, float]) -> str:
    """Return one prediction as a line of JSON; arguments as in `csv_row`.

    Example:
        >>> jsonl_row("a.jpg", ["cat"], {"cat": 0.9})
        '{"id": "a.jpg", "labels": ["cat"], "scores": {"cat": 0.9}}'
    """
    exact = {label: float(score) for label, score in scores.items()}
    return json.dumps({"id": sample_id, "labels": list(predicted), "scores": exact}, ensure_ascii=False)


ROW_FORMATS: dict[str, RowFormat] = {"csv": csv_row, "jsonl": jsonl_row}


def _csv_line(cells: Sequence[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(cells)
    return stream.getvalue()


class Gallery:
    """Writes each image with what was said of it into a folder."""

    def __init__(self, folder: Path, decode: Decoder = "fast") -> None:
        self._folder, self._names, self._decode = folder, FileNames(), decode

    def add(self, found: Prediction) -> Path:
        """Write the picture of one prediction; a box is drawn where it lies."""
        pixels, box = picture_of(found.item, SIDE, self._decode)
        scores = found.scores
        lines = tuple(f"{label}  {scores[label]:.2f}" for label in found.predicted) or ("no label",)
        shown = pixels if box is None else outlined(pixels, box)
        path = self._folder / self._names.of(found.item)
        write_bytes(path, draw_strips([Strip(found.id, (Panel(shown, lines),))])[0])
        return path


def _raise(_: Item, error: DataError) -> None:
    raise error
