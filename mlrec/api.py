"""Python API: functions that correspond to the commands, such as `train` for `mlrec train`."""

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
    from mlrec.metrics.summary import Metrics
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
        data: Folder of a prepared dataset [default: the most recently prepared dataset in the folder "data"].
        recipe: Name of a recipe [default: the `base` key in `config`, otherwise the recipe for the dataset].
        config: TOML configuration file; its `base` key sets the base recipe.
        out: Parent folder of the new run folder; has no effect with `resume`.
        name: Name of the run folder [default: dataset-backbone-head-number].
        resume: Run to resume. The resumed run keeps its folder, recipe and settings. Only `data`, `device`, `threads`,
            `workers`, `save_every`, `trackers` and `tensorboard` may be changed.
        callbacks: Objects that define any of the methods `on_step`, `on_epoch` and `on_end`. Each method receives a
            `TrainEvent`. The methods are called only in the first process. On a GPU, `on_step` is called after every
            20 steps and at the end of an epoch.
        progress: If True, progress bars, notes and warnings are printed to stderr. If False, warnings are issued as
            Python warnings. If an object with a method `task` is passed, this object draws the progress bars, and
            warnings are issued as Python warnings.
        **settings: Configuration keys; strings are parsed as on the command line. These settings override `config`,
            which overrides the recipe.

    Returns:
        The finished run.

    Raises:
        ConfigError: A key is unknown or a value is invalid; nothing has been written.
        UsageError: `recipe`, `config` or `name` is set together with `resume`, or `name` is not a valid folder name.
        MlrecError: The data, weights or machine cannot be used for the run, or the loss is NaN or infinite.
        Interrupted: SIGINT or SIGTERM was received; the run can be resumed.
        Exception: A callback raised an exception, which is propagated unchanged. A checkpoint has been saved, so the
            run can be resumed.

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
        raise UsageError(
            "recipe, config and name cannot be used with resume, because a resumed run keeps its settings; omit them"
        )
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
    tta: str | None = None,
    batch_size: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    progress: bool | Progress = True,
) -> Metrics:
    """Evaluate a trained model, as `mlrec eval` does, and return the metrics.

    The metrics and the predictions for all labels are also written to the folder `eval-DATA-SPLIT` in the model folder,
    or next to the model file. With `tuned` or `tta`, the folder name contains "-tuned" or "-tta". An existing folder is
    replaced.

    Args:
        run: `Run` object, run folder, imported model, or `.safetensors` file.
        data: Folder of a prepared dataset with the same labels [default: the dataset of the run, otherwise the most
            recently prepared dataset].
        split: Split to evaluate on [default: the evaluation split of the run, otherwise test, val or the only split].
        labels: Labels to score [default: all labels].
        conventions: Name of the scoring conventions.
        tuned: Whether to use the thresholds from `mlrec tune`.
        top: Number of labels K. If set, `Metrics.top` contains the precision, recall and F1 of predicting the K
            highest-scoring labels of each sample.
        tta: Views for test-time augmentation, such as "flip" or "flip,1,1.25" (see `mlrec eval --tta`). If None, only
            the image itself is used.
        batch_size: Batch size [default: `eval_batch_size` of the run; if unset, the training batch size; on CUDA, the
            smaller of 64 and 8 times the training batch size].
        device: Name of the device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: Name of the precision: "auto", "fp32", "tf32", "bf16" or "fp16".
        progress: If True, progress bars, notes and warnings are printed to stderr. If False, warnings are issued as
            Python warnings. If an object with a method `task` is passed, this object draws the progress bars.

    Raises:
        MlrecError: The model or data does not exist, the labels differ from those of the model, or an image cannot be
            read.

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
            machine=RuntimeOptions(batch_size, None, device, precision, tta),
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
    """Compute the heat maps that `mlrec attend` draws: one map per image and label.

    A map shows the contribution of each location to the logit of a label, summed over all heads. The sum of a map over
    all locations is the logit. For the heads attention-pool, ml-decoder and q2l, a map instead shows the attention of
    the label's query.

    Args:
        model: Model, run, model folder or model file.
        images: Images in any form that `predict` accepts, except URLs: paths, globs, manifests (`.jsonl`), items with
            boxes, Pillow images, arrays, tensors, bytes or open files.
        labels: Labels for which to compute maps [default: the `top` most probable labels of each image].
        top: Number of labels per image if `labels` is None.
        temperature: Temperature of a head. If set, attention maps of this head are returned instead of contribution
            maps. Each attention map sums to 1.
        batch_size: Batch size [default: `eval_batch_size` of the run; if unset, the training batch size; on CUDA, the
            smaller of 64 and 8 times the training batch size].
        device: Name of the device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        precision: Name of the precision: "auto", "fp32", "tf32", "bf16" or "fp16".
        progress: If True, progress bars, notes and warnings are printed to stderr. If False, warnings are issued as
            Python warnings. If an object with a method `task` is passed, this object draws the progress bars.

    Returns:
        One `AttentionMaps` object per image, in the order of the images. The attribute `maps` has the shape (K, h, w)
        for K labels.

    Raises:
        DataError: An image cannot be read, or an object is not an image.
        PredictionsError: A label is unknown.
        UsageError: A path does not exist, a URL is passed, or no head has the requested temperature.
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
        path: Folder of a finished or unfinished run.

    Returns:
        `Run` object with the attributes `config` and `record`, and the methods `metrics()`, `predictions()`,
        `manifest()` and `load_model()`.

    Raises:
        RunError: The folder does not contain a run.

    Example:
        >>> load_run("runs/missing")
        Traceback (most recent call last):
        mlrec.utils.errors.RunError: runs/missing: not a run folder (no run.json); pass the path of a run folder
    """
    from mlrec.run_folders.record import Run

    return Run.load(Path(path))


@contextmanager
def _reported(progress: bool | Progress) -> Iterator[Progress]:
    """Print progress bars, notes and warnings.

    If `progress` is not True, warnings are issued as Python warnings, and notes are not printed. If `progress` is an
    object, this object draws the progress bars.
    """
    if progress is True:
        from mlrec.cli.console import Records, Terminal

        with logged_to(Records()):
            yield Terminal()
        return
    with logged_to(PythonWarnings()):
        yield SILENT if progress is False else progress
