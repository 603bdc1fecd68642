"""One safetensors file holds a whole model: weights, architecture, labels, preprocessing and the run's config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch

from mlrec.errors import ModelError, printable
from mlrec.files import MODEL_FILE, write_bytes
from mlrec.models.backbones import Backbone
from mlrec.models.classifier import Architecture, Classifier
from mlrec.models.heads import create_head
from mlrec.models.preprocessing import Preprocessing
from mlrec.models.reading import read_safetensors
from mlrec.models.weights import digest, fit

FORMAT = "mlrec-model/1"


@dataclass(frozen=True)
class Metadata:
    """What a model file says about itself.

    Attributes:
        config: the keys of the run that made it, or of the import.
        sha256: of the tensors, see `weights.digest`.
    """

    architecture: Architecture
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    config: dict[str, Any]
    sha256: str


def save_model(path: Path | str, model: Classifier, config: Mapping[str, Any]) -> None:
    """Write `model` to `path`, whole or not at all; it needs no other file to be loaded."""
    state = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in model.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "architecture": json.dumps(model.architecture.to_dict()),
        "labels": json.dumps(model.labels),
        "preprocessing": json.dumps(model.preprocessing.to_dict()),
        "config": json.dumps(dict(config), default=str),
        "sha256": digest(state),
    }
    write_bytes(Path(path), safetensors.torch.save(state, metadata))


def load_model(path: Path | str) -> Classifier:
    """The model of a run folder, an imported folder or a `.safetensors` file, on the CPU in eval mode.

    It takes normalised images (B, 3, H, W), of any size that its trunk takes, and gives logits (B, C).

    Raises:
        ModelError: no model there, not one of mlrec's, damaged, or weights that do not fit its own description.
    """
    file = model_file(path)
    metadata = read_metadata(file)
    model = _build(metadata)
    state = read_safetensors(file)
    fit(model, state, str(file))
    if digest(state) != metadata.sha256:
        raise ModelError(f"{printable(file)}: its weights are not those it was written with (SHA-256); fetch it again")
    return model.eval()


def model_file(path: Path | str) -> Path:
    """The weights file of a run folder or an imported folder; a file is itself."""
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"{printable(path)}: no model here; give a run, an imported folder or a .safetensors file")
    return file


def read_metadata(path: Path | str) -> Metadata:
    """What the model file says about itself, without reading its weights.

    Raises:
        ModelError: not a model file of mlrec.
    """
    file = model_file(path)
    shown = printable(file)
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            raw = opened.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(
            f"{shown}: not a safetensors file ({printable(error)}); other checkpoints go through mlrec import"
        ) from error
    if raw.get("format") != FORMAT:
        raise ModelError(f"{shown}: not a model file of mlrec ({FORMAT}); import it with mlrec import {shown}")
    try:
        built = json.loads(raw["architecture"])
        built["temperatures"] = tuple(float(t) for t in built["temperatures"])
        return Metadata(
            architecture=Architecture(**built),
            labels=tuple(json.loads(raw["labels"])),
            preprocessing=Preprocessing.from_dict(json.loads(raw["preprocessing"])),
            config=json.loads(raw["config"]),
            sha256=raw["sha256"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{shown}: its description is damaged ({printable(error)}); fetch it again") from error


def _build(metadata: Metadata) -> Classifier:
    built = metadata.architecture
    if len(metadata.labels) != built.num_labels:
        raise ModelError(
            f"a head for {built.num_labels} labels, but {len(metadata.labels)} label names; the file is damaged"
        )
    # without the tag: another timm may have dropped it, and what it says is in the metadata
    trunk = Backbone(built.backbone.partition(".")[0], built.img_size)
    trunk.name = built.backbone
    options = {
        "heads": built.heads, "lam": built.lam, "normalize": built.normalize, "temperatures": built.temperatures,
        "dropout": built.head_dropout,
    }  # fmt: skip
    head = create_head(built.head, trunk.num_features, built.num_labels, **options)
    return Classifier(trunk, head, metadata.labels, metadata.preprocessing, built)
