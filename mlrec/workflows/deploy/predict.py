"""`mlrec predict`: predict labels and probabilities of images with a trained or exported model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.images.decode import Decoder
from mlrec.datasets.listing import Item
from mlrec.models.onnx import onnx_file
from mlrec.models.preprocessing import Preprocessing
from mlrec.predictions import probabilities_of
from mlrec.reports.figures.overlays import FileNames, Panel, Strip, draw_strip, jpeg, outlined, picture_of
from mlrec.run_folders.tuned import Tuned, tuned_file
from mlrec.utils.errors import DataError, MlrecError, ModelError, UsageError
from mlrec.utils.files import sha256, write_bytes
from mlrec.utils.progress import SILENT, Progress, Step
from mlrec.workflows.deploy.predict_inputs import Images, items_from
from mlrec.workflows.runtime import BATCH_SIZE, RuntimeOptions

if TYPE_CHECKING:
    from torch import Tensor

    from mlrec.models.classifier import Classifier

SIDE = 640  # pixels: longer side of a saved image


@dataclass(frozen=True)
class Scorer:
    """Trained or exported model that is ready to compute logits.

    Attributes:
        labels: Names of the C labels.
        preprocessing: Image preprocessing.
        logits: Function that takes a batch of uint8 images without normalization, of shape (B, 3, S, S), and returns
            logits of shape (B, C).
        decode: Image backend that reads the images.
        batch_size: Default number of images per batch.
        identity: Other values that affect the scores: digests of the weights and the calibration, the device type, and
            the precision.
    """

    labels: tuple[str, ...]
    preprocessing: Preprocessing
    logits: Callable[[Tensor], NDArray[np.floating[Any]]]
    decode: Decoder = "fast"
    batch_size: int = BATCH_SIZE
    identity: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Prediction:
    """Predicted labels of an image, or of a box in an image.

    Attributes:
        id: Path or URL of the image, sample id in a manifest, id of the box, or a number such as `image-0` for an image
            without a name.
        labels: All labels of the model, in the order of the logits.
        probabilities: Array of shape (C,) with the probabilities of `labels`.
        predicted: Predicted labels, most probable first.
        item: Image file and box.
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
    model: Classifier | Scorer | str | os.PathLike[str],
    images: Images,
    *,
    threshold: float | NDArray[np.float64] = 0.5,
    top: int | None = None,
    allow_urls: bool = False,
    machine: RuntimeOptions | None = None,
    on_error: Callable[[Item, DataError], None] | None = None,
    progress: Progress = SILENT,
) -> Iterator[Prediction]:
    """Predict the labels of images.

    Images are read in batches, in input order, so any number of images can be processed.

    Args:
        model: Model, or folder or file of a model. A model in training mode stays in training mode, but is evaluated in
            eval mode.
        images: One image or an iterable of images. A string or a path may refer to an image file, a folder, a glob, a
            list (`.txt`), a manifest (`.jsonl`), a tar shard, or a Parquet file with images. Other supported inputs are
            bytes of an image file, open binary files, Pillow images, manifests, samples of a manifest and items with
            boxes. RGB images may be numpy uint8 arrays of shape (H, W, 3) or (B, H, W, 3). They may also be tensors of
            shape (3, H, W) or (B, 3, H, W), with uint8 values or floats from 0 to 1. Images without a name receive the
            ids `image-0`, `image-1` and so on.
        threshold: Minimum probability of a predicted label: one number for all labels, or an array of shape (C,).
        top: Number of labels to predict per image: the most probable labels are predicted, and `threshold` is not used.
        allow_urls: Whether to fetch http and https URLs. The limits for each URL are 64 MiB and 30 seconds, and only
            public addresses are allowed.
        machine: Batch size, device and precision, for example `RuntimeOptions(batch_size=1, device="cpu")` from
            `mlrec.workflows.runtime`.
        on_error: Function that is called with each unreadable image and its error; the image is then skipped. By
            default, the error is raised.
        progress: Progress display.

    Raises:
        DataError: An array has an unsupported shape, dtype or range, or an image cannot be read and `on_error` is None.
        UsageError: A path does not exist, a URL is passed without `allow_urls`, a threshold is outside [0, 1], or the
            number of thresholds is not C.
        ModelError: The model does not exist or cannot be used.
        MlrecError: A logit is NaN or infinite.

    Example:
        >>> from mlrec import create_model
        >>> from PIL import Image
        >>> Image.new("RGB", (64, 64), "red").save("photo.png")
        >>> model = create_model("test_resnet", 2, img_size=64, labels=["cat", "dog"])
        >>> prediction = next(predict(model, "photo.png"))
        >>> prediction.id, prediction.probabilities.shape
        ('photo.png', (2,))
    """
    machine = machine or RuntimeOptions()
    if not isinstance(model, Scorer):
        model = open_scorer(model, machine)
    _check_threshold(threshold, len(model.labels))
    items = items_from(images, how=model.decode, allow_urls=allow_urls)
    return _with_progress(model, items, threshold, top, machine, on_error or _raise, progress)


