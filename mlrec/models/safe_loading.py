"""Safe reading of third-party weights files.

Only plain tensors are read, and no code is ever executed. There is no unsafe mode. Other kinds of files (web page, Git
LFS pointer, archive, program) are detected first and reported as such.
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
MAX_EXPANSION = 10  # bytes per stored byte, for archive members and for tensors that share storage


def read_tensors(path: Path) -> Any:
    """Read the dict in a weights file; it contains tensors, or other dicts of tensors.

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
    except Exception as error:  # torch raises many kinds of exceptions on damaged files
        raise ModelError(f"{path}: the checkpoint is damaged or truncated; download it again") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors in a `.safetensors` file; raises ModelError if the file is damaged."""
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # as above
        raise ModelError(f"{path}: the safetensors file is damaged ({error}); download it again") from error


def model_file(path: Path | str) -> Path:
    """Return the weights file for a run folder, an imported folder, a model on the hub, or a weights file."""
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
                f"{path}: an exported ONNX model, which only mlrec predict can run; pass the original model"
            )
        raise ModelError(f"{path}: not a model; pass a run folder, an imported folder or a .safetensors file")
    return file


def unwrapped(content: Any, source: str = "checkpoint") -> dict[str, Tensor]:
    """Return the state dict in `content`, without wrappers and prefixes.

    Wrappers are `state_dict`, `model`, ..., and prefixes are `module.`.

    Raises:
        ModelError: There are no named tensors, or a tensor claims more bytes than the file contains.
    """
    for _ in range(2):
        inner = next((content[key] for key in WRAPPERS if _is_dict(content) and _is_dict(content.get(key))), None)
        if inner is not None:
            content = inner
    if not _is_dict(content):
        raise ModelError(f"{source}: a {type(content).__name__}, not a dict of named tensors; save model.state_dict()")
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
            f"{source}: the tensors claim {claimed:,} bytes but share only {held:,} bytes; save the tensors again"
        )
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in tensors):
            tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _is_dict(content: Any) -> bool:
    return isinstance(content, Mapping)


def _check_storage(shown: str, key: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        raise ModelError(f"{shown}: '{key}' is sparse, nested or quantized; save dense weights")
    if tensor.is_meta:
        raise ModelError(f"{shown}: '{key}' has a shape but no values; save the weights themselves")
    needed = tensor.numel() * tensor.element_size()
    if tensor.untyped_storage().nbytes() < needed:
        held = tensor.untyped_storage().nbytes()
        raise ModelError(
            f"{shown}: '{key}' claims {needed:,} bytes but contains only {held:,} bytes; save the tensor again"
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
    """Return a description of the file if the file is certainly not a weights file."""
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
