"""`log.jsonl`: events of a run, one JSON object per line.

Lines are removed only when a run is resumed.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import msgspec

from mlrec.run_folders import directory
from mlrec.utils.errors import RunError
from mlrec.utils.files import read_bytes, write_text, writing


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


def append(folder: Path, event: str, **values: Any) -> None:
    """Append an event to the log of a run.

    Args:
        folder: Run folder.
        event: "steps", "epoch" or "scored".
        values: Values of the event.
    """
    path, line = folder / directory.LOG, json.dumps({"event": event, **values}, allow_nan=False) + "\n"
    with writing(path, len(line)), path.open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(line)


def finite_or_none(value: float) -> float | None:
    """Return the value, or None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def entries(folder: Path) -> list[dict[str, Any]]:
    """Return all events of a run; a last line that is incomplete is skipped.

    Raises:
        RunError: A line was not written by training.
    """
    path = folder / directory.LOG
    if not path.is_file():
        return []
    return [_entry(line, path) for line in read_bytes(path, RunError).split(b"\n")[:-1]]


def _entry(line: bytes, path: Path) -> dict[str, Any]:
    try:
        entry = msgspec.json.decode(line, type=dict[str, Any])
        msgspec.convert(entry, _StepsEntry | _EpochEntry | _ScoredEntry)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{path}: {error}; not written by mlrec train") from error
    return entry


def rewind(folder: Path, step: int) -> None:
    """Remove what a resumed run will do again: events after `step`, and the end of an epoch at `step`."""
    kept = [e for e in entries(folder) if e["step"] < step or (e["step"] == step and e["event"] == "steps")]
    write_text(folder / directory.LOG, "".join(json.dumps(entry) + "\n" for entry in kept))
