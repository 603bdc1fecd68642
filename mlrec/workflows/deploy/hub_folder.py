"""Model folder for the Hugging Face hub.

The module creates timm's `config.json` and the front matter of the model card, and uploads the folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mlrec import __version__
from mlrec.metrics.summary import Metrics
from mlrec.models.backbones import quiet
from mlrec.models.checkpoint import FORMAT
from mlrec.models.classifier import Classifier
from mlrec.models.hub import REPOSITORY, hub_errors
from mlrec.run_folders.record import RunRecord
from mlrec.utils.errors import ModelError

CONFIG = "config.json"
TASK = "image-classification"
METRICS = ("mAP", "CF1", "OF1")


def timm_config(model: Classifier) -> dict[str, Any]:
    """Return the content of `config.json`: the keys used by timm, and the key `mlrec` for the head.

    timm builds the architecture and the preprocessing from this file. The weights have the names used by mlrec: names
    of backbone weights begin with `backbone.timm_model.`, and names of head weights begin with `head.`.
    """
    built, images = model.architecture.to_dict(), model.preprocessing
    architecture, _, tag = built.pop("backbone").partition(".")
    num_classes, name = built.pop("num_labels"), built.pop("head")
    settings = model.backbone.timm_model.pretrained_cfg
    fixed = bool(settings.get("fixed_input_size"))
    model_args = {}
    if fixed:
        model_args["img_size"] = built["img_size"]
    return {
        "architecture": architecture,
        "num_classes": num_classes,
        "num_features": model.backbone.num_features,
        "label_names": list(model.labels),
        "model_args": model_args,
        "pretrained_cfg": {
            "tag": tag,
            "num_classes": num_classes,
            "input_size": [3, images.size, images.size],
            "fixed_input_size": fixed,
            "interpolation": images.interpolation,
            "crop_pct": 1.0,
            "crop_mode": "squash",  # the whole image is resized to a square
            "mean": list(images.mean),
            "std": list(images.std),
            "first_conv": settings.get("first_conv"),
            "classifier": settings.get("classifier"),
        },
        "mlrec": {"format": FORMAT, "version": __version__, "head": name, "head_options": built},
    }


def with_front_matter(body: str, name: str, record: RunRecord | None, metrics: Metrics | None) -> str:
    """Return a model card with front matter for the hub: tags, and metrics with dataset and split.

    The license is not set, because it depends on the training data and on the starting weights.

    Args:
        body: Markdown text of the card.
        name: Name of the model.
        record: Record of the run; None if the model was imported.
        metrics: Metrics of the run; None if there are none.
    """
    from huggingface_hub import EvalResult, ModelCard, ModelCardData

    results = []
    if record is not None and record.scored is not None and metrics is not None:
        rules = {"conventions": metrics.conventions.name, "threshold": 0.5, "samples": metrics.counts["samples"]}
        for metric in METRICS:
            value = getattr(metrics, metric)
            if value is not None:
                results.append(
                    EvalResult(
                        task_type=TASK,
                        task_name="Multi-label image classification",
                        dataset_type=record.scored.dataset,
                        dataset_name=record.scored.dataset,
                        dataset_split=record.scored.split,
                        metric_type=metric,
                        metric_name=f"{metric} (conventions: {metrics.conventions.name})",
                        metric_value=round(value, 6),
                        metric_args=rules,
                    )
                )
    data = ModelCardData(
        library_name="mlrec",
        pipeline_tag=TASK,
        tags=["mlrec", "timm", "multi-label", "multi-label-image-classification"],
        model_name=name,
        eval_results=results or None,
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def push(folder: Path, repository: str, *, public: bool = False) -> str:
    """Upload the folder to a hub repository, and return the URL of the repository.

    The repository is created if necessary. The token is read by huggingface_hub, from `hf auth login` or the
    environment variable HF_TOKEN.

    Args:
        folder: Folder to upload.
        repository: Name of the repository, `user/name`.
        public: Whether a new repository is public; the visibility of an existing repository is not changed.

    Raises:
        ModelError: The name is invalid, or the hub rejects the upload or is unreachable.
    """
    from huggingface_hub import HfApi

    check_repository(repository)
    api = HfApi()
    with hub_errors(repository), quiet():
        address = api.create_repo(repository, private=not public, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Export of mlrec {__version__}")
    return str(address)


def check_repository(repository: str) -> None:
    """Raise ModelError if `repository` is not a name of the form `user/name`."""
    if not re.fullmatch(REPOSITORY, repository):
        raise ModelError(f"--push {repository}: not a valid hub repository; use USER/NAME")
