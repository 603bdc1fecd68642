"""`Run`: a finished or unfinished training run, with its record, predictions, metrics and lineage.

`RunRecord` contains settings, data, environment and status of a run, and is stored as `run.json` in the run folder. The
lineage of a model or run includes the earlier runs from which it was initialized.
"""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
import safetensors
from numpy.typing import NDArray

from mlrec import __version__
from mlrec.config import PATHS, current_keys, current_names
from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import Manifest
from mlrec.lineage import Lineage, Training, lineage_from, unknown_lineage
from mlrec.metrics.average_precision import by_frequency
from mlrec.metrics.conventions import conventions_named
from mlrec.metrics.evaluate import evaluate, evaluate_scores, undefined_labels
from mlrec.metrics.summary import Metrics, label_rows
from mlrec.predictions import Predictions
from mlrec.run_folders import directory
from mlrec.utils import processes
from mlrec.utils.errors import DataError, PredictionsError, RunError
from mlrec.utils.files import read_own_json, write_json
from mlrec.utils.frame_files import write_csv
from mlrec.utils.names import label_columns

if TYPE_CHECKING:
    import torch

    from mlrec.models.classifier import Classifier
    from mlrec.run_folders.tuned import Tuned

logger = logging.getLogger(__name__)
FORMAT = "mlrec-run/1"
METADATA_KEY = "mlrec"  # key in a model file; see `models.checkpoint`
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
        """Read the manifest of the split, or return None if the split no longer exists or has changed."""
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
        """Count the positives of each label, or return None if the split no longer exists or has changed."""
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
        Dict from label to number of positives. None if the runs have different splits, or if the split is unknown, no
        longer exists, has changed, or lacks a label.
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
        recipe: Name of the recipe; None if there is none.
        command: Command line as entered by the user.
        started, finished: Start and end times in ISO format; `finished` is None unless the run is finished.
        train, scored: Splits for training and scoring.
        model: Properties of the model, such as `backbone` (with a weights tag only if the run started from timm's
            pretrained weights), `parameters`, `head_parameters` and `input_size`.
        environment: Versions, device, threads, precision and other values needed to reproduce the metrics.
        seconds: Duration in seconds of each part of the run ("train", "eval", "features", "head").
        notes: Footnotes for every table that contains the run, such as "frozen, no augmentation".
        best: Epoch, split and mAP of the best epoch; None without a selection split and without `eval_every`, or before
            the first epoch with a defined mAP.
        lineage: Origin of the initial weights; None in records written by earlier versions of mlrec (see `lineage_of`).
        warnings: Warnings from the preparation of the dataset, one line per kind of warning.
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
    """Finished or unfinished run whose arrays are read on demand.

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
        """Name of the run in tables: the name of `model` if it is set, otherwise the name of the run folder."""
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
        """Read the metrics of the run from `metrics.json`."""
        return Metrics.load(self.path / directory.METRICS)

    def predictions(self) -> Predictions:
        """Read the predictions of the run from `predictions.npz`."""
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
    """Return all finished and unfinished runs up to two levels below `root`, in order of start time."""
    files: Sequence[Path] = [*Path(root).glob(f"*/{directory.RECORD}"), *Path(root).glob(f"*/*/{directory.RECORD}")]
    runs = [Run.load(file.parent) for file in files]
    return sorted(runs, key=lambda run: (run.record.started, run.path))


def finished_runs(root: Path | str = "runs") -> list[Run]:
    """Return all finished runs up to two levels below `root`, in order of start time."""
    return [run for run in all_runs(root) if run.record.status == "finished"]


def latest_run(root: Path | str = "runs") -> Run:
    """Return the run that finished last among the runs up to two levels below `root`.

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


