"""Backbones from timm that compute a spatial feature map (B, d, h, w) from images."""

from __future__ import annotations

import copy
import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mlrec.lineage import PAPER_TAGS
from mlrec.models.preprocessing import Preprocessing
from mlrec.utils.errors import ModelError, nearest

_CHATTER = ("timm", "huggingface_hub", "httpx", "urllib3", "filelock")
WITHOUT_HUB = "use --weights FILE, --weights efficientnet-lite0 with the matching backbone, or --no-pretrained"


class Backbone(nn.Module):
    """timm model without its classifier; the output is the last feature map.

    The shape of the feature map is always (B, d, h, w), even if the timm model uses a different layout. Class and
    register tokens are dropped after the final norm. Some timm models (ConvNeXt, ViTs with `fc_norm`) apply a norm
    after pooling; here, the norm is applied at each location. Parameters that do not affect the feature map are frozen.

    Args:
        name: timm model name, with or without a weights tag.
        img_size: Side length of the square input images in pixels [default: the native size of the model].
        pretrained: Whether to load the weights with the tag in `name`, or with timm's default tag if `name` has none.
            If loading fails, an error is raised; random weights are never used instead.

    Attributes:
        timm_model: timm model without its classifier.
        name: timm model name with a weights tag; without a tag if timm has no weights for the model.
        num_features: Number of channels d.
        origin: Text that states the source of the weights and the number of matching tensors, for weights loaded with
            `load_backbone_weights`; otherwise "".
        grid: Number of rows and columns of the feature map for images of the size in `preprocessing`.
        preprocessing: Preprocessing that the pretrained weights expect, with the input size of this backbone.

    Raises:
        ModelError: The name is unknown, the model has no spatial feature map, the input size is not supported, or the
            weights cannot be loaded.
    """

    timm_model: Any

    def __init__(self, name: str, img_size: int | None = None, *, pretrained: bool = False) -> None:
        super().__init__()
        settings = pretrained_settings(name)
        size: int = settings.input_size[-1]
        if img_size is not None:
            size = img_size
        options = {"num_classes": 0} | ({"img_size": size} if settings.fixed_input_size else {})
        self.origin = ""
        self.name = f"{settings.architecture}.{settings.tag}" if settings.tag else str(settings.architecture)
        self.timm_model = build(name, settings, options, pretrained)
        self.num_features = int(self.timm_model.num_features)
        self.preprocessing = Preprocessing(
            size,
            tuple(settings.mean),
            tuple(settings.std),
            "bicubic" if settings.interpolation == "bicubic" else "bilinear",
        )
        self.grid = _probe(self, size)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the features (B, d, h, w) of normalized `images` (B, 3, H, W).

        Raises:
            ModelError: The model does not support the size of the images.
        """
        try:
            output = self.timm_model.forward_features(images)
        except AssertionError as error:  # raised by timm models that support only one size
            if tuple(images.shape[-2:]) == (self.preprocessing.size,) * 2:
                raise
            raise ModelError(self._other_size(images)) from error
        return self._normed(self._map(output, images.shape[-2:]))

    def _other_size(self, images: Tensor) -> str:
        height, width = images.shape[-2:]
        size = self.preprocessing.size
        return (
            f"{self.name} is built for images of {size} x {size} pixels, not {height} x {width}; resize the images, "
            f"or train with --img-size {max(height, width)} (create_model(..., img_size={max(height, width)}))"
        )

    def checkpoint_gradients(self, enable: bool = True) -> None:
        """Enable or disable gradient checkpointing, which recomputes activations in the backward pass.

        Raises:
            ModelError: timm does not support gradient checkpointing for this backbone.
        """
        try:
            self.timm_model.set_grad_checkpointing(enable)
        except (AttributeError, AssertionError, NotImplementedError) as error:  # depends on the model family
            raise ModelError(
                f"timm does not support gradient checkpointing for backbone '{self.name}'; disable gradient "
                "checkpointing"
            ) from error

    def _map(self, output: Any, size: torch.Size) -> Tensor:
        """Convert the output of the timm model from any layout to (B, d, h, w)."""
        if not isinstance(output, Tensor) or output.ndim not in (3, 4):
            raise _no_map(self.name)
        if output.ndim == 4:
            if getattr(self.timm_model, "output_fmt", "NCHW") == "NHWC":
                return output.permute(0, 3, 1, 2)
            return output
        tokens = output[:, self._prefix_tokens :]
        height, width = _grid(tokens.shape[1], size)
        if height * width != tokens.shape[1] or height < size[0] // self._reduction:
            raise _no_map(self.name)
        return tokens.transpose(1, 2).reshape(tokens.shape[0], -1, height, width)

    @property
    def _prefix_tokens(self) -> int:
        known = getattr(self.timm_model, "num_prefix_tokens", None)
        own = (name for name, _ in self.timm_model.named_parameters(recurse=False))
        if known is None:
            return int(any(name.startswith("cls_token") for name in own))
        return int(known)

    @property
    def _reduction(self) -> int:
        stages = getattr(self.timm_model, "feature_info", None) or ()
        return max((int(stage["reduction"]) for stage in stages), default=1)

    def _normed(self, features: Tensor) -> Tensor:
        norm = getattr(self.timm_model, "fc_norm", None) or getattr(
            getattr(self.timm_model, "head", None), "norm", None
        )
        if not isinstance(norm, nn.Module) or isinstance(norm, nn.Identity):
            return features
        if any(parameter.numel() != features.shape[1] for parameter in norm.parameters()):
            return features  # this norm belongs to a hidden layer of the classifier (InceptionNeXt)
        first = type(norm).__name__.endswith("2d")  # timm's name for a norm over dimension 1
        if first:
            normed: Tensor = norm(features)
        else:
            normed = norm(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return normed


def paper_weights(name: str) -> str:
    """Add the tag of the paper's weights, or of the closest weights in timm, to a timm name without a tag."""
    if "." in name:
        return name
    known = timm.list_pretrained(f"{name}.*")
    return next((f"{name}.{tag}" for tag in PAPER_TAGS if f"{name}.{tag}" in known), name)


