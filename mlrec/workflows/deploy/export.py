"""`mlrec export`: write a model as a bundle for deployment, and compare the bundle with the model."""

from __future__ import annotations

import importlib
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlrec import __version__
from mlrec.datasets.images.decode import Decoder
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.evaluate import evaluate
from mlrec.models.onnx import BUNDLE, CARD, ONNX
from mlrec.reports.model_card import Card, model_card
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord
from mlrec.run_folders.tuned import Tuned, tuned_file
from mlrec.utils.errors import DataError, ModelError, RunError, UsageError, counted
from mlrec.utils.files import MODEL_FILE, replace_folder, sha256, write_bytes, write_json, write_text
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate.evaluate import record_at, resolve_eval_target

if TYPE_CHECKING:
    from mlrec.models.classifier import Classifier


logger = logging.getLogger(__name__)
FORMAT = "mlrec-bundle/1"
TOLERANCE = 1e-4
BATCH, RANDOM = 16, 8
Form = Literal["onnx", "safetensors", "hf"]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """Agreement between the exported model and the original model.

    Attributes:
        images: Number of images used for the comparison.
        on: Dataset and split of the images, or "random".
        max_difference: Largest absolute difference between the logits.
        mAP: mAP of the original model on these images, as a fraction; None if undefined, or for random images.
        exported_mAP: mAP of the exported model on these images, as a fraction; None if undefined, or for random images.
    """

    images: int
    on: str
    max_difference: float
    mAP: float | None = None
    exported_mAP: float | None = None

    def in_words(self) -> str:
        """Return the agreement in one sentence."""
        text = f"largest logit difference {self.max_difference:.1e} on {counted(self.images, 'image')} ({self.on})"
        if self.mAP is None or self.exported_mAP is None:
            return text
        return f"{text}; mAP {100 * self.mAP:.2f} before export and {100 * self.exported_mAP:.2f} after"


