"""A run's folder: the names of its files, who may write in it, and where runs are found."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from mlrec.errors import RunError, printable
from mlrec.files import MODEL_FILE, remove_stale

CONFIG = "config.toml"
RECORD = "run.json"
LOG = "log.jsonl"
METRICS = "metrics.json"
PREDICTIONS = "predictions.npz"
PER_LABEL = "per_label.csv"
MODEL = MODEL_FILE
BEST = "best.safetensors"
RESUME = "last.pt"
RESUME_PREVIOUS = "last.prev.pt"
CURVES = "curves.png"
LOCK = ".lock"


def new_run(out: Path, name: str | None, stem: str) -> Path:
    """Create and return an empty run folder: `out/name`, or `out/STEM-1`, `-2`, ... when no name is given.

    Raises:
        RunError: `name` exists already.
    """
    out.mkdir(parents=True, exist_ok=True)
    if name is not None:
        path = out / name
        try:
            path.mkdir()
        except FileExistsError as error:
            raise RunError(f"{printable(path)}: exists already; choose another --name, or --resume it") from error
        return path
    number = 1
    while True:
        path = out / f"{stem}-{number}"
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the folder for writing; the kernel lets go when the process ends, however it ends.

    Raises:
        RunError: another process holds it; names its pid, host and start.
    """
    path.mkdir(parents=True, exist_ok=True)
    lock = path / LOCK
    with lock.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = printable(stream.read().strip())
            raise RunError(f"{printable(path)}: is in use by {holder}; choose another --out or --name") from error
        except OSError:
            pass  # a file system without locks: nothing to hold
        stream.truncate(0)
        stream.write(f"pid {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}")
        stream.flush()
        remove_stale(path)
        try:
            yield
        finally:
            stream.truncate(0)  # the file stays: removing it would let two later processes lock two different files