def pretrained_settings(name: str) -> Any:
    """Return timm's pretrained config for a name: tag, input size and normalization.

    Raises:
        ModelError: The model does not exist, or there are no weights with this tag.
    """
    if not timm.is_model(name):
        hint = nearest(name, timm.list_models()) or "; see timm.list_models()"
        raise ModelError(f"timm {timm.__version__} has no backbone '{name}'{hint}")
    try:
        settings: Any = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = ", ".join(timm.list_pretrained(f"{name.partition('.')[0]}.*"))
        advice = f"choose one of {tags}" if tags else "omit the tag, because timm has no weights for this backbone"
        raise ModelError(f"timm {timm.__version__} has no weights named '{name}'; {advice}") from error
    settings.architecture = settings.architecture or name.partition(".")[0]
    return settings


def build(name: str, settings: Any, options: dict[str, Any], pretrained: bool, advice: str = WITHOUT_HUB) -> nn.Module:
    """Create a timm model with pretrained or random weights; see `load_from_hub` for `advice`.

    Raises:
        ModelError: timm cannot build the model with these options, or the weights cannot be loaded.
    """
    if pretrained:
        from mlrec.models.hub import load_from_hub

        return load_from_hub(name, settings, options, advice)
    try:
        with quiet():
            return timm.create_model(name, pretrained=False, **options)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{name}: timm cannot build this model with {options} ({error}); change these options"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress warnings and log messages of libraries, but not exceptions, while the `with` block runs."""
    loggers = [logging.getLogger(name) for name in _CHATTER]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _probe(backbone: Backbone, size: int) -> tuple[int, int]:
    """Determine the size of the feature map on the meta device.

    Parameters that do not affect the feature map are frozen.
    """
    try:
        with torch.inference_mode(False), torch.enable_grad():  # the caller may have disabled gradients
            probe = copy.deepcopy(backbone).to("meta").eval()
            features = probe(torch.empty(2, 3, size, size, device="meta"))
            features.sum().backward()
    except ModelError:
        raise
    except (AssertionError, RuntimeError, TypeError, ValueError, AttributeError, NotImplementedError) as error:
        # timm's backbones raise any of these errors if the size is not supported or there is no map.
        why = str(error) or type(error).__name__
        raise ModelError(
            f"{backbone.name}: image size {size} is not supported ({why}); choose a different image size"
        ) from error
    for parameter, seen in zip(backbone.parameters(), probe.parameters(), strict=True):
        parameter.requires_grad_(seen.grad is not None)
    return features.shape[2], features.shape[3]


def _grid(tokens: int, size: torch.Size) -> tuple[int, int]:
    """Return the numbers of rows and columns of a grid with `tokens` patches.

    The aspect ratio of the grid is close to that of images of size `size`.
    """
    rows = round(math.sqrt(tokens * size[0] / size[1]))
    return rows, tokens // max(rows, 1)


def _no_map(name: str) -> ModelError:
    return ModelError(f"{name}: CSRA requires a spatial feature map, but the model has none; use a different backbone")