def _check_threshold(threshold: float | NDArray[np.float64], labels: int) -> None:
    cut = np.asarray(threshold, dtype=np.float64)
    if cut.shape not in ((), (labels,)) or np.isnan(cut).any() or (np.isfinite(cut) & ((cut < 0) | (cut > 1))).any():
        raise UsageError(f"threshold = {threshold}: expected one number from 0 to 1, or {labels} such numbers")


def open_scorer(model: Classifier | str | os.PathLike[str], machine: RuntimeOptions | None = None) -> Scorer:
    """Load a model on a device of this machine, and return a scorer.

    Args:
        model: Model, or the folder or file of a trained or exported model.
        machine: Runtime options.

    Raises:
        ModelError: The model does not exist or cannot be used.
        UsageError: This machine does not support the device or the precision.
    """
    machine = machine or RuntimeOptions()
    if not isinstance(model, (str, os.PathLike)):
        if not hasattr(model, "preprocessing"):
            raise ModelError(
                f"a model of type {type(model).__name__} has no labels and no preprocessing; pass a model from "
                "load_model or create_model, or the folder of a run"
            )
        device = machine.device
        if device == "auto":  # the user's model stays on its device
            device = str(next(model.parameters()).device)
        return _torch_scorer(model, machine, device, "fast", {})
    model = Path(model)
    file = onnx_file(model)
    if file is not None:
        return _onnx_scorer(file)
    from mlrec.models.checkpoint import load_model, read_metadata

    metadata = read_metadata(model)
    scorer = _torch_scorer(load_model(model), machine, machine.device, metadata.decode, metadata.config)
    return replace(scorer, identity={"model": metadata.sha256, **scorer.identity})


def _torch_scorer(
    model: Classifier, machine: RuntimeOptions, device: str, decode: Decoder, config: Mapping[str, Any]
) -> Scorer:
    from mlrec.training.prediction import open_on

    opened = open_on(model, device, machine.precision, keep_mode=True)

    def logits(images: Tensor) -> NDArray[np.floating[Any]]:
        values: NDArray[np.floating[Any]] = opened.run(images, opened.model.head).cpu().numpy()
        return values

    identity = {"device": opened.device.type, "precision": opened.precision}
    batch_size = machine.batch_size_for(config, opened.device)
    return Scorer(model.labels, model.preprocessing, logits, decode, batch_size, identity)


def _onnx_scorer(file: Path) -> Scorer:
    """Open an exported model, which does not require timm."""
    import torch

    from mlrec.models.onnx import OnnxModel
    from mlrec.training.devices import memory_explained
    from mlrec.training.transforms import normalize

    model = OnnxModel.load(file)

    def logits(images: Tensor) -> NDArray[np.floating[Any]]:
        with memory_explained("--batch-size", torch.device("cpu"), batch_size=len(images), size=images.shape[-1]):
            return model.logits(normalize(images, model.preprocessing).numpy())

    decode: Decoder = "fast"
    if model.decode == "pil":
        decode = "pil"
    identity = {"model": sha256(file), "device": "cpu", "precision": "fp32"}
    return Scorer(model.labels, model.preprocessing, logits, decode, identity=identity)


