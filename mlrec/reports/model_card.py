"""The model card of an exported bundle: what the model is, what it was measured on, how to run it without mlrec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlrec.metrics.evaluate import Metrics
from mlrec.reports.render.markdown import escape, markdown
from mlrec.reports.runs_table import scored_tables
from mlrec.runs.ancestry import lineage_of
from mlrec.runs.record import RunRecord
from mlrec.runs.tuned import THRESHOLDS, Tuned
from mlrec.utils.errors import counted


@dataclass(frozen=True)
class Card:
    """What a card tells.

    Attributes:
        form: "onnx" or "safetensors".
        file: the name of the model's file.
        check: one sentence on how it agrees with the model it was made from.
        record, metrics: of the run, where it was one.
        tuned: its thresholds, where there are any.
    """

    form: str
    file: str
    labels: Sequence[str]
    preprocessing: dict[str, Any]
    architecture: dict[str, Any]
    check: str
    record: RunRecord | None = None
    metrics: Metrics | None = None
    tuned: Tuned | None = None


def model_card(card: Card) -> str:
    """The card as Markdown."""
    built, pixels = card.architecture, card.preprocessing
    backbone = str(built["backbone"]).partition(".")[0]  # its weights are its own by now, not those of a tag
    name = card.record.name if card.record else f"{backbone} {built['head']}"
    size = pixels["size"]
    parts = [
        f"# {escape(name)}",
        f"Says which of {counted(len(card.labels), 'label')} an image shows; several may hold, or none.",
        f"- model: `{card.file}`, {escape(backbone)}, head {escape(_head(built))}\n"
        f"- input: RGB, the whole image squashed to {size} x {size} ({pixels['interpolation']}, antialiased), "
        f"pixel / 255, minus {pixels['mean']}, divided by {pixels['std']}\n"
        f"- output: a logit a label; probability = sigmoid(logit); said where logit >= {_said(card.tuned)}\n"
        f"- labels, in the order of the output: {', '.join(map(escape, card.labels))}",
        *_origin(card),
        "## Use",
        f"With mlrec: `mlrec predict photos --run FOLDER{' --tuned' if card.tuned else ''}`.",
        *(
            [_SNIPPET.format(file=card.file, size=size, filter=pixels["interpolation"].upper())]
            if card.form == "onnx"
            else []
        ),
        f"Checked when it was exported: {escape(card.check)}.",
        "## Limits and licence",
        "Numbers hold for images like those it was scored on. The terms of its weights follow from the data it was "
        "trained on and from the weights it started from; state them before you pass it on.",
    ]
    return "\n\n".join(parts) + "\n"


_SNIPPET = """Without it, in Python:

```python
import json
import numpy as np
import onnxruntime
from PIL import Image

told = json.load(open("bundle.json"))
pixels = Image.open("photo.jpg").convert("RGB").resize(({size}, {size}), Image.Resampling.{filter})
values = np.asarray(pixels, np.float32) / 255
values = (values - told["preprocessing"]["mean"]) / told["preprocessing"]["std"]
session = onnxruntime.InferenceSession("{file}")
logits = session.run(["logits"], {{"images": values.transpose(2, 0, 1)[None].astype(np.float32)}})[0]
```"""


def _head(built: dict[str, Any]) -> str:
    """The head with what is a setting of it: H of the two that attend, λ of CSRA."""
    told = {"csra": f", H = {built['heads']}, λ = {built['lam']:g}", "spatial": f", H = {built['heads']}"}
    return str(built["head"]) + told.get(str(built["head"]), "")


def _said(tuned: Tuned | None) -> str:
    return "0" if tuned is None else f"the label's own in `{THRESHOLDS}`, {escape(tuned.in_words())}"


def _origin(card: Card) -> list[str]:
    if card.record is None:
        return []
    record, parts = card.record, ["## Where it is from"]
    if record.train is not None:
        lineage = lineage_of(record)
        start = "weights of unknown origin" if lineage.origin == "unknown" else f"{lineage.weights} weights"
        before = [f"trained before on {training.dataset} {training.split}" for training in lineage.trainings]
        parts.append(
            f"Trained on {escape(record.train.dataset)} {escape(record.train.split)} "
            f"({counted(record.train.samples, 'sample')}) from {escape(', '.join([start, *before]))}, seed "
            f"{record.config.get('seed')}, mlrec {record.environment.get('mlrec', '')}."
        )
    if card.metrics is not None and record.scored is not None:
        title = f"Scored on {record.scored.dataset} {record.scored.split}, threshold 0.5"
        parts.append(markdown(scored_tables(card.metrics, title=title)).strip())
    return parts
