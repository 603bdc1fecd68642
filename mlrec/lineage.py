"""`Lineage`: the origin of a model's weights, and all subsequent training runs."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any, Literal

import msgspec

# Weights used in the paper, in the order of preference for a backbone name without a tag: torchvision's first weights,
# then ImageNet-21k weights fine-tuned on ImageNet-1k. timm's own defaults are from later training recipes.
PAPER_TAGS = ("tv_in1k", "orig_in21k_ft_in1k", "augreg_in21k_ft_in1k")
CUTMIX_TAG = "cutmix_in1k"  # the paper's ResNet-cut; not a timm tag
_IMAGENET = re.compile(r"(^|_)in(1k|12k|21k|22k|w21k)(_|$)|^(fc)?mae$|^(fb_)?dino$")
_OTHER_DATA = re.compile(r"laion|openai|ig\d|jft|wsl|yfcc|lvd|clip|m30m|m38m|swag|seer|bamboo|6m|merged|datacomp|webli")
Origin = Literal["random", "timm", "package", "declared", "unknown"]


class Training(msgspec.Struct, frozen=True):
    """One training run of a model on a split of a dataset.

    Attributes:
        dataset: Name of the prepared dataset.
        kind: Kind of the dataset source ("coco", "voc2007", ...).
        digest: Digest of the split manifest.
        run: Name of the run folder, or "" if it is not known.
    """

    dataset: str
    kind: str
    split: str
    samples: int
    digest: str
    run: str = ""

    @property
    def name(self) -> str:
        """Name of the data in tables: the kind for a public dataset, otherwise the dataset name."""
        public = self.kind.startswith(("coco", "voc20", "wider"))
        return self.kind if public else self.dataset


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Origin of a model's weights: the initial weights and all subsequent training runs.

    Attributes:
        weights: Initial weights: a timm name with a tag, a package name, a file name without the path, or "random".
        origin: How the origin is known. "timm": the weights were downloaded under this tag, or the SHA-256 matches the
            published file. "declared": the user or a recipe declared the origin. "unknown": the weights are from any
            other file, or from a run that no longer exists.
        declared: Declared origin, or "" if no origin was declared.
        sha256: SHA-256 of the weights file, or "" if it is not known.
        trainings: All subsequent training runs, oldest first. In a model file, the last entry is the training run that
            produced the model.
    """

    weights: str
    origin: Origin
    declared: str = ""
    sha256: str = ""
    trainings: tuple[Training, ...] = ()

    @property
    def tag(self) -> str:
        """Tag of the initial weights ("tv_in1k", "cutmix_in1k"), or "" if there is no tag."""
        if self.origin == "declared":
            return self.declared
        if self.origin == "timm":
            return self.weights.partition(".")[2]
        return ""

    @property
    def label(self) -> str:
        """Short name of the initial weights: tag, "random", package name, or file name with the origin."""
        if self.origin == "declared":
            return f"{self.weights} (declared {self.declared})"
        if self.origin == "unknown":
            return f"{self.weights} (unknown origin)"
        return self.tag or self.weights

    @property
    def is_cutmix(self) -> bool:
        """Whether the initial weights are the paper's ResNet-cut.

        The declared origin or the file name determines the result.
        """
        file = self.origin in ("declared", "unknown")
        return self.declared == CUTMIX_TAG or (file and "cutmix" in self.weights.lower())

    def followed_by(self, training: Training) -> Lineage:
        """Return the lineage of a model that starts from these weights and is trained in `training`."""
        return msgspec.structs.replace(self, trainings=(*self.trainings, training))

    def extra_data(self, train: Training | None) -> str:
        """List all training data except ImageNet and the data of the last training run.

        Initial weights with unknown origin are also listed.

        Args:
            train: Last training run; None for a model that was not trained by mlrec.

        Returns:
            Names separated by commas, or "" if there is no extra data.
        """
        parts = []
        if self.origin == "unknown":
            parts.append(f"unknown ({self.weights})")
        elif self.tag and (not _IMAGENET.search(self.tag) or _OTHER_DATA.search(self.tag)):
            parts.append(self.tag)
        parts += [_beyond(training, train) for training in self.trainings]
        return ", ".join(dict.fromkeys(filter(None, parts)))

    def on_same_data(self, train: Training) -> list[Training]:
        """Return earlier training runs that used the data of `train` or a subset of this data.

        Training runs on the same data add epochs but no new data.
        """
        return [training for training in self.trainings if not _beyond(training, train)]


def lineage_from(value: Any) -> Lineage | None:
    """Read a lineage stored as JSON.

    Returns None if the value is missing or cannot be read by this version.
    """
    try:
        return None if value is None else msgspec.convert(value, Lineage)
    except msgspec.ValidationError:
        return None


def unknown_lineage(source: str) -> Lineage:
    """Return the lineage of a file or run with unknown origin.

    Example:
        >>> unknown_lineage("weights/resnet101_cutmix.pth").label
        'resnet101_cutmix.pth (unknown origin)'
    """
    return Lineage(weights=PurePath(source).name or source, origin="unknown")


def _beyond(earlier: Training, train: Training | None) -> str:
    """Describe the data used in an earlier training but not in the last one; "" if there is none."""
    if train is None or earlier.kind != train.kind:
        return earlier.name
    if earlier.dataset != train.dataset and earlier.digest != train.digest:
        return earlier.dataset
    if earlier.split == train.split:
        if earlier.digest == train.digest:
            return ""
        return f"{earlier.dataset} {earlier.split}, other annotations"
    if train.split == "trainval" and earlier.split in ("train", "val"):
        return ""
    return f"{earlier.dataset} {earlier.split}"
