"""The model hub, asked with a time limit: weights come, or one line says why not. Never random weights instead."""

from __future__ import annotations

import logging
import os
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants
from torch import nn

from mlrec.errors import ModelError, printable

SECONDS = 5.0
_CHATTER = ("timm", "huggingface_hub", "httpx", "urllib3", "filelock")


WITHOUT_HUB = "give --weights FILE, or --weights efficientnet-lite0 with its backbone, or --no-pretrained"


def load_from_hub(name: str, settings: Any, options: dict[str, Any], advice: str = WITHOUT_HUB) -> nn.Module:
    """The timm model `name` with its published weights, built with `options`; `settings` are timm's for this name.

    `advice` is what the error recommends: the flags of the command that runs.

    A hub that does not answer within `SECONDS` is taken as out of reach; the local cache is still looked into.

    Raises:
        ModelError: no weights are published under this name, or they cannot be had.
    """
    if not settings.has_weights:
        raise ModelError(f"{printable(name)}: timm has no weights of this name; {advice}")
    local = settings.file or (not settings.hf_hub_id and _cached_url(settings.url))
    reached = bool(local) or _answers(constants.ENDPOINT if settings.hf_hub_id else settings.url)
    reason = "did not answer"
    if reached or settings.hf_hub_id:
        try:
            with quiet(), _offline(not reached):
                return timm.create_model(name, pretrained=True, **options)
        except Exception as error:  # noqa: BLE001 - the hub's client raises of every kind
            reason = type(error).__name__ if reached else reason
    raise ModelError(f"{printable(name)}: pretrained weights are out of reach (the model hub {reason}); {advice}")


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the libraries' own notes and warnings: what matters is told by the error or not at all."""
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


def _answers(address: str) -> bool:
    """Whether anything answers there, in a thread: a resolver may hang longer than any socket's time limit."""
    if constants.HF_HUB_OFFLINE or not address.startswith(("https://", "http://")):
        return False
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - the scheme is checked above
        try:
            urllib.request.urlopen(request, timeout=SECONDS).close()  # noqa: S310
        except urllib.error.HTTPError:
            pass  # a refusal is an answer
        except (OSError, ValueError):
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return answered.is_set()


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
