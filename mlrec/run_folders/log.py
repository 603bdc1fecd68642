"""`log.jsonl`: events of a run, one JSON object per line, and learning curves drawn from the events.

Lines are removed only when a run is resumed.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import msgspec

from mlrec.run_folders import directory
from mlrec.utils.errors import RunError
from mlrec.utils.files import read_bytes, write_bytes, write_text, writing


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
        event: Type of the event: "steps", "epoch" or "scored".
        values: Values of the event.
    """
    path, line = folder / directory.LOG, json.dumps({"event": event, **values}, allow_nan=False) + "\n"
    with writing(path, len(line)), path.open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(line)


def finite_or_none(value: float) -> float | None:
    """Return the value, or None for NaN and infinity, which JSON cannot represent."""
    return value if math.isfinite(value) else None


def entries(folder: Path) -> list[dict[str, Any]]:
    """Return all events of a run; an incomplete last line is skipped.

    Raises:
        RunError: A line was not written by `mlrec train`.
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
        raise RunError(f"{path}: not a log written by mlrec train ({error}); restore the original file") from error
    return entry


def rewind(folder: Path, step: int) -> None:
    """Remove events that a resumed run will repeat.

    All events after `step` are removed. If an epoch ends at `step`, the event for the end of this epoch is also
    removed.
    """
    kept = [e for e in entries(folder) if e["step"] < step or (e["step"] == step and e["event"] == "steps")]
    write_text(folder / directory.LOG, "".join(json.dumps(entry) + "\n" for entry in kept))


def draw_curves(folder: Path) -> None:
    """Draw the loss, mAP and learning rate of a run against the step.

    The figure is written to `curves.png` in the run folder.
    """
    from matplotlib.figure import Figure

    events: dict[str, list[dict[str, Any]]] = {"steps": [], "epoch": [], "scored": []}
    for entry in entries(folder):
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
    write_bytes(folder / directory.CURVES, picture.getvalue())
