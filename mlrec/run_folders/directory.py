"""Run folders: file names, creation, locking for writing, and the log.

`log.jsonl` contains the events of a run, one JSON object per line; learning curves are drawn from the events. Lines are
removed only when a run is resumed.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import math
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from mlrec.utils.errors import RunError
from mlrec.utils.files import MODEL_FILE, read_bytes, remove_stale, write_bytes, write_text, writing

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


class _StepsEntry(msgspec.Struct, tag_field="event", tag="steps"):
    epoch: int
    step: int
    loss: float | None
    lr: float


class _EpochEntry(msgspec.Struct, tag_field="event", tag="epoch"):
    epoch: int
    step: int
    loss: float


class _ScoredEntry(msgspec.Struct, tag_field="event", tag="scored"):
    epoch: int
    step: int
    split: str
    mAP: float | None


def new_run(out: Path, name: str | None, stem: str) -> Path:
    """Create a run folder and return its path.

    The folder of a run that was killed at the start is reused; see `check_free`.

    Args:
        out: Parent folder for runs.
        name: Name of the run folder [default: `STEM-1`, `STEM-2`, ...].
        stem: Stem of the default name.

    Raises:
        RunError: The path OUT/NAME exists and cannot be reused.
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
    """Check that `path` does not exist or contains only files of a run that was killed at the start.

    A run that is killed at the start leaves no run record, so its folder can be reused.

    Raises:
        RunError: The path exists and is not the folder of such a run.
    """
    if os.path.lexists(path) and not only_begun(path):
        raise RunError(f"{path}: the folder already exists; choose a different --name, or resume the run with --resume")


def only_begun(path: Path) -> bool:
    """Return whether `path` contains only files of a run that was killed before its record was written."""
    if not path.is_dir():
        return False
    names = {entry.name for entry in path.iterdir()}
    return LOCK in names and all(name.startswith(".") or name in FIRST for name in names)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a run folder for writing; the kernel releases the lock when the process ends.

    If the folder does not exist, it is created. If the file system does not support locks, nothing is locked.

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


def append_event(folder: Path, event: str, **values: Any) -> None:
    """Append an event to the log of a run.

    Args:
        folder: Run folder.
        event: Type of the event: "steps", "epoch" or "scored".
        values: Values of the event.
    """
    path, line = folder / LOG, json.dumps({"event": event, **values}, allow_nan=False) + "\n"
    with writing(path, len(line)), path.open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(line)


def finite_or_none(value: float) -> float | None:
    """Return the value, or None for NaN and infinity, which JSON cannot represent."""
    return value if math.isfinite(value) else None


def log_entries(folder: Path) -> list[dict[str, Any]]:
    """Return all events in the log of a run, except an incomplete last line.

    The list is empty if there is no log.

    Raises:
        RunError: A line was not written by `mlrec train`.
    """
    path = folder / LOG
    if not path.is_file():
        return []
    return [_entry(line, path) for line in read_bytes(path, RunError).split(b"\n")[:-1]]


def _entry(line: bytes, path: Path) -> dict[str, Any]:
    try:
        entry = msgspec.json.decode(line, type=dict[str, Any])
        msgspec.convert(entry, _StepsEntry | _EpochEntry | _ScoredEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{path}: not a log written by mlrec train ({error}); restore the original file") from error
    return entry


def rewind_log(folder: Path, step: int) -> None:
    """Remove the events that a resumed run will log again.

    All events after `step` are removed. Of the events at `step`, only those of type "steps" are kept.
    """
    kept = [e for e in log_entries(folder) if e["step"] < step or (e["step"] == step and e["event"] == "steps")]
    write_text(folder / LOG, "".join(json.dumps(entry) + "\n" for entry in kept))


def draw_curves(folder: Path) -> None:
    """Draw the loss, mAP and learning rate of a run against the step.

    The figure is written to `curves.png` in the run folder.
    """
    from matplotlib.figure import Figure

    events: dict[str, list[dict[str, Any]]] = {"steps": [], "epoch": [], "scored": []}
    for entry in log_entries(folder):
        events[entry["event"]].append(entry)
    steps, epochs = events["steps"], events["epoch"]
    figure = Figure(figsize=(8, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([e["step"] for e in steps], [e["loss"] for e in steps], lw=0.6, alpha=0.4, label="loss")
    upper.plot([e["step"] for e in epochs], [e["loss"] for e in epochs], marker=".", label="loss, mean over the epoch")
    upper.set_ylabel("loss")
    scored = upper.twinx()
    for split in dict.fromkeys(e["split"] for e in events["scored"]):
        points = [e for e in events["scored"] if e["split"] == split and e["mAP"] is not None]
        label = f"mAP on {split}"
        scored.plot([e["step"] for e in points], [100 * e["mAP"] for e in points], "o--", c="tab:green", label=label)
    scored.set_ylabel("mAP, %")
    lines = [*upper.get_lines(), *scored.get_lines()]
    upper.legend(lines, [str(line.get_label()) for line in lines], loc="best", fontsize="small")
    lower.plot([e["step"] for e in steps], [e["lr"] for e in steps], lw=1)
    lower.set(xlabel="step", ylabel="learning rate")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_bytes(folder / CURVES, picture.getvalue())
