"""`mlrec export`: a trained model → a folder that can be deployed, checked against the model it was made from."""

from __future__ import annotations

import importlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlrec import __version__
from mlrec.datasets.images.decode import Decoder
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.evaluate import evaluate
from mlrec.models.onnx_file import BUNDLE, CARD, ONNX
from mlrec.reports.model_card import Card, model_card
from mlrec.runs import directory
from mlrec.runs.record import RunRecord
from mlrec.runs.tuned import Tuned, tuned_file
from mlrec.utils.errors import DataError, ModelError, RunError, counted, printable
from mlrec.utils.files import MODEL_FILE, replace_folder, sha256, write_bytes, write_json, write_text
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate.evaluate import resolve_eval_target

if TYPE_CHECKING:
    from mlrec.models.classifier import Classifier

FORMAT = "mlrec-bundle/1"
TOLERANCE = 1e-4
BATCH, RANDOM = 16, 8
Form = Literal["onnx", "safetensors"]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """The exported model beside the one it was made from.

    Attributes:
        images: how many were compared, and `on` what.
        max_difference: the largest of logits.
        mAP, exported_mAP: on these images; None where they are random, or no label has a positive.
    """

    images: int
    on: str
    max_difference: float
    mAP: float | None = None
    exported_mAP: float | None = None

    def in_words(self) -> str:
        """One sentence."""
        text = f"largest difference of logits {self.max_difference:.1e} on {counted(self.images, 'image')} ({self.on})"
        if self.mAP is None or self.exported_mAP is None:
            return text
        return f"{text}; mAP {100 * self.mAP:.2f} and {100 * self.exported_mAP:.2f}"


@dataclass(frozen=True)
class ExportResult:
    """The bundle, its files, and how it agrees with the model."""

    path: Path
    files: dict[str, int]
    agreement: Agreement
    tuned: bool

    def to_dict(self) -> dict[str, Any]:
        """What `export --json` prints."""
        return asdict(self) | {"path": str(self.path)}


def export(
    model: Path | str | None = None,
    *,
    form: Form = "onnx",
    out: Path | None = None,
    data: Path | str | None = None,
    split: str | None = None,
    images: int = 64,
    runs_root: Path | str = "runs",
    data_root: Path | str = "data",
    progress: Progress = SILENT,
) -> ExportResult:
    """Write a bundle: the model, its labels and preprocessing, tuned thresholds where there are any, a model card.

    Args:
        model: as for `evaluate_run`.
        form: of the weights.
        out: the folder; left out, `export-FORM` in the model's.
        data: to check on; left out, the run's own. Without any, random images serve.
        split: left out, the one that the run was scored on.
        images: how many to check on.
        runs_root: where the last finished run is looked for.
        data_root: where the dataset prepared last is looked for.
        progress: where notes and warnings go.

    Raises:
        ModelError: no model, packages missing, or the exported model gives other logits; nothing is written then.
        RunError: the folder holds something else.
    """
    from mlrec.models.checkpoint import load_model, read_metadata

    path, manifest = _chosen(model, data, split, runs_root, data_root, progress)
    metadata, loaded = read_metadata(path), load_model(path)
    target = out or (path / f"export-{form}" if path.is_dir() else path.with_name(f"{path.stem}-export-{form}"))
    if target.exists() and not (target / BUNDLE).is_file():
        raise RunError(f"{printable(target)}: is there and no bundle; choose another --out")
    tuned = Tuned.load(path).ordered(loaded.labels) if tuned_file(path).is_file() else None
    decode = metadata.decode
    with replace_folder(target) as folder:
        progress.say(f"writing {form}")
        file = _write_model(loaded, path, folder, form, metadata.config)
        agreement = _agreement(loaded, file, manifest, images, decode, progress)
        if tuned is not None:
            tuned.save(folder)
        facts = {
            "format": FORMAT, "model": file.name, "sha256": sha256(file), "labels": list(loaded.labels),
            "preprocessing": loaded.preprocessing.to_dict(), "decode": decode,
            "architecture": loaded.architecture.to_dict(), "mlrec": __version__,
            "check": asdict(agreement),
        }  # fmt: skip
        write_json(folder / BUNDLE, facts)
        record = RunRecord.load(path) if (path / directory.RECORD).is_file() else None
        card = Card(
            form, file.name, loaded.labels, loaded.preprocessing.to_dict(), loaded.architecture.to_dict(),
            agreement.in_words(), record, _metrics(path, record), tuned,
        )  # fmt: skip
        write_text(folder / CARD, model_card(card))
    sizes = {entry.name: entry.stat().st_size for entry in sorted(target.iterdir())}
    return ExportResult(target, sizes, agreement, tuned is not None)


def _chosen(
    model: Path | str | None,
    data: Path | str | None,
    split: str | None,
    runs_root: Path | str,
    data_root: Path | str,
    progress: Progress,
) -> tuple[Path, Manifest | None]:
    """The model, and what to check it on where that can be had."""
    if model is None:
        from mlrec.runs.record import latest_run

        model = latest_run(runs_root).path
        progress.say(f"run: {printable(model)} (finished last)")
    try:
        found = resolve_eval_target(
            model, data, split, labels=None, runs_root=runs_root, data_root=data_root, progress=progress
        )
    except DataError:
        if data is not None or split is not None:
            raise
        progress.say("no data to check on: random images serve (--data names some)")
        return Path(model), None
    return found.model, found.manifest


def _write_model(model: Classifier, source: Path, folder: Path, form: Form, config: dict[str, Any]) -> Path:
    from mlrec.models.onnx_file import export_onnx
    from mlrec.models.safe_loading import model_file

    if form == "onnx":
        export_onnx(model, folder / ONNX, config)
        return folder / ONNX
    write_bytes(folder / MODEL_FILE, model_file(source).read_bytes())
    return folder / MODEL_FILE


def _agreement(
    model: Classifier, file: Path, manifest: Manifest | None, images: int, decode: Decoder, progress: Progress
) -> Agreement:
    """Both models on the same images.

    Raises:
        ModelError: they differ by more than 1e-4 of the largest logit, or of 1.
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
        raise ModelError(f"the exported model's logits differ by {difference:.2g}; nothing was written")
    if targets is None or manifest is None:
        return Agreement(len(before), "random", difference)
    mAP, exported = (evaluate(logits, targets, scores="logits").mAP for logits in (before, after))
    return Agreement(len(before), f"{manifest.name} {manifest.split}", difference, mAP, exported)


def _images(
    model: Classifier, manifest: Manifest | None, number: int, decode: Decoder
) -> tuple[list[Any], NDArray[np.int8] | None]:
    """Batches of uint8 images, from all over the split, of two sizes; and their truth."""
    torch = importlib.import_module("torch")
    if manifest is None:
        size = model.preprocessing.size
        drawn = torch.randint(0, 256, (RANDOM, 3, size, size), generator=torch.Generator().manual_seed(0))
        return [drawn[:-1].to(torch.uint8), drawn[-1:].to(torch.uint8)], None
    from mlrec.training.batches import eval_batches

    places = np.unique(np.linspace(0, len(manifest) - 1, min(number, len(manifest))).round().astype(np.intp))
    part = manifest.reordered(model.labels).subset(places)
    found = [
        batch.images[batch.samples >= 0]
        for batch in eval_batches(part, model.preprocessing, batch_size=BATCH, workers=0, decode=decode)
    ]
    return found, part.targets


def _metrics(path: Path, record: RunRecord | None) -> Any:
    from mlrec.metrics.evaluate import Metrics

    file = path / directory.METRICS
    return Metrics.load(file) if record is not None and file.is_file() else None
