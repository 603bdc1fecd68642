"""State of a fit, stored in a file from which an interrupted fit is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from mlrec.datasets.dataset import Dataset
from mlrec.utils.errors import RunError, UsageError

FILE = "fit.json"


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Candidate model that was trained during a fit.

    Attributes:
        name: Name of the run folder.
        pair: Name of the backbone and head.
        stage: Training stage, "frozen" or "fine-tuned".
        mAP: mAP on the model-selection split, as a fraction; None if undefined.
        seconds: Training time in seconds.
        flags: Keys of `Config` for training the candidate.
    """

    name: str
    pair: str
    stage: str
    mAP: float | None
    seconds: float
    flags: dict[str, Any]

    @property
    def score(self) -> float:
        """Value for sorting by mAP; an undefined mAP is ranked last."""
        return -1.0 if self.mAP is None else self.mAP


class FitState(msgspec.Struct, kw_only=True):
    """Content of `fit.json`, used to resume an interrupted fit.

    Attributes:
        minutes: Time limit in minutes.
        spent: Time spent so far, in seconds.
        data: Folder of the dataset.
        splits: Splits for training, the comparison of heads (`sample`), model selection and reporting.
        candidates: Trained models.
        best: Name of the chosen candidate; None until the end.
        notes: Steps that were skipped or shortened because there was not enough time.
    """

    minutes: float
    spent: float = 0.0
    data: str = ""
    splits: dict[str, str] = {}
    candidates: list[Candidate] = []
    best: str | None = None
    notes: list[str] = []


def state_at(folder: Path, minutes: float, dataset: Dataset) -> FitState:
    """Return the state of an interrupted fit on the same data, or a new state if there is none.

    Raises:
        UsageError: The folder contains a finished fit, a fit on different data, or other files.
    """
    if not (folder / FILE).is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{folder} already exists and was not written by mlrec fit; choose a different --name")
        return FitState(minutes=minutes, data=str(dataset.path))
    try:
        state = msgspec.json.decode((folder / FILE).read_bytes(), type=FitState)
    except (OSError, msgspec.MsgspecError) as error:
        raise RunError(f"{folder / FILE}: the file is damaged; remove the folder and start again") from error
    if state.best is not None:
        raise UsageError(f"{folder}: this fit is finished; choose a different --name, or remove the folder")
    if Path(state.data).resolve() != dataset.path.resolve():
        raise UsageError(f"{folder}: this fit uses the dataset {state.data}; choose a different --name")
    return msgspec.structs.replace(state, minutes=minutes)
