"""mAP of frequent, medium and rare labels, grouped by number of training positives."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Largest number of positives in training of each group, as in Wu et al., ECCV 2020 (COCO-MLT, VOC-MLT).
GROUPS = {"tail": 19, "medium": 100, "head": math.inf}
GROUPS_NOTE = (
    "frequency groups by positives in training: head (more than 100), medium (20 to 100), tail (fewer than 20)"
)


@dataclass(frozen=True)
class FrequencyGroup:
    """Group of labels with a similar number of training positives.

    Attributes:
        labels: Number of labels, including labels without AP.
        mAP: Mean AP over the labels with an AP, as a fraction; None if no label has an AP.
    """

    labels: int
    mAP: float | None


def frequency_group(positives: int) -> str:
    """Return the frequency group of a label with this number of training positives.

    Example:
        >>> [frequency_group(number) for number in (19, 20, 100, 101)]
        ['tail', 'medium', 'medium', 'head']
    """
    return next(name for name, most in GROUPS.items() if positives <= most)


def members_of_groups(labels: Iterable[str], positives: Mapping[str, int]) -> dict[str, list[str]]:
    """Return the labels of each non-empty frequency group, from head to tail.

    Args:
        labels: Labels to group.
        positives: Number of positives of each label in the training split.
    """
    members: dict[str, list[str]] = {name: [] for name in reversed(GROUPS)}
    for label in labels:
        members[frequency_group(positives[label])].append(label)
    return {name: some for name, some in members.items() if some}


def by_frequency(
    average_precision: Mapping[str, float | None], positives: Mapping[str, int]
) -> dict[str, FrequencyGroup]:
    """Group labels into head, medium and tail by the number of training positives.

    Head labels have more than 100 positives in training, medium labels 20 to 100, and tail labels fewer than 20.

    Args:
        average_precision: AP of each label.
        positives: Number of positives of each label in the training split.

    Returns:
        The non-empty groups, from head to tail.

    Example:
        >>> groups = by_frequency({"car": 0.75, "bus": 0.5, "gnu": None}, {"car": 900, "bus": 20, "gnu": 3})
        >>> {name: (group.labels, group.mAP) for name, group in groups.items()}
        {'head': (1, 0.75), 'medium': (1, 0.5), 'tail': (1, None)}
    """
    return {
        name: FrequencyGroup(len(labels), _mean([average_precision[label] for label in labels]))
        for name, labels in members_of_groups(average_precision, positives).items()
    }


def _mean(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    if not defined:
        return None
    return math.fsum(defined) / len(defined)
