"""`RunRecord`: what a run was and what came of it; `run.json` in its folder, final when it says `finished`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from mlrec.lineage import Lineage
from mlrec.metrics.evaluate import Metrics
from mlrec.predictions import Predictions
from mlrec.renamed import current_keys, current_names
from mlrec.runs import directory
from mlrec.utils.errors import RunError, printable
from mlrec.utils.files import read_own_json, write_json

FORMAT = "mlrec-run/1"
Status = Literal["running", "interrupted", "failed", "finished"]


class SplitRecord(msgspec.Struct, frozen=True):
    """A split that a run used: where it lies, how many samples, and the digest of its manifest."""

    dataset: str
    kind: str
    split: str
    samples: int
    digest: str
    path: str = ""


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a run but its arrays.

    Attributes:
        config: every key of `Config`; `sources` says where each value came from; `recipe` names the recipe used.
        command: the command line, as typed.
        train, scored: the splits trained on and scored.
        model: `backbone` with the tag of its weights, `parameters`, `head_parameters`, `input_size`, ...
        environment: versions, device, threads, precision: whatever a reader needs to repeat the numbers.
        seconds: by part ("train", "eval", "features").
        notes: what every table must say beside the numbers ("frozen, no augmentation").
        best: epoch, split and mAP of the best epoch, where one was looked for.
        lineage: Where the starting weights come from; None in records of earlier versions, see `ancestry.lineage_of`.
        warnings: one line a kind.
    """

    name: str
    status: Status
    config: dict[str, Any]
    sources: dict[str, str] = {}
    recipe: str | None = None
    command: list[str] = []
    started: str = ""
    finished: str | None = None
    train: SplitRecord | None = None
    scored: SplitRecord | None = None
    model: dict[str, Any] = {}
    environment: dict[str, Any] = {}
    seconds: dict[str, float] = {}
    notes: list[str] = []
    best: dict[str, Any] | None = None
    lineage: Lineage | None = None
    warnings: list[str] = []
    format: str = FORMAT

    def save(self, path: Path) -> None:
        """Write `run.json` into the run folder `path`, whole or not at all."""
        write_json(path / directory.RECORD, msgspec.to_builtins(self))

    @classmethod
    def load(cls, path: Path | str) -> RunRecord:
        """Read `run.json` of the run folder `path`.

        Raises:
            RunError: there is none, or it is not ours.
        """
        file = Path(path) / directory.RECORD
        if not file.is_file():
            raise RunError(f"{printable(path)}: no run here (no {directory.RECORD}); give the folder of a run")
        record = read_own_json(file, cls, RunError, "not a record that this version wrote")
        return msgspec.structs.replace(
            record, config=current_keys(record.config), sources=current_names(record.sources)
        )


@dataclass(frozen=True)
class Run:
    """A finished or unfinished run: its folder and its record; arrays are read when asked for.

    Attributes:
        model: where its model lies; None: in its folder.
    """

    path: Path
    record: RunRecord = field(repr=False)
    model: Path | None = None

    @property
    def name(self) -> str:
        """As tables call it: the folder's name, or the model's."""
        return (self.model or self.path).name

    @classmethod
    def load(cls, path: Path | str) -> Run:
        """Open the run folder `path`; raises RunError where there is none."""
        return cls(Path(path), RunRecord.load(path))

    def metrics(self) -> Metrics:
        """What `metrics.json` holds."""
        return Metrics.load(self.path / directory.METRICS)

    def predictions(self) -> Predictions:
        """What `predictions.npz` holds."""
        return Predictions.load(self.path / directory.PREDICTIONS)


def finished_runs(root: Path | str = "runs") -> list[Run]:
    """All finished runs in folders directly under `root` or one level below, in order of their start."""
    files: Sequence[Path] = [*Path(root).glob(f"*/{directory.RECORD}"), *Path(root).glob(f"*/*/{directory.RECORD}")]
    runs = [Run.load(file.parent) for file in files]
    return sorted((run for run in runs if run.record.status == "finished"), key=lambda r: (r.record.started, r.path))


def latest_run(root: Path | str = "runs") -> Run:
    """The run under `root` that finished last.

    Raises:
        RunError: there is none.
    """
    runs = finished_runs(root)
    if not runs:
        raise RunError(f"no finished run under {printable(root)}; run mlrec train, or name a run")
    return max(runs, key=lambda run: (run.record.finished or "", run.path))
