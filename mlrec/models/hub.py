"""Weights from the model hub, with a time limit; an error in one line if they cannot be loaded."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from torch import nn

from mlrec.utils.errors import ModelError, printable
from mlrec.utils.hub_answers import answers as _answers

_CHATTER = ("timm", "huggingface_hub", "httpx", "urllib3", "filelock")


WITHOUT_HUB = "give --weights FILE, or --weights efficientnet-lite0 with its backbone, or --no-pretrained"


def load_from_hub(name: str, settings: Any, options: dict[str, Any], advice: str = WITHOUT_HUB) -> nn.Module:
    """Create the timm model `name` with its published weights.

    A hub that does not answer within `hub_answers.SECONDS` counts as out of reach; the local cache is still used.

    Args:
        name: timm name.
        settings: timm's pretrained config of the name.
        options: Options of `timm.create_model`.
        advice: Advice of the error: the flags of the current command.

    Raises:
        ModelError: No weights are published under this name, or they cannot be loaded; never random ones instead.
    """
    _check_published(name, settings, advice)
    local = settings.file or (not settings.hf_hub_id and _cached_url(settings.url))
    reached = bool(local) or _answers(constants.ENDPOINT if settings.hf_hub_id else settings.url)
    reason = "did not answer"
    if reached or settings.hf_hub_id:
        try:
            with quiet(), _offline(not reached):
                return timm.create_model(name, pretrained=True, **options)
        except Exception as error:  # noqa: BLE001 - the hub's client raises of every kind
            reason = type(error).__name__ if reached else reason
    raise _out_of_reach(name, reason, advice)


def find_weights(name: str, settings: Any) -> str:
    """Return where the published weights are, without downloading them.

    Raises:
        ModelError: As `load_from_hub`.
    """
    _check_published(name, settings, WITHOUT_HUB)
    if settings.file or _cached(settings):
        return "in the local cache"
    if any(_answers(address, refusals=False) for address in _addresses(settings)):
        return "on the model hub, which answers; training downloads them"
    raise _out_of_reach(name, "did not answer", WITHOUT_HUB)


def _check_published(name: str, settings: Any, advice: str) -> None:
    if not settings.has_weights:
        raise ModelError(f"{printable(name)}: timm has no weights of this name; {advice}")


def _out_of_reach(name: str, reason: str, advice: str) -> ModelError:
    return ModelError(f"{printable(name)}: pretrained weights are out of reach (the model hub {reason}); {advice}")


def _files(settings: Any) -> list[str]:
    """Return the file names under which the hub may have the weights."""
    return [settings.hf_hub_filename] if settings.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]


def _cached(settings: Any) -> bool:
    if not settings.hf_hub_id:
        return _cached_url(settings.url)
    return any(isinstance(try_to_load_from_cache(settings.hf_hub_id, file), str) for file in _files(settings))


def _addresses(settings: Any) -> list[str]:
    if not settings.hf_hub_id:
        return [settings.url]
    return [f"{constants.ENDPOINT}/{settings.hf_hub_id}/resolve/main/{file}" for file in _files(settings)]


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress notes and warnings of the libraries; errors report what matters."""
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


def _cached_url(url: str) -> bool:
    return (Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(url)).is_file()  # noqa: PTH119 - a URL


@contextmanager
def _offline(enabled: bool) -> Iterator[None]:
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or enabled
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