def with_tuned(
    scorer: Scorer, model: Path | str | None, threshold: float | None = None
) -> tuple[Scorer, float | NDArray[np.float64]]:
    """Apply the calibration from `mlrec tune` to a scorer.

    Args:
        scorer: Scorer for the model.
        model: Model whose tuned thresholds are used; None for no calibration.
        threshold: Threshold without calibration; by default 0.5.

    Returns:
        If `model` is set, a scorer that returns calibrated logits, and an array of shape (C,) with thresholds for the
        calibrated probabilities. Otherwise, the unchanged scorer and the threshold.

    Raises:
        RunError: The model has no tuned thresholds.
    """
    if model is None:
        return scorer, 0.5 if threshold is None else threshold
    tuned = Tuned.load(model).ordered(scorer.labels)
    calibrated = replace(
        scorer,
        logits=lambda images: tuned.calibrated(scorer.logits(images)),
        identity={**scorer.identity, "tuned": sha256(tuned_file(model))},
    )
    return calibrated, tuned.probabilities


def _with_progress(
    scorer: Scorer,
    items: Iterator[Item],
    threshold: float | NDArray[np.float64],
    top: int | None,
    machine: RuntimeOptions,
    on_error: Callable[[Item, DataError], None],
    progress: Progress,
) -> Iterator[Prediction]:
    with progress.task("predicting") as step:
        yield from predictions_of(scorer, items, threshold, top, machine, on_error, step)


def predictions_of(
    scorer: Scorer,
    items: Iterator[Item],
    threshold: float | NDArray[np.float64],
    top: int | None,
    machine: RuntimeOptions,
    on_error: Callable[[Item, DataError], None],
    step: Step,
) -> Iterator[Prediction]:
    """Predict the labels of items; for the arguments, see `predict`."""
    from mlrec.training.inference_loader import load_stream

    batches = load_stream(
        items,
        scorer.preprocessing,
        batch_size=machine.batch_size or scorer.batch_size,
        threads=machine.workers,
        decode=scorer.decode,
    )
    for batch in batches:
        rows = iter(_probabilities(scorer, batch.images))
        for item, error in batch.items:
            if error is not None:
                on_error(item, error)
                continue
            row = next(rows)  # only readable items have a row
            predicted = tuple(scorer.labels[k] for k in _predicted_columns(row, threshold, top))
            yield Prediction(item.id, scorer.labels, row, predicted, item)
            step()


def _probabilities(scorer: Scorer, images: Tensor) -> NDArray[np.float64]:
    if not len(images):
        return np.empty((0, len(scorer.labels)))
    logits = np.asarray(scorer.logits(images), dtype=np.float64)
    if not np.isfinite(logits).all():
        raise MlrecError(
            "the logits are NaN or infinite, because the weights are damaged or training diverged; use different "
            "weights"
        )
    return probabilities_of(logits)


def _predicted_columns(
    row: NDArray[np.float64], threshold: float | NDArray[np.float64], top: int | None
) -> Sequence[int]:
    """Return the columns of the predicted labels, most probable first."""
    order = np.argsort(-row, kind="stable")
    if top is not None:
        return order[:top].tolist()  # type: ignore[no-any-return]
    return order[(row >= threshold)[order]].tolist()  # type: ignore[no-any-return]


class Gallery:
    """Writer that saves each image, together with its predicted labels, to a folder.

    Args:
        folder: Folder to write to.
        decode: Image backend.
    """

    def __init__(self, folder: Path, decode: Decoder = "fast") -> None:
        self._folder, self._names, self._decode = folder, FileNames(), decode

    def add(self, found: Prediction) -> Path:
        """Write the image of a prediction, with the outline of its box if there is one, and return the path."""
        pixels, box = picture_of(found.item, SIDE, self._decode)
        scores = found.scores
        lines = tuple(f"{label}  {scores[label]:.2f}" for label in found.predicted) or ("no label",)
        if box is not None:
            pixels = outlined(pixels, box)
        path = self._folder / self._names.of(found.item)
        write_bytes(path, jpeg(draw_strip(Strip(found.id, (Panel(pixels, lines),)))))
        return path


def _raise(_: Item, error: DataError) -> None:
    raise error
