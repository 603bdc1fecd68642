"""Conversion of the split names in different sources to train, val, trainval and test.

Known names are compared without regard to case.
"""

from __future__ import annotations

from collections.abc import Mapping

from mlrec.utils.errors import UsageError, ValidationReport
from mlrec.utils.names import SPLIT_NAME

USUAL = ("train", "val", "trainval", "test")
WHOLE = "all"  # the only split of a source without split names
VOCABULARY = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "trainval": "trainval",
    "all": WHOLE,
    "default": WHOLE,  # CVAT's name for images without a split
}
NESTED = {"trainval": ("train", "val"), WHOLE: ("train", "val", "trainval")}  # each key contains its values by design


def usual_order(split: str) -> tuple[int, str]:
    """Return the sort key of a split name: train, val, trainval, test, then all others by name.

    Example:
        >>> sorted(["test", "extra", "train"], key=usual_order)
        ['train', 'test', 'extra']
    """
    if split in USUAL:
        return USUAL.index(split), split
    return len(USUAL), split


def known_split(name: str) -> str | None:
    """Return the split for a known split name, or None if the name is not known.

    Example:
        >>> known_split("Validation"), known_split("holdout")
        ('val', None)
    """
    return VOCABULARY.get(name.strip().casefold())


def disjoint(first: str, second: str) -> bool:
    """Return whether two splits must not share images.

    `trainval` and `all` may share images with their parts.

    Example:
        >>> disjoint("train", "test"), disjoint("trainval", "train")
        (True, False)
    """
    return second not in NESTED.get(first, ()) and first not in NESTED.get(second, ())


def parse_names(text: str) -> dict[str, str]:
    """Parse the value `NAME=val,...` of `--splits`; the original split names are not case-sensitive.

    Raises:
        UsageError: The text is malformed, an original split name occurs twice, or a new split name is not a valid file
            name.

    Example:
        >>> parse_names("Fold0=train, holdout=val")
        {'fold0': 'train', 'holdout': 'val'}
    """
    names: dict[str, str] = {}
    for pair in text.split(","):
        own, equals, split = (part.strip() for part in pair.partition("="))
        split = known_split(split) or split
        if not equals or not own or not SPLIT_NAME.fullmatch(split):
            raise UsageError(f"--splits {text}: '{pair}' is invalid; use NAME=train, NAME=val or NAME=test")
        if own.casefold() in names:
            raise UsageError(f"--splits {text}: '{own}' is listed twice; remove the duplicate")
        names[own.casefold()] = split
    return names


def resolve_names(
    places: Mapping[str, str], given: Mapping[str, str], findings: ValidationReport, *, one_column: bool = False
) -> dict[str, str]:
    """Return the split for each split name in a source; unknown names are not changed.

    Names are looked up in `--splits`, then among the known names. If two names mean the same split, an error is
    reported, because the names may refer to different sets of images. The option `--splits` can join multiple names
    into one split. In one column of a table, names that differ only in case are joined with a warning. A name in
    `--splits` that is not in the source is an error.

    Args:
        places: All names in the source, with their positions for messages.
        given: Split names from `--splits`; see `parse_names`.
        findings: Report that receives errors and warnings.
        one_column: Whether the names are cells of one column.

    Returns:
        Mapping from each name in `places` to its split, in the same order.
    """
    resolved: dict[str, str] = {}
    first: dict[str, str] = {}
    for own, place in places.items():
        key = own.strip().casefold()
        split = given.get(key) or known_split(own) or own.strip()
        if not SPLIT_NAME.fullmatch(split):
            findings.error(place, f"'{split}' is not a valid split name; use train, val or test")
        elif key not in given and known_split(own) is None:
            findings.warn(
                "split names other than train, val, trainval and test were kept; rename them with "
                "--splits NAME=val,...",
                f"{split} ({place})",
            )
        other = first.setdefault(split.casefold(), own)
        if other != own:
            split = resolved[other]
            _check_joined(own, other, split, given, place, findings, one_column)
        resolved[own] = split
    for own in sorted(given.keys() - {name.strip().casefold() for name in places}):
        there = ", ".join(places) or "images without a split"
        findings.error("--splits", f"the source has no split '{own}', only {there}; correct the name")
    return resolved


def _check_joined(
    own: str, other: str, split: str, given: Mapping[str, str], place: str, findings: ValidationReport, one_column: bool
) -> None:
    """Report two names of one split, unless `--splits` gives both."""
    keys = own.strip().casefold(), other.strip().casefold()
    if all(key in given for key in keys):
        return
    if one_column and keys[0] == keys[1]:
        if own.strip() != other.strip():
            findings.warn("split names that differ only in case were merged", f"{other} and {own} ({place})")
        return
    both = ",".join(f"{name.strip()}={split}" for name in (other, own))
    findings.error(
        place,
        f"'{own}' and '{other}' both map to split '{split}'; merge them with --splits {both}, or rename one",
    )
