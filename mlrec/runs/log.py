"""`log.jsonl`: what happened in a run, one JSON object a line; it only grows, except when a run is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlrec.files import write_text
from mlrec.runs import directory


def append(folder: Path, event: str, **values: Any) -> None:
    """Add a line: `event` is "steps", "epoch" or "scored"."""
    with (folder / directory.LOG).open("a", encoding="utf-8", newline="\n") as stream:
        stream.write(json.dumps({"event": event, **values}, allow_nan=False) + "\n")


def entries(folder: Path) -> list[dict[str, Any]]:
    """All lines; one cut short by a kill is left out."""
    path = folder / directory.LOG
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def rewind(folder: Path, step: int) -> None:
    """Drop what a resumed run is going to do again: everything after `step`, and the end of an epoch at it."""
    kept = [e for e in entries(folder) if e["step"] < step or (e["step"] == step and e["event"] == "steps")]
    write_text(folder / directory.LOG, "".join(json.dumps(entry) + "\n" for entry in kept))