def metrics_of(
    predictions: Predictions,
    conventions: str = "mlrec",
    labels: Sequence[str] | None = None,
    tuned: Tuned | None = None,
    trained_on: Manifest | None = None,
    top: int | None = None,
) -> Metrics:
    """Compute the metrics of predictions, optionally for some labels or with tuned thresholds.

    Args:
        predictions: Predictions with targets.
        conventions: Name of the scoring conventions.
        labels: Labels to score; all other labels are removed first [default: all labels].
        tuned: Tuned thresholds [default: a label is predicted if its probability is at least 0.5].
        trained_on: Training split of the model, used to compute the mAP of frequent, medium and rare labels. If it is
            None or lacks a label, this mAP is not computed.
        top: Number K of labels per sample. If set, precision, recall and F1 are also computed for the K
            highest-scoring labels of each sample; see `TopRates`.

    Raises:
        PredictionsError: A label is unknown, a logit is NaN or infinite, or there are no targets.
        RunError: The tuned thresholds are for different labels.
        UsageError: There are no conventions with that name, or `top` is not from 1 to the number of scored labels.
    """
    if predictions.targets is None:
        raise PredictionsError(
            "the predictions have no targets, so they cannot be scored; add the ground truth as targets"
        )
    if labels is None:
        labels = predictions.labels
    names = tuple(labels)
    columns = label_columns(predictions.labels, names, "predictions", PredictionsError)
    logits, targets = predictions.logits[:, columns], predictions.targets[:, columns]
    if tuned is None:
        metrics = evaluate(logits, targets, labels=names, conventions=conventions, scores="logits", top=top)
    else:
        rules = replace(conventions_named(conventions), threshold=tuned.in_words(), scores="logits")
        thresholds = tuned.ordered(predictions.labels).thresholds[columns]
        metrics = evaluate_scores(logits, targets, threshold=thresholds, labels=names, conventions=rules, top=top)
    if trained_on is None or not set(names) <= set(trained_on.labels):
        return metrics
    return replace(metrics, by_frequency=by_frequency(metrics.average_precision, trained_on.positives()))


def warn_undefined(targets: NDArray[np.int8], labels: Sequence[str]) -> None:
    """Log a warning about labels without an AP, with the reason."""
    for line in undefined_labels(targets, labels):
        logger.warning(line)


def write_scores(folder: Path, predictions: Predictions, metrics: Metrics) -> None:
    """Write `predictions.npz`, `metrics.json` and `per_label.csv` (`Metrics.to_frame`) to `folder`."""
    predictions.save(folder / directory.PREDICTIONS)
    metrics.save(folder / directory.METRICS)
    write_csv(label_rows(metrics), folder / directory.PER_LABEL)


def lineage_of(record: RunRecord, seen: frozenset[Path] = frozenset()) -> Lineage:
    """Return the lineage of the initial weights of a run.

    If the record was written by an earlier version of mlrec and has no lineage, the lineage is inferred from the
    settings of the run. The inferred lineage is unknown if the initial model is missing or has no known lineage.

    Args:
        record: Record of the run.
        seen: Folders that have already been visited, to stop at circular references.
    """
    if record.lineage is not None:
        return record.lineage
    config = record.config
    start = config.get("init_from") or config.get("weights")
    if start in PATHS["weights"]:
        return Lineage(weights=str(start), origin="package")
    if start:
        return lineage_at(Path(str(start)), seen) or unknown_lineage(str(start))
    if config.get("pretrained") is False:
        return Lineage(weights="random", origin="random")
    known = record.model.get("weights") or record.model.get("backbone") or config.get("backbone", "")
    return Lineage(weights=str(known), origin="timm")


def lineage_at(source: Path, seen: frozenset[Path] = frozenset()) -> Lineage | None:
    """Return the lineage of an mlrec model, including the training run that created the model.

    The result is None if no lineage is stored and the training run is unknown.

    Args:
        source: Run folder, folder of an imported model, or model file.
        seen: Folders that have already been visited.
    """
    folder, file, own = source.parent, source, source.name in (directory.MODEL, directory.BEST)
    if source.is_dir():
        folder, file, own = source, source / directory.MODEL, True
    has_record = own and (folder / directory.RECORD).is_file()
    stored = _stored(file)
    if stored is not None and has_record:
        return _with_run_name(stored, folder.name)
    if stored is not None:
        return stored
    resolved = folder.resolve()
    if not has_record or resolved in seen:
        return None
    try:
        record = RunRecord.load(folder)
    except RunError:
        return None
    before = lineage_of(record, seen | {resolved})
    if record.train is None:
        return before
    return before.followed_by(record.train.training(folder.name))


def _with_run_name(lineage: Lineage, run: str) -> Lineage:
    """Add the run name, which model files do not contain, to the last training run of a lineage."""
    if not lineage.trainings:
        return lineage
    *before, last = lineage.trainings
    return msgspec.structs.replace(lineage, trainings=(*before, msgspec.structs.replace(last, run=run)))


def _stored(file: Path) -> Lineage | None:
    """Read the lineage from a model file without reading the weights."""
    if not file.is_file():
        return None
    try:
        with safetensors.safe_open(file, framework="np") as opened:
            text = (opened.metadata() or {}).get(METADATA_KEY, "{}")
        return lineage_from(msgspec.convert(json.loads(text), dict).get("lineage"))
    except (safetensors.SafetensorError, OSError, ValueError, RecursionError):
        return None
