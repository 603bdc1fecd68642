"""`mlrec eval`: evaluate a trained model on a dataset, and write predictions and metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from mlrec.datasets.dataset import Dataset, label_gaps
from mlrec.datasets.manifest import Manifest
from mlrec.metrics.conventions import conventions_named
from mlrec.metrics.evaluate import check_top
from mlrec.metrics.summary import Metrics
from mlrec.predictions import Predictions
from mlrec.run_folders import directory
from mlrec.run_folders.evaluations import FILE
from mlrec.run_folders.record import (
    RunRecord,
    SplitRecord,
    environment,
    latest_run,
    lineage_at,
    metrics_of,
    warn_undefined,
    write_scores,
)
from mlrec.utils import processes
from mlrec.utils.errors import DataError, ModelError, PredictionsError
from mlrec.utils.files import replace_folder, write_json
from mlrec.utils.names import label_columns
from mlrec.utils.progress import SILENT, Progress, first_process_logs
from mlrec.utils.texts import shared_with
from mlrec.workflows.runtime import RuntimeOptions

if TYPE_CHECKING:
    from mlrec.run_folders.tuned import Tuned

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """Predictions and metrics from an evaluation.

    Attributes:
        path: Written folder.
        predictions: Predictions for all labels.
        metrics: Metrics over the scored labels.
        model: Folder or file of the model.
        dataset, split: Dataset and split that were scored.
        training: Number of training positives by label; None if `metrics.by_frequency` is empty, for example because
            the training split is unknown.
    """

    path: Path
    predictions: Predictions
    metrics: Metrics
    model: Path
    dataset: Dataset
    split: str
    training: Mapping[str, int] | None = None


@first_process_logs()
def evaluate_run(
    model: Path | str,
    *,
    data: Path | str | None = None,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    conventions: str = "mlrec",
    tuned: bool = False,
    top: int | None = None,
    machine: RuntimeOptions | None = None,
    voc_server: Path | None = None,
    data_root: Path | str = "data",
    progress: Progress = SILENT,
) -> Evaluation:
    """Evaluate a trained model.

    The metrics and the predictions for all labels are written to the folder `eval-DATA-SPLIT` in the model folder, or
    next to the model file. With `tuned`, the folder is `eval-tuned-DATA-SPLIT`. An existing folder is replaced.

    Args:
        model: Folder of a run or of an imported model, or a `.safetensors` file.
        data: Folder of a prepared dataset; by default the dataset of the run, otherwise the most recently prepared
            dataset.
        split: Split to score; by default the scored split of the run, otherwise `test`, `val` or the only split.
        labels: Labels to score; by default all.
        conventions: Name of the scoring conventions.
        tuned: Whether to predict labels with the tuned thresholds of the model.
        top: Number K of labels per sample. If set, precision, recall and F1 are also computed with the K
            highest-scoring labels of each sample as predictions.
        machine: Runtime options.
        voc_server: Archive to write for the PASCAL VOC evaluation server.
        data_root: Folder of datasets, used if the run has no dataset.
        progress: Progress display.

    Raises:
        MlrecError: The model or the data does not exist, the labels differ from those of the model, or images cannot be
            read.
    """
    if processes.rank() != 0:
        progress = SILENT
    target = resolve_eval_target(model, data, split, labels=labels, data_root=data_root)
    conventions_named(conventions)
    check_top(top, len(labels or target.manifest.labels))
    kind = str(target.dataset.info.source.get("kind"))
    if voc_server is not None:  # checked before predictions that may take hours
        from mlrec.workflows.evaluate.voc_server import check_data, check_name

        check_name(voc_server)
        check_data(kind, target.manifest.labels)
    machine = machine or RuntimeOptions()
    thresholds, name = None, "eval"
    if tuned:
        thresholds, name = _thresholds(target), "eval-tuned"
    if machine.tta is not None:
        name += "-tta"
    predictions, conditions = _predict(target.model, target.manifest, machine, progress)
    trained_on = _trained_on(target.model)
    metrics = metrics_of(predictions, conventions, labels, thresholds, trained_on, top)
    columns = label_columns(predictions.labels, list(metrics.average_precision), target.model)
    assert predictions.targets is not None
    warn_undefined(predictions.targets[:, columns], list(metrics.average_precision))
    split = target.manifest.split
    training = _positives(trained_on, metrics)
    evaluation = Evaluation(target.folder(name), predictions, metrics, target.model, target.dataset, split, training)
    if processes.rank() != 0:
        return evaluation
    with replace_folder(evaluation.path) as temporary:  # replaces predictions and metrics together
        write_scores(temporary, predictions, metrics)
        facts = target.facts(list(metrics.average_precision), conditions)
        if not tuned and machine.tta is None:
            facts |= _origin(target.model)
        write_json(temporary / FILE, facts)
    if voc_server is not None:
        from mlrec.workflows.evaluate.voc_server import write_server_archive

        write_server_archive(predictions, voc_server, kind=kind, split=split)
        logger.info(f"written and checked: {voc_server}")
    return evaluation


@dataclass(frozen=True)
class EvalTarget:
    """Model and split for an evaluation.

    Attributes:
        model: Folder or file of the model.
        dataset: Dataset.
        manifest: Split to score.
        changes: Warnings about data that changed after training, and about labels whose AP is undefined.
    """

    model: Path
    dataset: Dataset
    manifest: Manifest
    changes: list[str]

    def folder(self, what: str) -> Path:
        """Return the folder for a kind of results, such as "eval".

        The folder is in the model folder, or next to the model file.
        """
        name = f"{what}-{self.manifest.name}-{self.manifest.split}"
        if self.model.is_dir():
            return self.model / name
        return self.model.with_name(f"{self.model.stem}-{name}")

    def on_split(self, split: str) -> EvalTarget:
        """Return an evaluation target with the same model and a different split of the dataset."""
        return replace(self, manifest=self.dataset.manifest(split), changes=[])

    def facts(self, labels: list[str], environment: dict[str, Any]) -> dict[str, Any]:
        """Return the content of `eval.json`."""
        return {
            "model": str(self.model.absolute()),
            "scored": msgspec.to_builtins(SplitRecord.of(self.dataset, self.manifest)),
            "labels": labels,
            "environment": environment,
            "warnings": self.changes,
        }


def resolve_eval_target(
    model: Path | str | None,
    data: Path | str | None,
    split: str | None,
    *,
    labels: Sequence[str] | None,
    runs_root: Path | str = "runs",
    data_root: Path | str,
) -> EvalTarget:
    """Return the model and split for an evaluation; log defaults, and warn about changes since training.

    For the arguments, see `evaluate_run`; without a model, the most recently finished run under `runs_root` is used.
    """
    if model is None:
        model = latest_run(runs_root).path
        logger.info(f"run: {model} (finished last)")
    path = Path(model)
    record = record_at(path)
    dataset, manifest = _manifest(record, data, split, Path(data_root))
    label_columns(manifest.labels, labels or (), f"{manifest.name}/{manifest.split}", PredictionsError)
    scored = manifest.with_labels(labels) if labels else manifest
    changes = [*_changes(record, manifest), *label_gaps(scored).lines()]
    for change in changes:
        logger.warning(change)
    return EvalTarget(path, dataset, manifest, changes)


def record_at(model: Path) -> RunRecord | None:
    """Return the record in a run folder; None for an imported model or a file."""
    if not (model / directory.RECORD).is_file():
        return None
    return RunRecord.load(model)


def seen_in_training(record: RunRecord | None, manifest: Manifest) -> int:
    """Return how many samples of the split were used to train the run; 0 if this is unknown.

    The number is unknown if there is no record, or if its training split is missing or belongs to a different dataset.

    Args:
        record: Record of the run.
        manifest: Manifest of the split.
    """
    if record is None or record.train is None:
        return 0
    train = record.train
    if train.dataset != manifest.name or not Path(train.path).is_dir():
        return 0
    dataset = Dataset.load(train.path)
    if train.split not in dataset.info.splits:
        return 0
    return int(shared_with(manifest.sample_ids, dataset.manifest(train.split).sample_ids).sum())


def _trained_on(model: Path) -> Manifest | None:
    """Return the training split of a run; None if it is missing or has changed."""
    record = record_at(model)
    if record is None or record.train is None:
        return None
    return record.train.manifest()


def _positives(trained_on: Manifest | None, metrics: Metrics) -> dict[str, int] | None:
    """Count the training positives; None unless the training split contains all scored labels."""
    if trained_on is None or not metrics.by_frequency:
        return None
    return trained_on.positives()


def _manifest(
    record: RunRecord | None, data: Path | str | None, split: str | None, data_root: Path
) -> tuple[Dataset, Manifest]:
    """Return the dataset and the split to score, and log both."""
    scored = record.scored if record else None
    if data is not None:
        dataset = Dataset.load(data)
    elif scored is not None and Path(scored.path).is_dir():
        dataset = Dataset.load(scored.path)
    else:
        dataset = Dataset.latest(data_root)
    if split is None:
        split = _default_split(dataset, scored)
    logger.info(f"data: {dataset.path}, split {split}")
    return dataset, dataset.manifest(split)


def _default_split(dataset: Dataset, scored: SplitRecord | None) -> str:
    """Return the scored split of the run, otherwise `test`, `val` or the only split."""
    names = ["test", "val"]
    if scored is not None:
        names.insert(0, scored.split)
    for name in names:
        if name in dataset.info.splits:
            return name
    if len(dataset.info.splits) > 1:
        raise DataError(
            f"{dataset.path}: no split is named 'test' or 'val'; choose one of "
            f"{', '.join(dataset.info.splits)} with --split"
        )
    return next(iter(dataset.info.splits))


def _changes(record: RunRecord | None, manifest: Manifest) -> list[str]:
    """Return a warning if the split changed after the run."""
    if record is None:
        return []
    for used in (record.scored, record.train):
        if used and (used.dataset, used.split) == (manifest.name, manifest.split) and used.digest != manifest.digest:
            return [
                f"{manifest.name}/{manifest.split} has changed since the run (digest {used.digest[:12]} then, "
                f"{manifest.digest[:12]} now); metrics before and after the change are not comparable"
            ]
    return []


def config_of(model: Path) -> dict[str, Any]:
    """Return the `Config` values with which a model was trained."""
    from mlrec.models.checkpoint import read_metadata

    return read_metadata(model).config


def _origin(model: Path) -> dict[str, Any]:
    """Return the `Config` values and the lineage of a model, for reports that contain only its evaluation."""
    return {"config": config_of(model), "lineage": msgspec.to_builtins(lineage_at(model))}


def _thresholds(target: EvalTarget) -> Tuned:
    """Return the tuned thresholds of a model; warn if the thresholds were chosen on the scored split."""
    from mlrec.run_folders.tuned import Tuned

    tuned = Tuned.load(target.model)
    if tuned.digest == target.manifest.digest:
        warning = f"the thresholds were chosen on {tuned.dataset}/{tuned.split} itself, so this is not a test result"
        target.changes.append(warning)
        logger.warning(warning)
    return tuned


def _predict(
    path: Path, manifest: Manifest, machine: RuntimeOptions, progress: Progress
) -> tuple[Predictions, dict[str, Any]]:
    """Return the predictions for a split (labels in the order of the model), and the environment."""
    if machine.tta is None:
        from mlrec.training.prediction import predict

        return run_model(path, manifest, machine, progress, predict)
    from mlrec.training.tta import Views, predict_views

    one_pass = partial(predict_views, views=Views.parse(machine.tta))
    predictions, conditions = run_model(path, manifest, machine, progress, one_pass)
    return predictions, {**conditions, "tta": machine.tta}


def run_model(
    path: Path, manifest: Manifest, machine: RuntimeOptions, progress: Progress, one_pass: Callable[..., T]
) -> tuple[T, dict[str, Any]]:
    """Load a model, and run the model once over a split.

    Args:
        path: Folder or file of the model.
        manifest: Manifest of the split; labels are reordered to match the model.
        machine: Runtime options.
        progress: Progress display.
        one_pass: Function with the same arguments as `training.prediction.predict`.

    Returns:
        Result of `one_pass`, and the environment in which it ran.

    Raises:
        ModelError: The model was trained on different labels.
    """
    from mlrec.models.checkpoint import load_model, read_metadata
    from mlrec.training import distributed
    from mlrec.training.devices import resolve_device, resolve_precision
    from mlrec.training.prediction import InferenceOptions

    device = resolve_device(machine.device)
    precision = resolve_precision(machine.precision, device)
    model = load_model(path)
    metadata = read_metadata(path)
    try:
        manifest = manifest.reordered(model.labels)
    except DataError as error:
        raise ModelError(
            f"{path}: the labels of the model and the dataset differ ({error}); choose a dataset with the "
            "labels of the model"
        ) from error
    size = machine.batch_size_for(metadata.config, device)
    with distributed.joined(device):
        options = InferenceOptions(
            batch_size=size,
            workers=machine.workers,
            device=str(device),
            precision=precision,
            decode=metadata.decode,
            rank=processes.rank(),
            world=processes.world_size(),
        )
        result = one_pass(model, manifest, options, progress)
    return result, environment(device, precision)
