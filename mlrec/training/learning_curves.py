"""Learning curves as a picture: loss and learning rate of the steps, mAP of the epochs that were scored."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlrec.utils.files import write_bytes

Entries = Sequence[Mapping[str, Any]]


def draw_curves(entries: Entries, path: Path) -> None:
    """Draw the lines of `log.jsonl` into a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    steps = _of(entries, "steps")
    upper.plot([e["step"] for e in steps], [e["loss"] for e in steps], lw=0.6, alpha=0.4, label="loss")
    epochs = _of(entries, "epoch")
    upper.plot([e["step"] for e in epochs], [e["loss"] for e in epochs], marker=".", label="loss, mean of an epoch")
    upper.set_ylabel("loss")
    scored = upper.twinx()
    for split in dict.fromkeys(e["split"] for e in _of(entries, "scored")):
        points = [e for e in _of(entries, "scored") if e["split"] == split and e["mAP"] is not None]
        label = f"mAP on {split}"
        scored.plot([e["step"] for e in points], [100 * e["mAP"] for e in points], "o--", c="tab:green", label=label)
    scored.set_ylabel("mAP, %")
    lines = [*upper.get_lines(), *scored.get_lines()]
    upper.legend(lines, [str(line.get_label()) for line in lines], loc="best", fontsize="small")
    lower.plot([e["step"] for e in steps], [e["lr"] for e in steps], lw=1)
    lower.set(xlabel="step", ylabel="lr")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_bytes(path, picture.getvalue())


def _of(entries: Entries, event: str) -> list[Mapping[str, Any]]:
    return [entry for entry in entries if entry["event"] == event]
