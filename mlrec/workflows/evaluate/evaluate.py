"""`mlrec eval`: a trained model and a dataset → predictions and metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mlrec.datasets.analysis.statistics import label_gaps
from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import Manifest, label_columns
from mlrec.metrics.conventions import conventions_named
from mlrec.metrics.evaluate import Metrics
from mlrec.predictions import Predictions
from mlrec.runs import directory
from mlrec.runs.ancestry import lineage_at
from mlrec.runs.environment import environment
from mlrec.runs.evaluations import FILE
from mlrec.runs.record import RunRecord, latest_run
from mlrec.runs.tuned import Tuned
from mlrec.utils import processes
from mlrec.utils.errors import DataError, ModelError, PredictionsError, printable
from mlrec.utils.files import replace_folder, write_json
from mlrec.utils.progress import SILENT, Progress
from mlrec.workflows.evaluate import write_scores
from mlrec.workflows.evaluate.voc_server import check_data, check_name, write_server_archive
from mlrec.workflows.runtime import RuntimeOptions

T = TypeVar("T")


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        path: the folder it lies in.
        model: what was scored.
        dataset, split: on what.
    """

    path: Path
    predictions: Predictions
    metrics: Metrics
    model: Path
    dataset: Dataset
    split: str


def evaluate_run(
    model: Path | str | None = None,
    *,
    data: Path | str | None = None,
    split: str | None = None,
    labels: Sequence[str] | None = None,
    conventions: str = "mlrec",
    tuned: bool = False,
    machine: RuntimeOptions | None = None,
    voc_server: Path | None = None,
    runs_root: Path | str = "runs",
    data_root: Path | str = "data",
    progress: Progress = SILENT,
) -> Evaluation:
    """Score a model anew; predictions of all labels and the metrics go to a folder of their own beside it.

    Args:
        model: folder of a run or of an imported model, or a `.safetensors`; left out, the run that finished last.
        data: folder of a prepared dataset; left out, the run's own, else the one prepared last.
        split: left out, the one that the run was scored on, else `test` or `val`.
        labels: score these alone.
        conventions: how to score.
        tuned: say labels by the thresholds that `tune` left beside the model.
        machine: how to run the model.
        voc_server: archive for the PASCAL VOC evaluation server, written too.
        runs_root: where the last finished run is looked for.
        data_root: where the dataset prepared last is looked for.
        progress: where bars, notes and warnings go.

    Raises:
        MlrecError: no model, no data, labels that differ from the model's, images that cannot be read.
    """
    progress = progress if processes.rank() == 0 else SILENT
    chosen = resolve_eval_target(
        model, data, split, labels=labels, runs_root=runs_root, data_root=data_root, progress=progress
    )
    conventions_named(conventions)
    kind = str(chosen.dataset.info.source.get("kind"))
    if voc_server is not None:  # before what may take hours
        check_name(voc_server)
        check_data(kind, chosen.manifest.labels)
    thresholds = _thresholds(chosen, progress) if tuned else None
    path, dataset, manifest = chosen.model, chosen.dataset, chosen.manifest
    predictions, conditions = _predict(path, manifest, machine or RuntimeOptions(), progress)
    metrics = write_scores.score(predictions, conventions, labels, thresholds)
    columns = label_columns(predictions.labels, list(metrics.average_precision), path)
    assert predictions.targets is not None
    write_scores.warn_undefined(predictions.targets[:, columns], list(metrics.average_precision), progress)
    folder = chosen.folder("eval-tuned" if tuned else "eval")
    if processes.rank():
        return Evaluation(folder, predictions, metrics, path, dataset, manifest.split)
    with replace_folder(folder) as temporary:  # predictions and metrics of one evaluation, never of two
        write_scores.write_scores(temporary, predictions, metrics)
        facts = chosen.facts(list(metrics.average_precision), conditions)
        write_json(temporary / FILE, facts if tuned else facts | _origin(path))
    if voc_server is not None:
        write_server_archive(predictions, voc_server, kind=kind, split=manifest.split)
        progress.say(f"written and read back: {printable(voc_server)}")
    return Evaluation(folder, predictions, metrics, path, dataset, manifest.split)


@dataclass(frozen=True)
class EvalTarget:
    """A model, the split to score it on, and warnings: what has changed since the training, labels without an AP."""

    model: Path
    dataset: Dataset
    manifest: Manifest
    changes: list[str]

    def folder(self, what: str) -> Path:
        """Where results of this kind go: below the model's folder, or beside its file."""
        name = f"{what}-{self.manifest.name}-{self.manifest.split}"
        return self.model / name if self.model.is_dir() else self.model.with_name(f"{self.model.stem}-{name}")

    def on_split(self, split: str) -> EvalTarget:
        """The same model on another split of the same dataset."""
        return replace(self, manifest=self.dataset.manifest(split), changes=[])

    def facts(self, labels: list[str], environment: dict[str, Any]) -> dict[str, Any]:
        """The content of `eval.json`."""
        return {
            "model": str(self.model.absolute()),
            "scored": msgspec.to_builtins(write_scores.scored_facts(self.dataset, self.manifest)),
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
    runs_root: Path | str,
    data_root: Path | str,
    progress: Progress,
) -> EvalTarget:
    """What was named, and for the rest what `evaluate_run` says; what was filled in, and what has changed, is told."""
    if model is None:
        model = latest_run(runs_root).path
        progress.say(f"run: {printable(model)} (finished last)")
    path = Path(model)
    record = record_at(path)
    dataset, manifest = _manifest(record, data, split, Path(data_root), progress)
    label_columns(manifest.labels, labels or (), f"{manifest.name}/{manifest.split}", PredictionsError)
    gaps = label_gaps(manifest.with_labels(labels) if labels else manifest)
    changes = [*_changes(record, manifest), *gaps.lines()]
    for change in changes:
        progress.warn(change)
    return EvalTarget(path, dataset, manifest, changes)


