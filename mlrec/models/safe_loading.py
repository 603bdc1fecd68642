"""Safe reading of third-party weights files: only plain tensors are read, and no code is ever executed.

There is no unsafe mode. Files that are not weights (a web page, a Git LFS pointer, an archive, a program) are
recognized first and reported by name.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from mlrec.utils.errors import ModelError
from mlrec.utils.files import MODEL_FILE

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "state_dict_ema", "model_ema")
PREFIXES = ("module.", "_orig_mod.")
MAX_EXPANSION = 10  # bytes per stored byte, of an archive's members and of tensors that share storage


def read_tensors(path: Path) -> Any:
    """Read the content of a weights file: a dict of tensors, or a dict around one.

    Raises:
        ModelError: The file is missing, is not a weights file, is damaged, or contains more than plain data.
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
    except Exception as error:  # torch raises nearly anything on damaged files
        raise ModelError(f"{path}: broken or truncated, no readable checkpoint; fetch it again") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a `.safetensors` file; raises ModelError if it is damaged."""
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # as above
        raise ModelError(f"{path}: broken safetensors file ({error}); fetch it again") from error


def model_file(path: Path | str) -> Path:
    """Return the weights file of a run folder, an imported folder or a model on the hub, or the file itself."""
    if str(path).startswith("hf:/"):  # an address on the hub: hf://user/name or hf://user/name@revision
        from mlrec.models.hub import fetch_model

        return fetch_model(path)
    path = Path(path)
    file = path
    if path.is_dir():
        file = path / MODEL_FILE
    if not file.is_file():
        from mlrec.models.onnx_file import onnx_file

        if onnx_file(path) is not None:
            raise ModelError(
                f"{path}: an exported ONNX model, which mlrec predict alone runs; give what it was made of"
            )
        raise ModelError(f"{path}: no model here; give a run, an imported folder or a .safetensors file")
    return file


def unwrapped(content: Any, source: str = "checkpoint") -> dict[str, Tensor]:
    """Return the state dict in `content`, without wrappers (`state_dict`, `model`, ...) and prefixes (`module.`).

    Raises:
        ModelError: It contains no named tensors, or a tensor claims more bytes than it has.
    """
    for _ in range(2):
        inner = next((content[key] for key in WRAPPERS if _is_dict(content) and _is_dict(content.get(key))), None)
        if inner is not None:
            content = inner
    if not _is_dict(content):
        raise ModelError(
            f"{source}: holds a {type(content).__name__}, not a dict of named tensors; save model.state_dict()"
        )
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors or not all(isinstance(key, str) for key in tensors):
        what = "it holds no tensors"
        if tensors:
            what = "its keys are no names"
        raise ModelError(f"{source}: {what}; save model.state_dict()")
    for key, tensor in tensors.items():
        _check_storage(source, key, tensor)
    claimed = sum(tensor.nbytes for tensor in tensors.values())
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors.values()}
    held = sum(storage.nbytes() for storage in storages.values())
    if claimed > MAX_EXPANSION * held:
        raise ModelError(f"{source}: its tensors claim {claimed:,} bytes but share {held:,}; refused")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _is_dict(content: Any) -> bool:
    return isinstance(content, Mapping)


def _check_storage(shown: str, key: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        raise ModelError(f"{shown}: '{key}' is sparse, nested or quantised; only dense weights can be read")
    if tensor.is_meta:
        raise ModelError(f"{shown}: '{key}' has a shape but no values; save the weights themselves")
    needed = tensor.numel() * tensor.element_size()
    if tensor.untyped_storage().nbytes() < needed:
        held = tensor.untyped_storage().nbytes()
        raise ModelError(f"{shown}: '{key}' claims {needed:,} bytes but holds {held:,}; refused")


def _first_bytes(path: Path) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise ModelError(f"{path}: is a folder or no regular file; give the path of a checkpoint file")
        with path.open("rb") as stream:
            return stream.read(512)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error


def _not_weights(path: Path, head: bytes) -> str | None:
    """Describe the file if it is certainly not a weights file."""
    text = head.lstrip().lower()
    if not head:
        return "is empty; fetch it again"
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "is a web page, not weights: the download gave a login or error page; fetch the file itself"
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the weights; run git lfs pull"
    if not head.startswith(b"PK"):
        return None
    if not zipfile.is_zipfile(path):
        return "is truncated: the archive has no end; fetch it again"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception:  # noqa: BLE001 - as above
        return "is a damaged archive; fetch it again"
    names, unpacked = [entry.filename for entry in entries], sum(entry.file_size for entry in entries)
    if unpacked > MAX_EXPANSION * path.stat().st_size:
        return f"would unpack to {unpacked:,} bytes, as no weights do; refused"
    if any(name.endswith("constants.pkl") or "/code/" in f"/{name}" for name in names):
        return "is a TorchScript archive, which is a program and is not run; save model.state_dict() instead"
    if not any(name.endswith("data.pkl") for name in names):
        return "is an ordinary zip archive, not weights; unpack it and give the checkpoint in it"
    return None


def _why_refused(path: Path) -> str:
    names: list[str] = []
    if zipfile.is_zipfile(path):
        try:
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        except Exception:  # noqa: BLE001 - names in a message are worth no failure
            names = []
    held = ""
    if names:
        held = f" ({', '.join(names[:3])})"
    return (
        f"is no plain checkpoint: it is broken or holds Python objects{held} that could run code when loaded; "
        "refused. Ask its author for model.state_dict()"
    )
