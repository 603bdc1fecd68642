"""Run folder: file names, creation, and the lock for writing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from mlrec.utils.errors import RunError
from mlrec.utils.files import MODEL_FILE, remove_stale, writing

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
TRACKERS = "trackers.json"
LOCK = ".lock"
FIRST = (CONFIG, RESUME)  # files that are written before the record


def new_run(out: Path, name: str | None, stem: str) -> Path:
    """Create and return an empty run folder.

    Args:
        out: Parent folder for runs.
        name: Name of the run folder [default: `STEM-1`, `STEM-2`, ...].
        stem: Stem of the default name.

    Raises:
        RunError: A folder with this name already exists.
    """
    out.mkdir(parents=True, exist_ok=True)
    if name is not None:
        check_free(out / name)
        (out / name).mkdir(exist_ok=True)
        return out / name
    number = 1
    while True:
        path = out / f"{stem}-{number}"
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def check_free(path: Path) -> None:
    """Check that `path` does not exist, or contains only files of a run that was killed at the start.

    A run that is killed at the start has no record, so its folder can be used again.

    Raises:
        RunError: The path already exists and contains other files.
    """
    if os.path.lexists(path) and not only_begun(path):
        raise RunError(f"{path}: the folder already exists; choose a different --name, or use --resume")


def only_begun(path: Path) -> bool:
    """Return whether `path` contains only files of a run that was killed before its record was written."""
    if not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    return LOCK in names and all(name.startswith(".") or name in FIRST for name in names)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a run folder for writing; the kernel releases the lock when the process ends.

    Raises:
        RunError: Another process holds the lock; the message states the PID, host and start time of that process.
    """
    path.mkdir(parents=True, exist_ok=True)
    lock = path / LOCK
    with lock.open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip()
            raise RunError(f"{path}: the folder is in use by {holder}; choose a different --out or --name") from error
        except OSError:
            pass  # the file system does not support locks
        stream.truncate(0)
        holder = f"pid {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}"
        with writing(lock, len(holder)):
            os.write(stream.fileno(), holder.encode())
        remove_stale(path)
        try:
            yield
        finally:
            stream.truncate(0)  # keep the file: otherwise two later processes could lock two different files
