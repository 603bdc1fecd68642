"""Tensors in memory that the processes of one machine share."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from mlrec.training import distributed
from mlrec.utils.errors import MlrecError
from mlrec.utils.processes import local_world

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the system's folder for it; small in containers
_numbers = itertools.count()


def shared_empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Allocate an uninitialized CPU tensor; all processes of this machine get the same memory.

    All processes must call it in the same order. The file behind the memory is already deleted when it returns, so
    the memory is freed with the last process.

    Raises:
        MlrecError: Neither shared memory nor the folder of temporary files has room for it.
    """
    if local_world() == 1:
        return torch.empty(shape, dtype=dtype)
    count, store = torch.Size(shape).numel(), distributed.store()
    key, local = f"shared-{platform.node()}-{next(_numbers)}", int(os.environ.get("LOCAL_RANK", "0"))
    if local:
        path = Path(store.get(key).decode())
        values = torch.from_file(str(path), shared=True, size=count, dtype=dtype)
        store.set(f"{key}-{local}", "")
        return values.view(shape)
    path = _file_of(count * dtype.itemsize)
    try:
        values = torch.from_file(str(path), shared=True, size=count, dtype=dtype)
        store.set(key, str(path))
        store.wait([f"{key}-{other}" for other in range(1, local_world())], distributed.TIMEOUT)
    finally:
        path.unlink()
    return values.view(shape)


def _file_of(size: int) -> Path:
    """Create a file with `size` reserved bytes, so that lack of room is an error here instead of a bus error later."""
    folders = [folder for folder in (SHARED_MEMORY, Path(tempfile.gettempdir())) if folder.is_dir()]
    for folder in folders:
        if shutil.disk_usage(folder).free < size:
            continue
        number, name = tempfile.mkstemp(prefix="mlrec-features-", dir=folder)
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(number, 0, size)
            else:
                os.truncate(number, size)  # macOS
            return Path(name)
        except OSError:
            Path(name).unlink()
        finally:
            os.close(number)
    raise MlrecError(
        f"{size / 1e9:.1f} GB to be shared by {local_world()} processes fit neither into "
        f"{' nor into '.join(map(str, folders))}; free some space, set TMPDIR, or in a container "
        "raise --shm-size"
    )
