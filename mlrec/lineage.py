"""`Lineage`: where a model's weights come from, and everything they were trained on since."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any, Literal

import msgspec

# Weights of the paper, in the order in which a bare backbone name selects them: torchvision's first ones, then
# ImageNet-21k fine-tuned on ImageNet-1k. timm's own defaults are later recipes.
PAPER_TAGS = ("tv_in1k", "orig_in21k_ft_in1k", "augreg_in21k_ft_in1k")
CUTMIX_TAG = "cutmix_in1k"  # the paper's ResNet-cut; timm has no such tag
_IMAGENET = re.compile(r"(^|_)in(1k|12k|21k|22k|w21k)(_|$)|^(fc)?mae$|^(fb_)?dino$")
_OTHER_DATA = re.compile(r"laion|openai|ig\d|jft|wsl|yfcc|lvd|clip|m30m|m38m|swag|seer|bamboo|6m|merged|datacomp|webli")
Origin = Literal["random", "timm", "package", "declared", "unknown"]


class Training(msgspec.Struct, frozen=True):
    """One training that weights went through: a split of a dataset.

    Attributes:
        dataset: Name of the prepared dataset.
        kind: Kind of its source ("coco", "voc2007", ...).
        digest: Digest of the split's manifest.
        run: Name of the run's folder, where known.
    """

    dataset: str
    kind: str
    split: str
    samples: int
    digest: str
    run: str = ""

    @property
    def name(self) -> str:
        """The data as the paper's tables name it: the kind of a public dataset, else the dataset's name."""
        public = self.kind.startswith(("coco", "voc20", "wider"))
        return self.kind if public else self.dataset


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model's weights come from.

    Attributes:
        weights: The first weights: timm name with tag, name of a package, name of a file (never a path), or "random".
        origin: How that is known. "timm": fetched under this tag, or a file with the SHA-256 of its published file;
            "declared": a file whose origin the user or a recipe states; "unknown": a file, or a run that is gone.
        declared: The stated origin.
        sha256: SHA-256 of a weights file.
        trainings: Every training since, oldest first; a model file lists its own training last.
    """

    weights: str
    origin: Origin
    declared: str = ""
    sha256: str = ""
    trainings: tuple[Training, ...] = ()

    @property
    def tag(self) -> str:
        """Tag of the first weights ("tv_in1k", "cutmix_in1k"), "" where they have none."""
        if self.origin == "declared":
            return self.declared
        return self.weights.partition(".")[2] if self.origin == "timm" else ""

    @property
    def label(self) -> str:
        """The first weights in a few words: tag, "random", package, or a file's name with what is known of it."""
        if self.origin == "declared":
            return f"{self.weights} (declared {self.declared})"
        if self.origin == "unknown":
            return f"{self.weights} (unknown origin)"
        return self.tag or self.weights

    @property
    def is_cutmix(self) -> bool:
        """Whether the first weights are the paper's ResNet-cut: as declared, or by the name of the file."""
        file = self.origin in ("declared", "unknown")
        return self.declared == CUTMIX_TAG or (file and "cutmix" in self.weights.lower())

    def followed_by(self, training: Training) -> Lineage:
        """The lineage of a model that started from these weights."""
        return msgspec.structs.replace(self, trainings=(*self.trainings, training))

    def extra_data(self, train: Training | None) -> str:
        """What the weights had seen besides ImageNet and the data of their last training, "" for nothing.

        Args:
            train: The last training itself; None for a model that was trained elsewhere.
        """
        parts = []
        if self.origin == "unknown":
            parts.append(f"unknown ({self.weights})")
        elif self.tag and (not _IMAGENET.search(self.tag) or _OTHER_DATA.search(self.tag)):
            parts.append(self.tag)
        parts += [_beyond(training, train) for training in self.trainings]
        return ", ".join(dict.fromkeys(filter(None, parts)))

    def on_same_data(self, train: Training) -> list[Training]:
        """The earlier trainings on the data of the last one, or on a part of it: more epochs, not more data."""
        return [training for training in self.trainings if not _beyond(training, train)]


def lineage_from(value: Any) -> Lineage | None:
    """Read a lineage stored as JSON; None where there is none, or one that this version does not know."""
    try:
        return None if value is None else msgspec.convert(value, Lineage)
    except msgspec.ValidationError:
        return None


def unknown_lineage(source: str) -> Lineage:
    """The lineage of a file or run that nothing is known of."""
    return Lineage(weights=PurePath(source).name or source, origin="unknown")


def _beyond(earlier: Training, train: Training | None) -> str:
    """What an earlier training adds to the data of the last one."""
    if train is None or earlier.kind != train.kind:
        return earlier.name
    if earlier.dataset != train.dataset and earlier.digest != train.digest:
        return earlier.dataset
    if earlier.split == train.split:
        return "" if earlier.digest == train.digest else f"{earlier.dataset} {earlier.split}, other annotations"
    part = train.split == "trainval" and earlier.split in ("train", "val")
    return "" if part else f"{earlier.dataset} {earlier.split}"
