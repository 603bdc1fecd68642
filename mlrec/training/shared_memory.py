"""Tensors in memory that is shared by all processes on a machine."""

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

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - the system folder for shared memory; small in containers
_numbers = itertools.count()


def shared_empty(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Allocate an uninitialized CPU tensor in memory that is shared by all processes on this machine.

    All processes must call this function in the same order. The underlying file is deleted before the function returns,
    so that the memory is freed when the last process exits.

    Raises:
        MlrecError: Neither the shared memory nor the temporary folder has enough space.
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
    """Create a file with `size` reserved bytes.

    A full disk therefore raises an error instead of a later bus error.
    """
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
        f"{size / 1e9:.1f} GB of memory to share between {local_world()} processes fit neither in "
        f"{' nor in '.join(map(str, folders))}; free some space, set TMPDIR, or increase --shm-size "
        "in a container"
    )
