"""Reading and writing of model files, which are single safetensors files.

A model file contains the weights, architecture, labels, preprocessing and config.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mlrec.config import current_keys
from mlrec.datasets.images.decode import Decoder
from mlrec.lineage import Lineage, lineage_from
from mlrec.models.backbones import Backbone
from mlrec.models.classifier import Architecture, Classifier
from mlrec.models.preprocessing import Preprocessing
from mlrec.utils.errors import ModelError, counted
from mlrec.utils.files import write_bytes
from mlrec.utils.names import duplicates_in

LARGEST_SIDE = 8192  # pixels; the same limit as for `img_size` in a configuration
KEY, FORMAT = "mlrec", "mlrec-model/1"


@dataclass(frozen=True)
class Metadata:
    """Metadata that is stored with the weights in a model file.

    Attributes:
        architecture: Constructor arguments of the model.
        labels: Label names, in the order of the logits.
        preprocessing: Preprocessing of the input images.
        config: Config of the run or import that created the model.
        sha256: Digest of the tensors; see `digest`.
        lineage: History of the weights: their source and all training runs, including the run that created this model.
            None in files written by earlier versions.
    """

    architecture: Architecture
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    config: dict[str, Any]
    sha256: str
    lineage: Lineage | None = None

    @property
    def decode(self) -> Decoder:
        """Image decoder that was used in training."""
        if self.config.get("image_backend") == "pil":
            return "pil"
        return "fast"


def save_model(path: Path | str, model: Classifier, config: Mapping[str, Any], lineage: Lineage | None = None) -> None:
    """Write a model atomically to a self-contained file.

    Args:
        path: File to write.
        model: Model to save.
        config: Config of the run or import that created the model.
        lineage: History of the weights: their source and all training runs, including the run that created this model
            [default: unknown].
    """
    state = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in model.state_dict().items()}
    description = {
        "format": FORMAT,
        "architecture": model.architecture.to_dict(),
        "labels": model.labels,
        "preprocessing": model.preprocessing.to_dict(),
        "config": dict(config),
        "sha256": digest(state),
    }
    if lineage is not None:
        description["lineage"] = msgspec.to_builtins(lineage)
    # A single entry, because safetensors does not preserve the order of entries, and identical models must produce
    # identical bytes.
    metadata = {KEY: json.dumps(description, ensure_ascii=False, default=str)}
    write_bytes(Path(path), safetensors.torch.save(state, metadata))


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of the names, types, shapes and bytes of all tensors, sorted by name."""
    content = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        content.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content.update(tensor.flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()


def load_model(path: Path | str) -> Classifier:
    """Load a model in eval mode on the CPU.

    The model can be in a run folder, in the output folder of an import or export, in a `.safetensors` file, or on the
    Hugging Face Hub. ONNX models cannot be loaded.

    Args:
        path: Run folder; output folder of `mlrec import` or `mlrec export`; model file; or address on the Hugging Face
            Hub, such as `hf://user/name` or `hf://user/name@revision`.

    Returns:
        Model that computes logits (B, C) from normalized images (B, 3, H, W). The images may have any size that the
        backbone supports.

    Raises:
        ModelError: The model file is missing, unreachable, damaged or not written by mlrec, or the weights do not match
            the metadata.

    Example:
        >>> from mlrec.models.classifier import create_model
        >>> save_model("model.safetensors", create_model("test_resnet", 2, img_size=64, labels=["cat", "dog"]), {})
        >>> model = load_model("model.safetensors")
        >>> model.labels, model.preprocessing.size
        (('cat', 'dog'), 64)
    """
    from mlrec.models.weights import fit, model_file, read_safetensors

    file = model_file(path)
    metadata = read_metadata(file)
    model = _build(metadata)
    state = read_safetensors(file)
    fit(model, state, str(file))
    if digest(state) != metadata.sha256:
        raise ModelError(f"{file}: the weights do not match the SHA-256 checksum in the file; download the file again")
    return model.eval()


def read_metadata(path: Path | str) -> Metadata:
    """Read the metadata of a model without its weights.

    Args:
        path: Location of the model; see `load_model`.

    Raises:
        ModelError: The model file is missing, unreachable, damaged or not written by mlrec.
    """
    from mlrec.models.weights import model_file

    file = model_file(path)
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            raw = (opened.metadata() or {}).get(KEY, "{}")
    except (safetensors.SafetensorError, OSError) as error:
        reason = f"not a safetensors file ({error}); use mlrec import to convert other checkpoints"
        raise ModelError(f"{file}: {reason}") from error
    try:
        description = json.loads(raw)
        if description.get("format") != FORMAT:
            raise ModelError(
                f"{file}: not an mlrec model file (expected format: {FORMAT}); convert it with mlrec import {file}"
            )
        built = description["architecture"]
        built["temperatures"] = tuple(float(t) for t in built["temperatures"])
        metadata = Metadata(
            architecture=msgspec.convert(asdict(Architecture(**built)), Architecture),
            labels=msgspec.convert(description["labels"], tuple[str, ...]),
            preprocessing=Preprocessing.from_dict(description["preprocessing"]),
            config=current_keys(msgspec.convert(description["config"], dict[str, Any])),
            sha256=msgspec.convert(description["sha256"], str),
            lineage=lineage_from(description.get("lineage")),
        )
        _check(metadata)
    except ModelError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
        fault = f"the key {error} is missing" if isinstance(error, KeyError) else error
        raise ModelError(f"{file}: the metadata is damaged ({fault}); download the file again") from error
    named, count = len(metadata.labels), metadata.architecture.num_labels
    if named != count:
        raise ModelError(
            f"{file}: the head has {counted(count, 'label')}, but the file has {counted(named, 'label name')}; "
            "download the file again"
        )
    return metadata


def stored_preprocessing(source: Path | str, own: Preprocessing) -> Preprocessing:
    """Return a copy of `own` with the mean, std and interpolation of the mlrec model at `source`.

    If `source` is not a folder and not an mlrec model file, `own` is returned unchanged.

    Raises:
        ModelError: `source` is a folder without an mlrec model, or the metadata is damaged.
    """
    path = Path(source)
    if not path.is_dir():
        try:
            with safetensors.safe_open(path, framework="pt") as opened:
                if KEY not in (opened.metadata() or {}):
                    return own
        except (safetensors.SafetensorError, OSError):
            return own
    return replace(read_metadata(path).preprocessing, size=own.size)


def _check(metadata: Metadata) -> None:
    """Raise ValueError for implausible values, before any memory is allocated for them."""
    built, images = metadata.architecture, metadata.preprocessing
    repeated = duplicates_in(metadata.labels)
    if repeated:
        raise ValueError(f"duplicate label '{repeated[0]}'")
    numbers = (built.lam, built.head_dropout, built.logit_scale, *images.mean, *images.std)
    checks = {
        "img_size": all(1 <= size <= LARGEST_SIDE for size in (built.img_size, images.size)),
        "heads": 1 <= built.heads == len(built.temperatures),
        "head_dropout": 0 <= built.head_dropout <= 1,
        "word_dim": built.word_dim is None or 1 <= built.word_dim <= LARGEST_SIDE,
        "interpolation": images.interpolation in ("bilinear", "bicubic"),
        "a number": all(map(math.isfinite, numbers)) and min(images.std) > 0,
    }
    invalid = [name for name, valid in checks.items() if not valid]
    if invalid:
        raise ValueError(f"{invalid[0]} is not plausible")


def _build(metadata: Metadata) -> Classifier:
    built = metadata.architecture
    # Without the tag, which may be unknown in other timm versions; the settings of the tag are in the metadata.
    backbone = Backbone(built.backbone.partition(".")[0], built.img_size)
    backbone.name = built.backbone
    return Classifier(backbone, built.build_head(backbone.num_features), metadata.labels, metadata.preprocessing, built)
