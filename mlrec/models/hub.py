"""Loading of weights and models from the model hub, with a time limit and short error messages."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import timm
import torch
from huggingface_hub import constants, errors, hf_hub_download, try_to_load_from_cache
from torch import nn

from mlrec.models.backbones import WITHOUT_HUB, quiet
from mlrec.models.weights import read_tensors
from mlrec.utils.errors import ModelError
from mlrec.utils.files import MODEL_FILE
from mlrec.utils.hub_answers import answers as _answers


def load_from_hub(name: str, settings: Any, options: dict[str, Any], advice: str = WITHOUT_HUB) -> nn.Module:
    """Create the timm model `name` with its published weights.

    A hub that does not respond within `hub_answers.SECONDS` is considered unreachable; the local cache is still used.

    Args:
        name: timm model name.
        settings: timm's pretrained config for the name.
        options: Options for `timm.create_model`.
        advice: Advice at the end of the error message, with flags of the current command that avoid the hub.

    Raises:
        ModelError: No weights are published under this name, or the weights cannot be loaded. Random weights are never
            used instead.
    """
    _check_published(name, settings, advice)
    local = settings.file or (not settings.hf_hub_id and _cached_url(settings.url))
    weights = {}
    if not local and not _answers(constants.ENDPOINT if settings.hf_hub_id else settings.url):
        cached = _cached_file(settings)
        if cached is None:
            raise _out_of_reach(name, "did not respond", advice)
        weights["state_dict"] = read_tensors(cached)  # prevents a further request to the hub by timm
    try:
        with quiet():
            model: Any = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=weights, **options)
    except Exception as error:
        raise _out_of_reach(name, type(error).__name__, advice) from error
    model.pretrained_cfg = {**model.pretrained_cfg, "state_dict": None}
    return cast(nn.Module, model)


def find_weights(name: str, settings: Any) -> str:
    """Return a text that states where the published weights are, without downloading the weights.

    Raises:
        ModelError: No weights are published under this name, or the weights are not cached and the hub does not
            respond.
    """
    _check_published(name, settings, WITHOUT_HUB)
    if settings.file or _cached(settings):
        return "in the local cache"
    if any(_answers(address, refusals=False) for address in _addresses(settings)):
        return "on the model hub, which is reachable; training downloads the weights"
    raise _out_of_reach(name, "did not respond", WITHOUT_HUB)


def _check_published(name: str, settings: Any, advice: str) -> None:
    if not settings.has_weights:
        raise ModelError(f"{name}: timm has no weights with this name; {advice}")


def _out_of_reach(name: str, reason: str, advice: str) -> ModelError:
    return ModelError(f"{name}: pretrained weights cannot be loaded (the model hub {reason}); {advice}")


def _files(settings: Any) -> list[str]:
    """Return the file names under which the weights may be stored on the hub."""
    if settings.hf_hub_filename:
        return [settings.hf_hub_filename]
    return ["model.safetensors", "pytorch_model.bin"]


def _cached(settings: Any) -> bool:
    if not settings.hf_hub_id:
        return _cached_url(settings.url)
    return _cached_file(settings) is not None


def _cached_file(settings: Any) -> Path | None:
    """Return the path of the weights file in the local hub cache, or None if the file is not cached."""
    if not settings.hf_hub_id:
        return None
    for file in _files(settings):
        path = try_to_load_from_cache(settings.hf_hub_id, file)
        if isinstance(path, str):
            return Path(path)
    return None


def _addresses(settings: Any) -> list[str]:
    if not settings.hf_hub_id:
        return [settings.url]
    return [f"{constants.ENDPOINT}/{settings.hf_hub_id}/resolve/main/{file}" for file in _files(settings)]


def _cached_url(url: str) -> bool:
    return (Path(torch.hub.get_dir()) / "checkpoints" / os.path.basename(url)).is_file()  # noqa: PTH119 - a URL


REPOSITORY = r"[\w.-]+/[\w.-]+"
ADDRESS = re.compile(rf"hf:/{{1,2}}({REPOSITORY})(?:@([\w./-]+))?/?")  # `Path` replaces two slashes with one


def fetch_model(address: Path | str) -> Path:
    """Return the path of a model file from the hub; download the file unless the newest version is cached.

    If the hub is unreachable, the cached version is used.

    Args:
        address: `hf://user/name`, or `hf://user/name@revision` with a branch, tag or commit.

    Raises:
        ModelError: The address is invalid, the repository, revision or file does not exist, access is denied, or the
            hub is unreachable and the file is not in the cache.
    """
    parts = ADDRESS.fullmatch(str(address))
    if parts is None:
        raise ModelError(f"{address}: not a hub address; expected hf://user/name or hf://user/name@revision")
    with hub_errors(f"hf://{parts[1]}"), quiet():
        return Path(hf_hub_download(parts[1], MODEL_FILE, revision=parts[2]))


@contextmanager
def hub_errors(what: str) -> Iterator[None]:
    """Convert errors of the hub client to a ModelError that names `what` and contains no access token."""
    try:
        yield
    except errors.GatedRepoError as error:
        reason = "access is restricted; request access on the hub"
        raise ModelError(f"{what}: {reason}") from error
    except errors.RepositoryNotFoundError as error:
        reason = (
            "the repository does not exist or is private; check the name, or log in (run hf auth login, or set "
            "HF_TOKEN)"
        )
        raise ModelError(f"{what}: {reason}") from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{what}: the repository does not have this revision; check the revision") from error
    except errors.LocalEntryNotFoundError as error:  # must precede the base class
        reason = (
            f"the model hub {constants.ENDPOINT} did not respond, and the file is not in the local cache; try again"
        )
        raise ModelError(f"{what}: {reason}") from error
    except errors.EntryNotFoundError as error:
        reason = f"the repository has no {MODEL_FILE}; only models from mlrec export --format hf can be loaded"
        raise ModelError(f"{what}: {reason}") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        advice = "try again later"
        if status in (401, 403):
            advice = "log in with a token that has write access (run hf auth login, or set HF_TOKEN)"
        raise ModelError(f"{what}: the model hub rejected the request (HTTP {status}); {advice}") from error
    except errors.LocalTokenNotFoundError as error:
        raise ModelError(f"{what}: no access token for the model hub; run hf auth login, or set HF_TOKEN") from error
    except Exception as error:  # the HTTP library raises additional error types
        reason = f"the model hub {constants.ENDPOINT} is unreachable ({type(error).__name__})"
        raise ModelError(f"{what}: {reason}") from error