@dataclass(frozen=True)
class ExportResult:
    """Files of an exported bundle, and its agreement with the model.

    Attributes:
        path: Folder of the bundle.
        files: Size of each file in bytes, by name.
        agreement: Agreement with the original model.
        tuned: Whether the bundle has tuned thresholds.
        pushed: URL on the hub; None if the bundle was not uploaded.
    """

    path: Path
    files: dict[str, int]
    agreement: Agreement
    tuned: bool
    pushed: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-compatible data that `mlrec export --json` prints."""
        return asdict(self) | {"path": str(self.path)}


def export(
    model: Path | str | None = None,
    *,
    form: Form = "onnx",
    out: Path | None = None,
    data: Path | str | None = None,
    split: str | None = None,
    images: int = 64,
    push_to: str | None = None,
    public: bool = False,
    runs_root: Path | str = "runs",
    data_root: Path | str = "data",
    progress: Progress = SILENT,
) -> ExportResult:
    """Write a bundle: model, labels, preprocessing, tuned thresholds (if any), and a model card.

    An existing bundle in this folder is replaced.

    Args:
        model: Model, see `evaluate_run`; by default the most recently finished run under `runs_root`.
        form: Export format.
        out: Folder of the bundle; by default `export-FORM` in the model folder, or `STEM-export-FORM` next to the model
            file.
        data: Dataset for the comparison; by default the dataset of the run, otherwise the most recently prepared
            dataset. Random images are used if there is no dataset with the labels of the model.
        split: Split for the comparison; by default the scored split of the run, otherwise `test`, `val` or the only
            split.
        images: Maximum number of images from the split for the comparison; always 8 for random images.
        push_to: Repository on the Hugging Face hub, `user/name`, to which the bundle is uploaded.
        public: Whether the repository is public if `push_to` creates it.
        runs_root: Folder of runs, used if `model` is None.
        data_root: Folder of datasets, used if the run has no dataset.
        progress: Progress display.

    Raises:
        ModelError: There is no model, a package is missing, or the logits of the exported model differ from those of
            the original model; no bundle is written. Also raised if the hub rejects the bundle, which is then written
            but not uploaded.
        UsageError: `push_to` is used with a format other than hf.
        RunError: The folder exists and is not a bundle.
    """
    from mlrec.models.checkpoint import load_model, read_metadata
    from mlrec.workflows.deploy import hub_folder

    if push_to is not None:
        if form != "hf":
            raise UsageError("--push requires --format hf; add --format hf")
        hub_folder.check_repository(push_to)
    path, manifest = _model_and_data(model, data, split, runs_root, data_root)
    metadata, loaded = read_metadata(path), load_model(path)
    target = out or _default_folder(path, form)
    if target.exists() and not (target / BUNDLE).is_file():
        raise RunError(f"{target} already exists and is not an exported model; choose a different --out")
    tuned = None
    if tuned_file(path).is_file():
        tuned = Tuned.load(path).ordered(loaded.labels)
    decode = metadata.decode
    with replace_folder(target) as folder:
        logger.info(f"writing {form}")
        file = _write_model(loaded, path, folder, form, metadata.config)
        agreement = _agreement(loaded, file, manifest, images, decode, progress)  # raises before the folder is replaced
        if tuned is not None:
            tuned.save(folder)
        preprocessing, architecture = loaded.preprocessing.to_dict(), loaded.architecture.to_dict()
        facts = {
            "format": FORMAT,
            "model": file.name,
            "sha256": sha256(file),
            "labels": list(loaded.labels),
            "preprocessing": preprocessing,
            "decode": decode,
            "architecture": architecture,
            "mlrec": __version__,
            "check": asdict(agreement),
        }
        write_json(folder / BUNDLE, facts)
        record = record_at(path)
        check, metrics = agreement.in_words(), _metrics(path, record)
        card = Card(form, file.name, loaded.labels, preprocessing, architecture, check, record, metrics, tuned, push_to)
        text = model_card(card)
        if form == "hf":
            write_json(folder / hub_folder.CONFIG, hub_folder.timm_config(loaded))
            text = hub_folder.with_front_matter(text, card.name, record, card.metrics)
        write_text(folder / CARD, text)
    sizes = {entry.name: entry.stat().st_size for entry in sorted(target.iterdir())}
    address = None
    if push_to is not None:
        logger.info(f"uploading to {push_to}")
        address = hub_folder.push(target, push_to, public=public)
    return ExportResult(target, sizes, agreement, tuned is not None, address)


def _default_folder(model: Path, form: Form) -> Path:
    if model.is_dir():
        return model / f"export-{form}"
    return model.with_name(f"{model.stem}-export-{form}")


def _model_and_data(
    model: Path | str | None,
    data: Path | str | None,
    split: str | None,
    runs_root: Path | str,
    data_root: Path | str,
) -> tuple[Path, Manifest | None]:
    """Return the model, and the split for the comparison if there is one."""
    if model is None:
        from mlrec.run_folders.record import latest_run

        model = latest_run(runs_root).path
        logger.info(f"run: {model} (finished last)")
    try:
        target = resolve_eval_target(model, data, split, labels=None, runs_root=runs_root, data_root=data_root)
    except DataError:
        if data is not None or split is not None:
            raise
        logger.info(
            "no dataset is available for the comparison, so random images are used; choose a dataset with --data"
        )
        return Path(model), None
    return target.model, target.manifest


def _write_model(model: Classifier, source: Path, folder: Path, form: Form, config: dict[str, Any]) -> Path:
    from mlrec.models.onnx import export_onnx
    from mlrec.models.weights import model_file

    if form == "onnx":
        export_onnx(model, folder / ONNX, config)
        return folder / ONNX
    write_bytes(folder / MODEL_FILE, model_file(source).read_bytes())
    return folder / MODEL_FILE


def _agreement(
    model: Classifier, file: Path, manifest: Manifest | None, images: int, decode: Decoder, progress: Progress
) -> Agreement:
    """Compare the exported and the original model on the same images.

    Raises:
        ModelError: The logits differ by more than 1e-4, or by more than 1e-4 times the largest absolute logit if it is
            above 1.
    """
    from mlrec.workflows.deploy.predict import open_scorer

    ours, theirs = open_scorer(model), open_scorer(file)
    if manifest is not None and set(manifest.labels) != set(model.labels):
        manifest = None
    batches, targets = _images(model, manifest, images, decode)
    pairs = []
    with progress.task("comparing", len(batches)) as step:
        for batch in batches:
            pairs.append((ours.logits(batch), theirs.logits(batch)))
            step()
    before, after = (np.concatenate(part) for part in zip(*pairs, strict=True))
    difference = float(np.abs(before - after).max())
    if not difference <= TOLERANCE * max(1.0, float(np.abs(before).max())):
        raise ModelError(
            f"the logits of the exported model differ from those of the original by up to {difference:.2g}, so nothing "
            "was written; use a different --format"
        )
    if targets is None or manifest is None:
        return Agreement(len(before), "random", difference)
    mAP, exported = (evaluate(logits, targets, scores="logits").mAP for logits in (before, after))
    return Agreement(len(before), f"{manifest.name} {manifest.split}", difference, mAP, exported)


def _images(
    model: Classifier, manifest: Manifest | None, number: int, decode: Decoder
) -> tuple[list[Any], NDArray[np.int8] | None]:
    """Return batches of uint8 images, evenly spread over the split, with targets."""
    torch = importlib.import_module("torch")
    if manifest is None:
        size = model.preprocessing.size
        drawn = torch.randint(0, 256, (RANDOM, 3, size, size), generator=torch.Generator().manual_seed(0))
        return [drawn[:-1].to(torch.uint8), drawn[-1:].to(torch.uint8)], None
    from mlrec.training.dataloader import eval_batches

    places = np.unique(np.linspace(0, len(manifest) - 1, min(number, len(manifest))).round().astype(np.intp))
    part = manifest.reordered(model.labels).subset(places)
    batches = [
        batch.images[batch.samples >= 0]
        for batch in eval_batches(part, model.preprocessing, batch_size=BATCH, workers=0, decode=decode)
    ]
    return batches, part.targets


def _metrics(path: Path, record: RunRecord | None) -> Any:
    from mlrec.metrics.summary import Metrics

    file = path / directory.METRICS
    if record is None or not file.is_file():
        return None
    return Metrics.load(file)
