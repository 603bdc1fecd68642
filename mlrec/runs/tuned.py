"""`Tuned`: thresholds and calibration of a model's labels, and where they come from; `thresholds.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.manifest import label_order
from mlrec.predictions import probabilities_of
from mlrec.utils.errors import DataError, RunError, counted, printable
from mlrec.utils.files import MODEL_FILE, read_own_json, write_json

THRESHOLDS = "thresholds.json"
FORMAT = "mlrec-thresholds/1"


class TunedLabel(msgspec.Struct, frozen=True):
    """What holds for one label.

    Attributes:
        threshold: a logit; said at or above it, never where None.
        slope, offset: calibrated logit = slope · logit + offset.
        positives: samples it was tuned on that show it.
        own: whether threshold and slope are its own, or those of all labels.
    """

    threshold: float | None
    slope: float
    offset: float
    positives: int
    own: bool


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds and calibration by label.

    Attributes:
        target: what the thresholds are best for, in words.
        dataset, split, samples, digest: what they were chosen on.
        trained_on: how many of those samples the model was trained on.
    """

    target: str
    dataset: str
    split: str
    samples: int
    digest: str
    labels: dict[str, TunedLabel]
    trained_on: int = 0
    format: str = FORMAT

    def save(self, model: Path) -> Path:
        """Write the file beside the model, whole or not at all, and return where that is."""
        file = tuned_file(model)
        write_json(file, msgspec.to_builtins(self))
        return file

    @classmethod
    def load(cls, model: Path | str) -> Tuned:
        """Read the thresholds of a model.

        Raises:
            RunError: there is none, or it is not ours.
        """
        path, file = Path(model), tuned_file(model)
        if not file.is_file():
            raise RunError(f"{printable(path)}: has no tuned thresholds; make them with mlrec tune {printable(path)}")
        tuned = read_own_json(file, cls, RunError, "tune again")
        if tuned.format != FORMAT or not all(label.slope > 0 for label in tuned.labels.values()):
            raise RunError(f"{printable(file)}: not thresholds that this version wrote ({FORMAT}); tune again")
        return tuned

    def ordered(self, labels: Sequence[str]) -> Tuned:
        """The same with the labels in another order.

        Raises:
            RunError: they are for other labels.
        """
        try:
            order = label_order(tuple(self.labels), tuple(labels))
        except DataError as error:
            raise RunError(f"thresholds are for other labels: {error}; tune again") from error
        names = list(self.labels)
        return msgspec.structs.replace(self, labels={names[k]: self.labels[names[k]] for k in order})

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """(C,) logits, infinite for a label that is never said."""
        return np.array([np.inf if tuned.threshold is None else tuned.threshold for tuned in self.labels.values()])

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """(C,) the thresholds on calibrated probabilities, infinite for a label that is never said."""
        cut = self.calibrated(self.thresholds)
        return np.where(np.isinf(cut), np.inf, probabilities_of(cut))

    def calibrated(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Calibrated logits (..., C)."""
        slopes = np.array([tuned.slope for tuned in self.labels.values()])
        offsets = np.array([tuned.offset for tuned in self.labels.values()])
        return np.asarray(slopes * logits.astype(np.float64) + offsets)

    def in_words(self) -> str:
        """What follows the word threshold at the foot of a table."""
        return f"tuned for {self.target} on {self.dataset} {self.split} ({counted(self.samples, 'sample')})"


def tuned_file(model: Path | str) -> Path:
    """Where a model's thresholds lie: in its folder; another file than the folder's own model has a file of its own."""
    path = Path(model)
    if path.is_dir():
        return path / THRESHOLDS
    return path.with_name(THRESHOLDS if path.stem == Path(MODEL_FILE).stem else f"{path.stem}.{THRESHOLDS}")
