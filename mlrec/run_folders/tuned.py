"""`Tuned`: thresholds and calibration for the labels of a model, stored as `thresholds.json`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mlrec.predictions import probabilities_of
from mlrec.utils.errors import DataError, RunError, counted
from mlrec.utils.files import MODEL_FILE, read_own_json, write_json
from mlrec.utils.names import label_order

THRESHOLDS = "thresholds.json"
FORMAT = "mlrec-thresholds/1"


class TunedLabel(msgspec.Struct, frozen=True):
    """Threshold and calibration for one label.

    Attributes:
        threshold: Logit at or above which the label is predicted; None if the label is never predicted.
        slope, offset: Calibration parameters. The calibrated logit is slope · logit + offset.
        positives: Number of positives used for tuning.
        own: True if the threshold is fitted to this label, False if the common threshold of all labels is used.
    """

    threshold: float | None
    slope: float
    offset: float
    positives: int
    own: bool


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """Thresholds and calibration for all labels.

    Attributes:
        target: Description of the metric that was maximized.
        dataset, split, samples, digest: Names of the dataset and the split used for tuning, number of samples in the
            split, and digest of the manifest.
        labels: Threshold and calibration by label.
        trained_on: Number of tuning samples that were also used to train the model.
        format: Name and version of the file format.
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
        """Write the thresholds file of a model (see `tuned_file`) atomically, and return the path of the file."""
        file = tuned_file(model)
        write_json(file, msgspec.to_builtins(self))
        return file

    @classmethod
    def load(cls, model: Path | str) -> Tuned:
        """Read the thresholds of a model.

        Raises:
            RunError: The file is missing or has a different format.
        """
        path, file = Path(model), tuned_file(model)
        if not file.is_file():
            raise RunError(f"{path}: there are no tuned thresholds; run mlrec tune {path}")
        tuned = read_own_json(file, cls, RunError, "tune again")
        if tuned.format != FORMAT or not all(label.slope > 0 for label in tuned.labels.values()):
            raise RunError(f"{file}: the file is not in the format of this version ({FORMAT}); run mlrec tune again")
        return tuned

    def ordered(self, labels: Sequence[str]) -> Tuned:
        """Return the same thresholds with the labels in a different order.

        Args:
            labels: Label names in the new order.

        Raises:
            RunError: The thresholds are for different labels.
        """
        try:
            order = label_order(tuple(self.labels), tuple(labels))
        except DataError as error:
            raise RunError(f"the thresholds are for different labels ({error}); run mlrec tune again") from error
        names = list(self.labels)
        return msgspec.structs.replace(self, labels={names[k]: self.labels[names[k]] for k in order})

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """Thresholds on logits (C,); infinite for labels that are never predicted."""
        return np.array([np.inf if tuned.threshold is None else tuned.threshold for tuned in self.labels.values()])

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Thresholds on calibrated probabilities (C,); infinite for labels that are never predicted."""
        cut = self.calibrated(self.thresholds)
        return np.where(np.isinf(cut), np.inf, probabilities_of(cut))

    def calibrated(self, logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Return the calibrated logits.

        Args:
            logits: Array of shape (..., C), with one logit per label in the order of `labels`.
        """
        slopes = np.array([tuned.slope for tuned in self.labels.values()])
        offsets = np.array([tuned.offset for tuned in self.labels.values()])
        return np.asarray(slopes * logits.astype(np.float64) + offsets)

    def in_words(self) -> str:
        """Describe the target metric and the data, as text that follows the word "thresholds" in a footnote."""
        return f"tuned for {self.target} on {self.dataset} {self.split} ({counted(self.samples, 'sample')})"


def tuned_file(model: Path | str) -> Path:
    """Return the path of the thresholds file for a model folder or model file.

    Example:
        >>> str(tuned_file("models/other.safetensors"))
        'models/other.thresholds.json'
    """
    path = Path(model)
    if path.is_dir():
        return path / THRESHOLDS
    if path.stem == Path(MODEL_FILE).stem:  # the main model in the folder
        return path.with_name(THRESHOLDS)
    return path.with_name(f"{path.stem}.{THRESHOLDS}")
