"""The commands as Python functions, with arguments instead of the flags of `mlrec.cli`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlrec.utils.errors import UsageError
from mlrec.utils.progress import SILENT, Progress, PythonWarnings, logged_to
from mlrec.workflows.runtime import RuntimeOptions

if TYPE_CHECKING:
    from mlrec.metrics.evaluate import Metrics
    from mlrec.models.classifier import Classifier
    from mlrec.run_folders.record import Run
    from mlrec.workflows.deploy.predict_inputs import Images
    from mlrec.workflows.evaluate.attend import AttentionMaps

PathLike = str | os.PathLike[str]


def train(
    data: PathLike | None = None,
    *,
    recipe: str | None = None,
    config: PathLike | None = None,
    out: PathLike = "runs",
    name: str | None = None,
    resume: Run | PathLike | None = None,
    callbacks: Sequence[object] = (),
    progress: bool | Progress = True,
    **settings: Any,
) -> Run:
    """Train a model and evaluate it, as `mlrec train` does.

    Args:
        data: Folder of a prepared dataset [default: the one prepared last].
        recipe: Name of a recipe [default: the dataset's].
        config: TOML file of keys; its key `base` names a recipe.
        out: Folder of runs.
        name: Name of the run folder [default: dataset-backbone-head-number].
        resume: Run to resume; it keeps its folder, recipe and settings.
        callbacks: Objects with any of the methods `on_step`, `on_epoch` and `on_end`, which receive a `TrainEvent`.
            They are called in the first process only. On a GPU, `on_step` is called every 20 steps.
        progress: Whether bars, notes and warnings are printed on stderr; otherwise warnings are Python warnings. An
            object with a method `task` draws the bars.
        **settings: Keys of the configuration; a string is parsed as on the command line. They override `config`,
            which overrides the recipe.

    Returns:
        The finished run.

    Raises:
        ConfigError: A key is unknown or a value is invalid; nothing was written.
        MlrecError: Data, weights or machine do not allow the run, or the loss is NaN or infinite.
        Interrupted: SIGINT or SIGTERM; the run can be resumed.
        Exception: Exception of a callback, unchanged. A checkpoint was saved, so the run can be resumed.

    Example:
        >>> train("data/photos", learning_rate=0.1)
        Traceback (most recent call last):
        mlrec.utils.errors.ConfigError: mlrec.train: unknown key 'learning_rate'; did you mean 'lr'?
    """
    from mlrec.config import FIELDS
    from mlrec.config_layers import check_values, parse_value
    from mlrec.workflows.train import train as workflow

    flags: dict[str, Any] = {}
    for key, value in settings.items():
        flags[key] = os.fspath(value) if isinstance(value, os.PathLike) else value
        if isinstance(value, str) and key in FIELDS:
            flags[key] = parse_value(key, value)
    check_values("mlrec.train", flags)
    if data is not None:
        flags["data"] = os.fspath(data)
    if resume is not None and (recipe is not None or config is not None or name is not None):
        raise UsageError("resume takes recipe, config and name from the run; leave them out")
    with _reported(progress) as bars:
        if resume is not None:
            return workflow.resume(Path(resume), flags, callbacks=callbacks, progress=bars)
        file = None if config is None else Path(config)
        return workflow.train(
            flags, file=file, recipe=recipe, out=Path(out), name=name, callbacks=callbacks, progress=bars
        )


def evaluate_run(
    run: Run | PathLike,
    data: PathLike | None = None,
    split: str | None = None,
    *,
    labels: Sequence[str] | None = None,
    conventions: str = "mlrec",
    tuned: bool = False,
    top: int | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    progress: bool | Progress = True,
) -> Metrics:
    """Evaluate a trained model, as `mlrec eval` does: predictions and metrics are also written next to the model.

    Args:
        run: Run, its folder, an imported model, or a `.safetensors` file.
        data: Folder of a prepared dataset with the same labels [default: the run's].
        split: Split to evaluate on [default: the run's, otherwise test or val].
        labels: Labels to score [default: all].
        conventions: Name of the scoring conventions.
        tuned: Whether to use the thresholds and the calibration that `mlrec tune` wrote.
        top: Number K of highest-scoring labels whose rates and F1@K are computed as well, in `Metrics.top`.
        batch_size: Samples per step [default: as in training].
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "tf32", "bf16" or "fp16".
        progress: Whether bars, notes and warnings are printed on stderr; otherwise warnings are Python warnings. An
            object with a method `task` draws the bars.

    Raises:
        MlrecError: No model, no data, labels that differ from the model's, or images that cannot be read.

    Example:
        >>> evaluate_run("runs/missing", "data/missing", "test", progress=False)
        Traceback (most recent call last):
        mlrec.utils.errors.DataError: data/missing: ...
    """
    from mlrec.workflows.evaluate import evaluate as workflow

    with _reported(progress) as bars:
        evaluation = workflow.evaluate_run(
            Path(run),
            data=None if data is None else Path(data),
            split=split,
            labels=labels,
            conventions=conventions,
            tuned=tuned,
            top=top,
            machine=RuntimeOptions(batch_size, None, device, precision),
            progress=bars,
        )
    return evaluation.metrics


def attention(
    model: Classifier | Run | PathLike,
    images: Images,
    *,
    labels: Sequence[str] | None = None,
    top: int = 3,
    temperature: float | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    progress: bool | Progress = False,
) -> list[AttentionMaps]:
    """Compute heat maps of labels on images, as `mlrec attend` draws them.

    A map shows what each location adds to the logit of a label, over all heads; its sum is the logit.

    Args:
        model: Model, run, or folder or file of a model.
        images: Files, folders, globs or manifests (`.jsonl`), items with boxes, Pillow images, arrays, tensors or
            bytes, as for `predict`.
        labels: Labels [default: the `top` most probable labels of each image].
        top: Number of labels per image, if `labels` is not given.
        temperature: Temperature of the head whose attention is returned instead of contributions; its sum is 1.
        batch_size: Images per step [default: as in training].
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto", "fp32", "tf32", "bf16" or "fp16".
        progress: Whether bars, notes and warnings are printed on stderr; otherwise warnings are Python warnings. An
            object with a method `task` draws the bars.

    Returns:
        Maps (K, h, w) of K labels for each image, in the order of the images.

    Raises:
        DataError: An image cannot be read.
        PredictionsError: A label is unknown.
        UsageError: A path does not exist, or no head has this temperature.
        ModelError: The model does not exist or cannot be used.

    Example:
        >>> from mlrec import create_model
        >>> from PIL import Image
        >>> Image.new("RGB", (64, 64), "red").save("photo.png")
        >>> model = create_model("test_resnet", 2, img_size=64, labels=["cat", "dog"])
        >>> (maps,) = attention(model, "photo.png", labels=["dog"])
        >>> maps.labels, maps.maps.shape
        (('dog',), (1, 2, 2))
    """
    from mlrec.models.classifier import Classifier
    from mlrec.workflows.deploy.predict_inputs import items_from
    from mlrec.workflows.evaluate.attend import compute_maps

    with _reported(progress) as bars:
        return compute_maps(
            model if isinstance(model, Classifier) else Path(model),
            items_from(images),
            labels=labels,
            top=top,
            temperature=temperature,
            machine=RuntimeOptions(batch_size, None, device, precision),
            progress=bars,
        )


def load_run(path: PathLike) -> Run:
    """Open a run folder.

    Args:
        path: Folder of a run, finished or not.

    Returns:
        The run: `run.config`, `run.record`, `run.metrics()`, `run.predictions()`, `run.manifest()`, `run.load_model()`.

    Raises:
        RunError: There is no run.

    Example:
        >>> load_run("runs/missing")
        Traceback (most recent call last):
        mlrec.utils.errors.RunError: runs/missing: no run here (no run.json); name the folder of a run
    """
    from mlrec.run_folders.record import Run

    return Run.load(Path(path))


@contextmanager
def _reported(progress: bool | Progress) -> Iterator[Progress]:
    """Print bars, notes and warnings in the terminal, or make warnings Python's; the bars may be the caller's own."""
    if progress is True:
        from mlrec.cli.console import Records, Terminal

        with logged_to(Records()):
            yield Terminal()
        return
    with logged_to(PythonWarnings()):
        yield SILENT if progress is False else progress