def record_at(model: Path) -> RunRecord | None:
    """The record of the run that a model is of; None for an imported one or a file."""
    return RunRecord.load(model) if (model / directory.RECORD).is_file() else None


def seen_in_training(record: RunRecord | None, manifest: Manifest) -> int:
    """How many samples of a split the run was trained on, as far as that can be known."""
    train = record.train if record else None
    if train is None or train.dataset != manifest.name or not Path(train.path).is_dir():
        return 0
    seen = set(Dataset.load(train.path).manifest(train.split).sample_ids)
    return sum(sample in seen for sample in manifest.sample_ids)


def _manifest(
    record: RunRecord | None, data: Path | str | None, split: str | None, data_root: Path, progress: Progress
) -> tuple[Dataset, Manifest]:
    """The split to score; what was not said is told."""
    scored = record.scored if record else None
    own = data is None and scored is not None and Path(scored.path).is_dir()
    if data is not None:
        dataset = Dataset.load(data)
    elif scored is not None and own:
        dataset = Dataset.load(scored.path)
    else:
        dataset = Dataset.latest(data_root)
    if split is None:
        likely = [scored.split] if scored is not None else []
        split = next((name for name in (*likely, "test", "val") if name in dataset.info.splits), None)
    if split is None:
        if len(dataset.info.splits) > 1:
            raise DataError(f"{printable(dataset.path)}: choose a split with --split: {', '.join(dataset.info.splits)}")
        split = next(iter(dataset.info.splits))
    progress.say(f"data: {printable(dataset.path)}, split {printable(split)}")
    return dataset, dataset.manifest(split)


def _changes(record: RunRecord | None, manifest: Manifest) -> list[str]:
    """What has become of the data since the run."""
    for used in (record.scored, record.train) if record else ():
        if used and (used.dataset, used.split) == (manifest.name, manifest.split) and used.digest != manifest.digest:
            return [
                f"{manifest.name}/{manifest.split} has changed since the run: its digest was {used.digest[:12]}, is "
                f"{manifest.digest[:12]}; the numbers of both cannot be compared"
            ]
    return []


def config_of(model: Path) -> dict[str, Any]:
    """The keys that the model was made with, for code that has its evaluation only."""
    from mlrec.models.checkpoint import read_metadata

    return read_metadata(model).config


def _origin(model: Path) -> dict[str, Any]:
    """The keys that the model was made with and the origin of its weights, for code that has its evaluation only."""
    return {"config": config_of(model), "lineage": msgspec.to_builtins(lineage_at(model))}


def _thresholds(chosen: EvalTarget, progress: Progress) -> Tuned:
    """The tuned thresholds of a model, with a warning where they were chosen on what is scored."""
    tuned = Tuned.load(chosen.model)
    if tuned.digest == chosen.manifest.digest:
        warning = f"the thresholds were chosen on {tuned.dataset}/{tuned.split} itself: no test result"
        chosen.changes.append(warning)
        progress.warn(warning)
    return tuned


def _predict(
    path: Path, manifest: Manifest, machine: RuntimeOptions, progress: Progress
) -> tuple[Predictions, dict[str, Any]]:
    """The model's logits of the manifest, columns in the model's order; and the environment they were made in."""
    from mlrec.training.prediction import predict

    return run_model(path, manifest, machine, progress, predict)


def run_model(
    path: Path, manifest: Manifest, machine: RuntimeOptions, progress: Progress, one_pass: Callable[..., T]
) -> tuple[T, dict[str, Any]]:
    """What `one_pass`, `predict` or its like, makes of the model and the manifest, columns in the model's order.

    Returns:
        That, and the environment it was made in.
    """
    from mlrec.models.checkpoint import load_model, read_metadata
    from mlrec.training import distributed
    from mlrec.training.devices import resolve_device, resolve_precision

    device = resolve_device(machine.device)
    precision = resolve_precision(machine.precision, device)
    model = load_model(path)
    metadata = read_metadata(path)
    try:
        manifest = manifest.reordered(model.labels)
    except DataError as error:
        raise ModelError(f"{printable(path)}: was trained on other labels: {error}") from error
    size = machine.batch_size_for(metadata.config)
    with distributed.joined(device):
        made = one_pass(
            model,
            manifest,
            batch_size=size,
            workers=machine.workers,
            device=str(device),
            precision=precision,
            decode=metadata.decode,
            progress=progress,
            rank=processes.rank(),
            world=processes.world_size(),
        )
    return made, environment(device, precision)
