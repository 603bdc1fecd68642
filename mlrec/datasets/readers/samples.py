"""What most readers share: targets out of what is known of each image, the image that a name means, first bytes."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlrec.datasets.image_paths import ImageIndex, is_image, without_ending
from mlrec.datasets.manifest import NEGATIVE, Manifest
from mlrec.datasets.names import clean_label, duplicates_in, image_name, normal
from mlrec.utils.errors import ValidationReport
from mlrec.utils.files import read_text

FIRST_BYTES = 4096  # that a recognizer reads of a file
_DRIVE = re.compile(r"[A-Za-z]:")
RENAMED = "names were matched to files that are spelled differently"


def manifest_of(
    split: str,
    root: Path,
    labels: Sequence[str],
    targets: Mapping[str, Mapping[str, int]],
    *,
    name: str = "",
    default: int = NEGATIVE,
) -> Manifest:
    """One split out of what is known of its images.

    Args:
        split: name of the split.
        root: folder that the names of images are relative to.
        labels: label names, in the order of the columns.
        targets: by image, the target of each label that the annotation names.
        name: name of the dataset, by default that of its folder.
        default: target of the labels that the annotation of an image does not name.

    Example:
        >>> manifest_of("all", Path("/data"), ("cat", "dog"), {"a.jpg": {"dog": 1}}).targets.tolist()
        [[0, 1]]
    """
    column = {label: k for k, label in enumerate(labels)}
    values = np.full((len(targets), len(labels)), default, dtype=np.int8)
    for row, known in enumerate(targets.values()):
        for label, value in known.items():
            values[row, column[label]] = value
    return Manifest(name or root.name, split, root, tuple(labels), tuple(targets), values)


def clean_labels(names: Sequence[str], where: str, findings: ValidationReport) -> tuple[str, ...]:
    """Label names as manifests have them; two equal names are an error."""
    labels = tuple(clean_label(name, f"{where}, label {k}", findings) for k, name in enumerate(names, 1))
    for label in duplicates_in(labels):
        findings.error(where, f"label '{label}' is named twice; keep one")
    return labels


def as_list(value: Any) -> list[Any]:
    """A list as it is; anything else as a list of one."""
    if isinstance(value, list):
        return value
    return [value]


def lines_of(file: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, without blanks at their ends, and their numbers from 1."""
    return [(number, line.strip()) for number, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]


def first_bytes(file: Path) -> bytes:
    """The first bytes of a regular file; none if it cannot be read."""
    try:
        if not file.is_file():
            return b""
        with file.open("rb") as stream:
            return stream.read(FIRST_BYTES)
    except OSError:
        return b""


def first_existing(candidates: Sequence[Path]) -> Path | None:
    """The first of these files and folders that exists."""
    return next((path for path in candidates if path.exists()), None)


class ImageFinder:
    """Finds the image files below a folder that the names in an annotation mean.

    A name is taken as given if that file exists below one of the folders that are usual for the source. Otherwise the
    one image is taken whose path ends so, with a warning (see `ImageIndex.find`). Files are listed, never opened.
    """

    def __init__(self, root: Path, findings: ValidationReport) -> None:
        self._root, self._findings = root, findings
        self._index: ImageIndex | None = None

    def find(self, names: str | Sequence[str], where: str, folders: Sequence[str] = ("",)) -> str:
        """The name below the root of the image that an annotation means, and an error if several can be meant.

        A name without any file is returned as given, below the first of the folders: it is an error when images are
        verified. Names that are not paths inside the folder are an error now.

        Args:
            names: the name in the annotation, and other spellings of it that are tried in turn.
            where: place of the name in the annotation, for messages.
            folders: folders below the root that images are usually in.
        """
        spellings = [names] if isinstance(names, str) else list(names)
        for name in spellings:
            found = self._as_given(name, folders)
            if found is not None:
                return found
        for name in spellings:
            files = self._matches(name, folders)
            if len(files) == 1:
                if not _only_lacks_ending(name, files[0], folders):
                    self._findings.warn(RENAMED, f"{spellings[0]} is {files[0]}")
                return files[0]
            if files:
                some = ", ".join(files[:3])
                what = f"'{spellings[0]}' can be any of {len(files)} images ({some}); write the whole path"
                self._findings.error(where, what)
                return files[0]
        if spellings[0].startswith(("/", "\\")) or _DRIVE.match(spellings[0]):
            what = f"'{spellings[0]}' is absolute, and no image below {self._root} ends so"
            self._findings.error(where, f"{what}; names must be relative to the folder of the images (--images)")
            return spellings[0]
        name = image_name(spellings[0].replace("\\", "/"), where, self._findings)
        return posixpath.join(folders[0], name)

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name below the root."""
        return os.path.lexists(self._root / name)

    def _as_given(self, name: str, folders: Sequence[str]) -> str | None:
        plain = posixpath.normpath(name.replace("\\", "/"))
        if not is_image(plain) or plain.startswith(("/", "../")) or _DRIVE.match(plain) or "\0" in plain:
            return None
        for folder in folders:
            below = posixpath.join(folder, plain)
            try:
                if os.path.lexists(self._root / below):
                    return below
            except (OSError, ValueError):  # longer than any file system takes
                return None
        return None

    def _matches(self, name: str, folders: Sequence[str]) -> list[str]:
        """The images that a name can mean; those in the usual folders if there are any."""
        if ".." in name.replace("\\", "/").split("/"):
            return []
        if self._index is None:
            self._index = ImageIndex(self._root)
        files = self._index.find(name)
        for folder in folders:
            inside = [file for file in files if normal(file).startswith(f"{normal(folder)}/")]
            if folder and inside:
                return inside
        return files


def _only_lacks_ending(name: str, file: str, folders: Sequence[str]) -> bool:
    """Whether a name is that of a file in a usual folder, apart from the ending: annotations often leave it out."""
    usual = {normal(posixpath.join(folder, name)) for folder in folders}
    return without_ending(normal(file)) in usual
