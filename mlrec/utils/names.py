"""Image names and label names from third-party annotations.

Image names are normalized, and must refer to files below the root folder.
"""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.utils.errors import DataError, MlrecError, ValidationReport, counted, first_of, nearest

LONGEST_PATH, LONGEST_PART = 4096, 255
SHOWN = 5  # names of a difference that an error lists
SPLIT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # split names are used as file names
JOINS = ("+", "/", "&")  # possible separators of labels that are joined to one name
JOINED = "label names that may contain multiple labels were kept; use --separator to split them"
_USUAL = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*", re.ASCII)  # most names: valid without further checks
_ELSEWHERE = re.compile(r"^([A-Za-z]:|[A-Za-z][A-Za-z0-9+.-]*://|\\)")


def image_name(name: str, where: str, findings: ValidationReport) -> str:
    """Normalize `name` to a path below the root of the images.

    Links that lead outside the root are checked when files are opened.

    Args:
        name: Name in the annotation.
        where: Position of the name for messages: file, record and field.
        findings: Report that receives the errors. Empty names, absolute paths, drives, URLs, `..`, control characters,
            and names that are too long for a file system are errors.

    Example:
        >>> image_name("./a//b.jpg", "train.csv: line 2", ValidationReport())
        'a/b.jpg'
    """
    if is_usual(name):
        return name
    if fault := _fault(name):
        findings.error(where, f"'{name}' {fault}")
    if not name:  # would become "."
        return name
    return posixpath.normpath(name)


def is_usual(name: str) -> bool:
    """Return whether a name is valid and does not need further checks, as is the case for most names."""
    return len(name) <= LONGEST_PART and _USUAL.fullmatch(name) is not None


def holds_control(name: str) -> bool:
    """Return whether a name contains a forbidden character.

    Control characters, lone surrogates and line separators are forbidden.
    """
    return not name.isprintable() and any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in name)


def normal(name: str) -> str:
    r"""Normalize a name for comparison: `/` as the folder separator, and Unicode form NFC.

    Example:
        >>> normal("a\\cafe\u0301.jpg") == "a/caf\u00e9.jpg"
        True
    """
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def joined_name(names: Collection[str]) -> tuple[str, str] | None:
    """Return a name that may contain multiple names, and their separator, or None.

    Example:
        >>> joined_name(["beach", "beach+sunset"]), joined_name(["sea/lake", "mountain"])
        (('beach+sunset', '+'), None)
    """
    there = set(names)
    for name in names:
        for sign in JOINS:
            if sign in name and any(part.strip() in there for part in name.split(sign)):
                return name, sign
    return None


def alike(path: Path) -> Path | None:
    r"""Return an existing file or folder whose name looks like the missing `path`, or None.

    The names may differ in upper and lower case, in the Unicode form (NFC, NFD), or in the use of `\` instead of `/`.
    """
    place = Path(path.anchor)  # the current folder if `path` is relative
    for part in (part for piece in path.relative_to(path.anchor).parts for part in piece.split("\\") if part):
        try:
            names = [part] if os.path.lexists(place / part) else sorted(entry.name for entry in place.iterdir())
        except (OSError, ValueError):
            return None
        same = [name for name in names if normal(name).casefold() == normal(part).casefold()]
        if not same:
            return None
        place = place / same[0]
    return place if place != path else None


def _fault(name: str) -> str:
    parts = name.split("/")
    if not name.strip() or posixpath.normpath(name) == ".":
        return "is empty; specify an image path"
    if name.startswith("/") or _ELSEWHERE.match(name):
        return "is absolute; names must be relative to the image directory"
    if ".." in parts:
        return "is outside the image directory; names must be relative, without '..'"
    if holds_control(name):
        return "contains a control character; rename the file"
    if len(name) <= LONGEST_PART and name.isascii():
        return ""
    encoded = [len(part.encode("utf-8")) for part in parts]
    if max(encoded) > LONGEST_PART or sum(encoded) + len(parts) > LONGEST_PATH:
        return f"is too long for a file name ({LONGEST_PART} bytes per part, {LONGEST_PATH} in total)"
    return ""


def clean_label(name: str, where: str, findings: ValidationReport) -> str:
    """Strip whitespace around a label name and convert it to Unicode form NFC.

    Each change is reported as a warning. An empty name or a control character is reported as an error.

    Example:
        >>> clean_label(" cat ", "a.csv", ValidationReport())
        'cat'
    """
    stripped = name.strip()
    if stripped != name:
        findings.warn("whitespace around label names was stripped", f"{where}: '{name}'")
    normal = unicodedata.normalize("NFC", stripped)
    if normal != stripped:
        findings.warn("label names were normalized to Unicode form NFC", f"{where}: '{name}'")
    if not normal:
        findings.error(where, "the label name is empty; add a name")
    if holds_control(normal):
        findings.error(where, f"the label name '{normal}' contains a control character; rename it")
    return normal


def duplicates_in(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once, in order of their second appearance.

    Example:
        >>> duplicates_in(["a", "b", "a", "a"])
        ['a']
    """
    seen: set[str] = set()
    repeated: dict[str, None] = {}
    for name in names:
        if name in seen:
            repeated[name] = None
        seen.add(name)
    return list(repeated)


def label_columns(
    labels: Sequence[str], chosen: Sequence[str], where: object, error: type[MlrecError] = DataError
) -> list[int]:
    """Return the position in `labels` of each label in `chosen`.

    Args:
        labels: All label names, in the order of the columns.
        chosen: Names to look up.
        where: File, folder or split that has the labels, for the message.
        error: Class of the error to raise.

    Raises:
        MlrecError: A name is not among the labels; the message suggests the nearest label. The class of the error is
            `error`.

    Example:
        >>> label_columns(["cat", "dog", "person"], ["person", "cat"], "pets/val")
        [2, 0]
    """
    if isinstance(chosen, str):
        raise error(f"labels are the text '{chosen}'; pass a list of names, for example ['{chosen}']")
    column = {name: k for k, name in enumerate(labels)}
    for name in chosen:
        if name not in column:
            raise error(f"{where}: no label '{name}'{nearest(name, labels)}")
    return [column[name] for name in chosen]


def label_order(labels: Sequence[str], expected: Sequence[str]) -> NDArray[np.intp]:
    """Return the permutation that reorders columns from the order of `labels` to the order of `expected`.

    Raises:
        DataError: The two sets of names differ.

    Example:
        >>> label_order(["cat", "dog"], ["dog", "cat"]).tolist()
        [1, 0]
    """
    if set(labels) != set(expected) or len(labels) != len(expected):
        missing = [f"'{name}'" for name in expected if name not in set(labels)]
        extra = [f"'{name}'" for name in labels if name not in set(expected)]
        parts = []
        if missing:
            parts.append(f"missing {first_of(missing, SHOWN)}")
        if extra:
            parts.append(f"unexpected {first_of(extra, SHOWN)}")
        raise DataError(
            f"label sets differ but must be the same: found {counted(len(labels), 'label')}, expected {len(expected)} "
            f"({'; '.join(parts)})"
        )
    position = {name: k for k, name in enumerate(labels)}
    return np.array([position[name] for name in expected], dtype=np.intp)
