"""Model card of an exported model: architecture, input and output, metrics, and usage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlrec.metrics.summary import Metrics
from mlrec.reports.render.markdown import escape, markdown
from mlrec.reports.runs_table import scored_tables
from mlrec.run_folders.record import RunRecord, lineage_of
from mlrec.run_folders.tuned import THRESHOLDS, Tuned
from mlrec.utils.errors import counted


@dataclass(frozen=True)
class Card:
    """Content of a model card.

    Attributes:
        form: Format of the model, "onnx", "safetensors" or "hf".
        file: Name of the model file.
        labels: Names of the labels, in the order of the outputs.
        preprocessing: Fields of `Preprocessing`.
        architecture: Fields of `Architecture`.
        check: One sentence that states how closely the exported model agrees with the original model.
        record: Record of the run; None if the model was imported.
        metrics: Metrics of the run; None if there are none.
        tuned: Tuned thresholds; None if there are none.
        repository: Name of the repository on the Hugging Face Hub, such as `user/name`; None if unknown.
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
    repository: str | None = None

    @property
    def name(self) -> str:
        """Name of the run, or backbone and head if there is no run."""
        if self.record is not None:
            return self.record.name
        return f"{backbone_of(self.architecture)} {self.architecture['head']}"


def model_card(card: Card) -> str:
    """Return the model card as Markdown."""
    architecture, preprocessing = card.architecture, card.preprocessing
    backbone = backbone_of(architecture)
    size = preprocessing["size"]
    command = "mlrec predict photos --run FOLDER"
    if card.tuned:
        command += " --tuned"
    parts = [
        f"# {escape(card.name)}",
        f"Multi-label image classifier for {counted(len(card.labels), 'label')}; an image may have any number of "
        "labels.",
        f"- model: `{card.file}`, {escape(backbone)}, head {escape(_head(architecture))}\n"
        f"- input: RGB, the whole image resized to {size} x {size} ({preprocessing['interpolation']}, antialiased), "
        f"pixel / 255, minus {preprocessing['mean']}, divided by {preprocessing['std']}\n"
        f"- output: one logit per label; probability = sigmoid(logit); predicted if logit >= {_threshold(card.tuned)}\n"
        f"- labels, in the order of the output: {', '.join(map(escape, card.labels))}",
        *_origin(card),
        "## Use",
        f"With mlrec: `{command}`.",
    ]
    if card.form == "onnx":
        parts.append(_ONNX.format(file=card.file, size=size, filter=preprocessing["interpolation"].upper()))
    if card.form == "hf":
        parts.append(_HUB.format(repository=card.repository or "USER/NAME"))
    parts += [
        f"Checked at export: {escape(card.check)}.",
        "## Limits and license",
        "The metrics hold for images similar to those in the scored split. The license of the weights depends on the "
        "training data and on the starting weights; state the license before you distribute the model.",
    ]
    return "\n\n".join(parts) + "\n"


def backbone_of(architecture: dict[str, Any]) -> str:
    """Return the backbone name without the weights tag, which does not apply to fine-tuned weights."""
    return str(architecture["backbone"]).partition(".")[0]


_HUB = """In Python, from the hub or from a folder:

```python
import mlrec

model = mlrec.load_model("hf://{repository}")  # normalized images (B, 3, H, W) → logits (B, C)
for prediction in mlrec.predict(model, "photo.jpg"):
    print(prediction.predicted, prediction.scores)
```

Only the backbone, with timm, from a folder:

```python
import json
import timm
from safetensors.torch import load_file

config, start = json.load(open("config.json")), "backbone.timm_model."
weights = load_file("model.safetensors")
backbone = timm.create_model(config["architecture"], num_classes=0, **config["model_args"])
backbone.load_state_dict({{key.removeprefix(start): weights[key] for key in weights if key.startswith(start)}})
```"""
_ONNX = """Without mlrec, in Python:

```python
import json
import numpy as np
import onnxruntime
from PIL import Image

bundle = json.load(open("bundle.json"))
pixels = Image.open("photo.jpg").convert("RGB").resize(({size}, {size}), Image.Resampling.{filter})
values = np.asarray(pixels, np.float32) / 255
values = (values - bundle["preprocessing"]["mean"]) / bundle["preprocessing"]["std"]
session = onnxruntime.InferenceSession("{file}")
logits = session.run(["logits"], {{"images": values.transpose(2, 0, 1)[None].astype(np.float32)}})[0]
```"""


def _head(architecture: dict[str, Any]) -> str:
    """Return the head and its settings as text: H for CSRA and spatial pooling, and λ for CSRA."""
    head = str(architecture["head"])
    if head == "csra":
        return f"{head}, H = {architecture['heads']}, λ = {architecture['lam']:g}"
    if head == "spatial":
        return f"{head}, H = {architecture['heads']}"
    return head


def _threshold(tuned: Tuned | None) -> str:
    if tuned is None:
        return "0"
    return f"the label's threshold in `{THRESHOLDS}`, {escape(tuned.in_words())}"


def _origin(card: Card) -> list[str]:
    if card.record is None:
        return []
    record, parts = card.record, ["## Origin"]
    if record.train is not None:
        lineage = lineage_of(record)
        start = f"{lineage.weights} weights"
        if lineage.origin == "unknown":
            start = "weights of unknown origin"
        before = [f"previously trained on {training.dataset} {training.split}" for training in lineage.trainings]
        parts.append(
            f"Trained on {escape(record.train.dataset)} {escape(record.train.split)} "
            f"({counted(record.train.samples, 'sample')}) from {escape(', '.join([start, *before]))}, seed "
            f"{record.config.get('seed')}, mlrec {record.environment.get('mlrec', '')}."
        )
    if card.metrics is not None and record.scored is not None:
        title = f"Scored on {record.scored.dataset} {record.scored.split}, threshold 0.5"
        parts.append(markdown(scored_tables(card.metrics, title=title)).strip())
    return parts
