"""`RunRecord`: settings, data, environment and status of a run.

The record is stored as `run.json` in the run folder.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from mlrec import __version__
from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import Manifest
from mlrec.lineage import Lineage, Training
from mlrec.metrics.summary import Metrics
from mlrec.predictions import Predictions
from mlrec.renamed import current_keys, current_names
from mlrec.run_folders import directory
from mlrec.utils import processes
from mlrec.utils.errors import DataError, RunError
from mlrec.utils.files import read_own_json, write_json

if TYPE_CHECKING:
    import torch

    from mlrec.models.classifier import Classifier


FORMAT = "mlrec-run/1"
PACKAGES = ("torch", "torchvision", "timm", "numpy")
Status = Literal["running", "interrupted", "failed", "finished"]


class SplitRecord(msgspec.Struct, frozen=True):
    """Record of a split that was used in a run.

    Attributes:
        dataset, kind, split: Name of the dataset, kind of the dataset, and name of the split.
        samples: Number of samples.
        digest: Digest of the manifest.
        path: Dataset folder.
    """

    dataset: str
    kind: str
    split: str
    samples: int
    digest: str
    path: str = ""

    @classmethod
    def of(cls, dataset: Dataset, manifest: Manifest) -> SplitRecord:
        """Create the record for a split of a dataset."""
        return cls(
            dataset=dataset.info.name,
            kind=str(dataset.info.source.get("kind", "")),
            split=manifest.split,
            samples=len(manifest),
            digest=manifest.digest,
            path=str(dataset.path.absolute()),
        )

    def training(self, run: str = "") -> Training:
        """Return the lineage entry for a run named `run` that was trained on this split."""
        return Training(self.dataset, self.kind, self.split, self.samples, self.digest, run)

    def manifest(self) -> Manifest | None:
        """Read the split; returns None if the split no longer exists or has changed."""
        if not self.path:
            return None
        try:
            manifest = Dataset.load(self.path).manifest(self.split)
        except DataError:
            return None
        if manifest.digest != self.digest:
            return None
        return manifest

    def positives(self) -> dict[str, int] | None:
        """Count the positives of each label; returns None if the split no longer exists or has changed."""
        manifest = self.manifest()
        if manifest is None:
            return None
        return manifest.positives()


def training_positives(splits: Sequence[SplitRecord | None], labels: Iterable[str]) -> dict[str, int] | None:
    """Return the number of positives of each label in the training split that all runs share.

    Args:
        splits: Training split of each run.
        labels: Labels that the split must contain.

    Returns:
        Dict from label to number of positives. None if the runs have different splits or an unknown split. Also None if
        the split no longer exists, has changed, or lacks a label.
    """
    first = splits[0]
    if first is None or any(split is None or split.digest != first.digest for split in splits):
        return None
    positives = first.positives()
    if positives is None or not set(labels) <= set(positives):
        return None
    return positives


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Settings, data, environment and status of a run, without arrays.

    Attributes:
        name: Name of the run.
        status: Status of the run: "running", "interrupted", "failed" or "finished".
        config: Values of all keys in `Config`.
        sources: Origin of each value in `config`.
        recipe: Name of the recipe.
        command: Command line as entered by the user.
        started, finished: Start and end times in ISO format.
        train, scored: Splits for training and scoring.
        model: Properties of the model, such as `backbone` (with the weights tag), `parameters`, `head_parameters` and
            `input_size`.
        environment: Versions, device, threads, precision and other values needed to reproduce the metrics.
        seconds: Dict from part of the run ("train", "eval", "features") to its duration in seconds.
        notes: Footnotes for every table that contains the run, such as "frozen, no augmentation".
        best: Epoch, split and mAP of the best epoch, if multiple epochs were evaluated.
        lineage: Origin of the initial weights; None in records from earlier versions of mlrec, see
            `ancestry.lineage_of`.
        warnings: Warnings that were logged during the run, one line per kind of warning.
        format: Name and version of the file format.
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
        """Write `run.json` atomically to the run folder `path`."""
        write_json(path / directory.RECORD, msgspec.to_builtins(self))

    @classmethod
    def load(cls, path: Path | str) -> RunRecord:
        """Read `run.json` in the run folder `path`.

        Raises:
            RunError: The file is missing or has a different format.
        """
        file = Path(path) / directory.RECORD
        if not file.is_file():
            raise RunError(f"{path}: not a run folder (no {directory.RECORD}); pass the path of a run folder")
        record = read_own_json(file, cls, RunError, "not written by this version")
        return msgspec.structs.replace(
            record, config=current_keys(record.config), sources=current_names(record.sources)
        )


@dataclass(frozen=True)
class Run:
    """Finished or unfinished run; arrays are read on demand.

    Attributes:
        path: Run folder.
        record: Record of the run.
        model: Folder or file of the model; None if the model is in the run folder.

    A run can be passed instead of a path, for example to `mlrec.load_model`.

    Example:
        >>> record = RunRecord(name="first", status="finished", config={"lr": 0.01})
        >>> Path("runs/first").mkdir(parents=True)
        >>> record.save(Path("runs/first"))
        >>> run = Run.load("runs/first")
        >>> run.name, run.record.status, run.config["lr"]
        ('first', 'finished', 0.01)
    """

    path: Path
    record: RunRecord = field(repr=False)
    model: Path | None = None

    @property
    def name(self) -> str:
        """Name of the run in tables: the name of `model` if it is set, otherwise of the run folder."""
        return (self.model or self.path).name

    @classmethod
    def load(cls, path: Path | str) -> Run:
        """Open the run folder `path`.

        Raises:
            RunError: The folder does not contain a run.
        """
        return cls(Path(path), RunRecord.load(path))

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> dict[str, Any]:
        """Values of all keys in `Config`."""
        return self.record.config

    def metrics(self) -> Metrics:
        """Read `metrics.json`."""
        return Metrics.load(self.path / directory.METRICS)

    def predictions(self) -> Predictions:
        """Read `predictions.npz`."""
        return Predictions.load(self.path / directory.PREDICTIONS)

    def manifest(self, split: str | None = None) -> Manifest:
        """Read a split of the run's dataset [default: the evaluated split].

        Raises:
            RunError: The run has no dataset.
            DataError: The dataset has been moved or does not have this split.
        """
        if self.record.scored is None:
            raise RunError(
                f"{self.path}: the run record does not contain the dataset; load the dataset with Dataset.load(PATH)"
            )
        return Dataset.load(self.record.scored.path).manifest(split or self.record.scored.split)

    def load_model(self) -> Classifier:
        """Load the model on the CPU in eval mode, as `mlrec.load_model` does.

        Raises:
            ModelError: The run is not finished, or the model file is damaged.
        """
        from mlrec.models.checkpoint import load_model

        return load_model(self.model or self.path)


def all_runs(root: Path | str = "runs") -> list[Run]:
    """Return all finished and unfinished runs in `root` and all subfolders, in order of start time."""
    files: Sequence[Path] = [*Path(root).glob(f"*/{directory.RECORD}"), *Path(root).glob(f"*/*/{directory.RECORD}")]
    runs = [Run.load(file.parent) for file in files]
    return sorted(runs, key=lambda run: (run.record.started, run.path))


def finished_runs(root: Path | str = "runs") -> list[Run]:
    """Return all finished runs in `root` and all subfolders, in order of start time."""
    return [run for run in all_runs(root) if run.record.status == "finished"]


def latest_run(root: Path | str = "runs") -> Run:
    """Return the run in `root` that finished last.

    Raises:
        RunError: There is no finished run.
    """
    runs = finished_runs(root)
    if not runs:
        raise RunError(f"no finished run in {root}; run mlrec train, or pass the path of a run")
    return max(runs, key=lambda run: (run.record.finished or "", run.path))


def environment(device: torch.device, precision: str) -> dict[str, Any]:
    """Return the properties of the environment that are stored in `run.json`.

    The properties are versions, machine, device, precision, threads and processes.

    Args:
        device: Device of the model; for CUDA, the GPU name and the CUDA version are added.
        precision: Precision of the backbone.

    Returns:
        Dict from property name to JSON value.
    """
    import torch  # run records can be read without torch

    gpu = {}
    if device.type == "cuda":
        gpu = {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return {
        "mlrec": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
        "machine": platform.machine(),
        "device": device.type,
        "precision": precision,
        "threads": torch.get_num_threads(),
        "processes": processes.world_size(),
        **gpu,
    }
