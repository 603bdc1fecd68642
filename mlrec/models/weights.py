"""Loading of weights into modules: all or none, with shapes compared before anything is copied."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from mlrec.models.backbones import Backbone
from mlrec.models.safe_loading import model_file, read_tensors, unwrapped
from mlrec.utils.errors import ModelError, counted
from mlrec.utils.weight_packages import PACKAGES, check_weights_name

BACKBONE_PREFIX = "backbone.timm_model."
_COUNTERS = "num_batches_tracked"  # not a weight, and missing in old files


def load_backbone_weights(backbone: Backbone, source: str | Path) -> str:
    """Load weights into a backbone; returns a line with the number of tensors that matched.

    Args:
        backbone: Backbone to fill.
        source: Name in `weight_packages.PACKAGES`; a file with the names of timm, torchvision or CutMix (plain or
            wrapped, with or without the prefix `module.`); or a model of mlrec, file or folder, without its head.

    Raises:
        ModelError: The weights are of another architecture, damaged, or do not exist.
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
    """Select the tensors of the backbone, without the classifier; positional embeddings are resampled to its size."""
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
    """Resample a positional embedding (1, prefix + N, d) to another grid: bicubic, antialiased; prefix rows are kept.

    Unchanged if the grids are equal. Grids must be square, as in ViTs for image classification.
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
    """Load `state` into `module` strictly.

    Raises:
        ModelError: Names, shapes or number types differ, or a weight is NaN or infinite; the module is not changed.
    """
    expected = module.state_dict()
    missing = [key for key in expected if key not in state and not key.endswith(_COUNTERS)]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        first = f"first missing '{missing[0]}'" if missing else f"first unexpected '{unexpected[0]}'"
        raise ModelError(
            f"{source}: {len(expected) - len(missing)} of {counted(len(expected), 'tensor')} matched, "
            f"{len(missing)} missing, "
            f"{len(unexpected)} unexpected ({first}); it is of another architecture"
        )
    for key, tensor in state.items():
        if tensor.shape != expected[key].shape:
            wanted = tuple(expected[key].shape)
            raise ModelError(f"{source}: '{key}' has shape {tuple(tensor.shape)}, the model needs {wanted}")
        if tensor.is_floating_point() != expected[key].is_floating_point():
            raise ModelError(f"{source}: '{key}' holds {tensor.dtype}, the model needs {expected[key].dtype}")
    check_finite(state, source)
    module.load_state_dict(dict(state), strict=False)


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise ModelError if a weight is NaN or infinite, or cannot be checked."""
    for key, tensor in state.items():
        try:
            finite = not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
        except RuntimeError as error:  # types of 8 bits or less, and shapes too large for torch
            raise ModelError(
                f"{source}: '{key}' holds {tensor.dtype} in the shape "
                f"{tuple(tensor.shape)}, which cannot be read; save the weights as float32"
            ) from error
        if not finite:
            raise ModelError(f"{source}: '{key}' holds NaN or infinite weights; the file is of no use")


def digest(state: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 of names, types, shapes and bytes, in the order of names."""
    content = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        content.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        content.update(tensor.flatten().view(torch.uint8).numpy().data)
    return content.hexdigest()
