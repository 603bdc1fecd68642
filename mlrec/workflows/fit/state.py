"""State of a fit, stored in a file from which an interrupted fit is resumed."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import Any

import msgspec

from mlrec.datasets.dataset import Dataset
from mlrec.utils.errors import MlrecError, RunError, UsageError

FILE, PAGE = "fit.json", "report.html"  # the page is written last


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """Candidate model that was trained during a fit.

    Attributes:
        name: Name of the run folder; the folder of the best candidate is renamed to `best` at the end.
        pair: Names of the backbone and the head, joined by "-".
        stage: Training stage, "frozen" or "fine-tuned".
        mAP: mAP on the model-selection split, as a fraction; None if undefined.
        seconds: Time in seconds for training and evaluation, without the time for features of a frozen backbone.
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
        source: Absolute path that was passed to the fit: `data`, or the annotations from which it was prepared.
        splits: Splits for training, the comparison of heads (`sample`), model selection and reporting.
        candidates: Trained models.
        best: Name of the chosen candidate; None until all candidates are trained.
        notes: Steps that were skipped or shortened because there was not enough time.
        options: Backbone, weights, and keys of `Config` that affect the model; None in files of earlier versions.
    """

    minutes: float
    spent: float = 0.0
    data: str = ""
    source: str = ""
    splits: dict[str, str] = {}
    candidates: list[Candidate] = []
    best: str | None = None
    notes: list[str] = []
    options: dict[str, Any] | None = None


def dataset_of(source: Path, out: Path, name: str | None) -> Dataset | None:
    """Return the dataset of an earlier fit of the same annotations; None if there is no fit with this name.

    Preparing the data again would take time, and would remove the splits of this fit.
    """
    for file in sorted(out.glob(f"{glob.escape(name) if name else '*'}/{FILE}")):
        try:
            state = _read(file)
            dataset = Dataset.load(state.data)
        except MlrecError:
            continue
        if state.source == str(source.absolute()) and file.parent.name == (name or default_name(dataset)):
            return dataset
    return None


def default_name(dataset: Dataset) -> str:
    """Return the name of the folder of a fit."""
    return f"{dataset.info.name}-fit"


def state_at(folder: Path, minutes: float, dataset: Dataset, options: dict[str, Any], source: Path) -> FitState:
    """Return the state of an interrupted fit with the same data and options, or a new state if there is none.

    Raises:
        UsageError: The folder contains a finished fit, a fit with different data or options, or other files.
        RunError: `fit.json` is damaged.
    """
    options = json.loads(json.dumps(options, default=str))
    if not (folder / FILE).is_file():
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(f"{folder} already exists and was not written by mlrec fit; choose a different --name")
        return FitState(minutes=minutes, data=str(dataset.path), source=str(source.absolute()), options=options)
    state = _read(folder / FILE)
    if state.best is not None and (folder / PAGE).is_file():
        raise UsageError(f"{folder}: this fit is finished; choose a different --name, or remove the folder")
    if Path(state.data).resolve() != dataset.path.resolve():
        raise UsageError(f"{folder}: this fit uses the dataset {state.data}; choose a different --name")
    known = options if state.options is None else state.options
    changed = [key for key in sorted({*known, *options}) if known.get(key) != options.get(key)]
    if changed:
        before = ", ".join(f"{key} {known.get(key, 'not set')}" for key in changed)
        raise UsageError(
            f"{folder}: this fit was started with other options ({before}); repeat them, or choose a different --name"
        )
    return msgspec.structs.replace(state, minutes=minutes, options=known)


def _read(file: Path) -> FitState:
    try:
        return msgspec.json.decode(file.read_bytes(), type=FitState)
    except (OSError, msgspec.MsgspecError) as error:
        raise RunError(f"{file}: the file is damaged; remove the folder and start again") from error
