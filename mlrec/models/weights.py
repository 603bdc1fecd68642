"""Loading of weights into modules, and lineage of weights files.

Loading either succeeds completely or changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePath

import timm
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from mlrec.lineage import Lineage
from mlrec.models.backbones import Backbone
from mlrec.models.safe_loading import model_file, read_tensors, unwrapped
from mlrec.utils.errors import ModelError, counted
from mlrec.utils.files import sha256
from mlrec.utils.weight_packages import PACKAGES, check_weights_name

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


def load_backbone_weights(backbone: Backbone, source: str | Path) -> str:
    """Load weights into a backbone; returns a text with the number of matching tensors.

    Args:
        backbone: Backbone into which the weights are loaded.
        source: Name in `weight_packages.PACKAGES`; a file with timm, torchvision or CutMix tensor names (plain or
            wrapped, with or without the prefix `module.`); or the file or folder of an mlrec model, whose head is
            ignored.

    Raises:
        ModelError: The weights are missing, damaged, or for a different architecture.
    """
    check_weights_name(str(source))
    if str(source) in PACKAGES:
        from mlrec.models.package_weights import read_weights

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
    """Select the backbone tensors without the classifier.

    Positional embeddings are resampled to the backbone size.
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

    The interpolation is bicubic with antialiasing, and prefix rows are kept. If the grids are equal, the embedding is
    unchanged. Grids must be square, as in ViTs for image classification.
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

    Raises:
        ModelError: Names, shapes or dtypes differ, or a weight is NaN or infinite; the module is then unchanged.
    """
    expected = module.state_dict()
    missing = [key for key in expected if key not in state and not key.endswith(_COUNTERS)]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        first = f"first missing '{missing[0]}'" if missing else f"first unexpected '{unexpected[0]}'"
        raise ModelError(
            f"{source}: {len(expected) - len(missing)} of {counted(len(expected), 'tensor')} matched, "
            f"{len(missing)} missing, "
            f"{len(unexpected)} unexpected ({first}); use weights for the same architecture"
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
                "the tensor"
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

    If the SHA-256 matches a published file, its origin is returned. Otherwise, the declared origin is used, if there is
    one.

    Args:
        file: Weights file; a folder has no SHA-256 and has an unknown origin.
        backbone: timm name of the model.
        declared: Origin declared by the user or a recipe; ignored for known files.
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
    """Return a mapping from SHA-256 digits to weights tags.

    The digits are those in published file names ("NAME-0676ba61.pth").
    """
    tags = dict(PUBLISHED.get(architecture, {}))
    for name in timm.list_pretrained(f"{architecture}.*"):
        settings = timm.get_pretrained_cfg(name)
        stem = PurePath(getattr(settings, "url", "") or "").stem
        digits = stem.rpartition("-")[2]
        if len(digits) == DIGITS and all(digit in "0123456789abcdef" for digit in digits):
            tags[digits] = name.partition(".")[2]
    return tags
