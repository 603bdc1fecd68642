"""Functions shared by most readers of annotations.

The functions create manifests, find image files by name, and read the first bytes of a file.
"""

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
from mlrec.utils.errors import ValidationReport
from mlrec.utils.files import read_text
from mlrec.utils.names import clean_label, duplicates_in, image_name, normal

FIRST_BYTES = 4096  # bytes that a recognizer reads from a file
_DRIVE = re.compile(r"[A-Za-z]:")
RENAMED = "names were matched to files with a different spelling"


def manifest_of(
    split: str,
    root: Path,
    labels: Sequence[str],
    targets: Mapping[str, Mapping[str, int]],
    *,
    name: str = "",
    default: int = NEGATIVE,
) -> Manifest:
    """Create the manifest of one split from the annotations of its images.

    Args:
        split: Name of the split.
        root: Folder to which image names are relative.
        labels: Label names, in the order of the columns.
        targets: Mapping from each image name to a mapping from its annotated labels to targets.
        name: Name of the dataset; by default, the name of the root folder.
        default: Target of labels that are not annotated.

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
    """Return normalized label names; duplicates are reported as errors."""
    labels = tuple(clean_label(name, f"{where}, label {k}", findings) for k, name in enumerate(names, 1))
    for label in duplicates_in(labels):
        findings.error(where, f"label '{label}' is listed twice; remove the duplicate")
    return labels


def as_list(value: Any) -> list[Any]:
    """Return a list unchanged, and any other value as a list with one element."""
    if isinstance(value, list):
        return value
    return [value]


def lines_of(file: Path) -> list[tuple[int, str]]:
    """Return the stripped non-blank lines of a text file, with line numbers counted from 1."""
    return [(number, line.strip()) for number, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]


def first_bytes(file: Path) -> bytes:
    """Return the first bytes of a regular file, or `b""` if the file cannot be read."""
    try:
        if not file.is_file():
            return b""
        with file.open("rb") as stream:
            return stream.read(FIRST_BYTES)
    except OSError:
        return b""


def first_existing(candidates: Sequence[Path]) -> Path | None:
    """Return the first path in `candidates` that exists, or None."""
    return next((path for path in candidates if path.exists()), None)


class ImageFinder:
    """Finder of image files below a folder by the names in an annotation.

    If a file with the annotated name exists in one of the usual folders of the source, this file is used. If no usual
    folder contains the file, but the path of exactly one image ends with the annotated name, this image is used (see
    `ImageIndex.find`), with a warning unless only the extension is missing. Files are listed but not opened.
    """

    def __init__(self, root: Path, findings: ValidationReport) -> None:
        self._root, self._findings = root, findings
        self._index: ImageIndex | None = None

    def find(self, names: str | Sequence[str], where: str, folders: Sequence[str] = ("",)) -> str:
        """Return the path of an annotated image, relative to the root; ambiguous names are reported as errors.

        If a name matches multiple images, the first one is returned. If no file is found, the result is a path in the
        first folder. The missing file is reported later, when images are verified. A name that is not a path inside the
        root is reported as an error.

        Args:
            names: Annotated name, followed by alternative spellings, which are tried in this order.
            where: Position of the name in the annotation, for messages.
            folders: Folders where images of this source are usually stored, relative to the root, in search order.
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
                    self._findings.warn(RENAMED, f"{spellings[0]} matched {files[0]}")
                return files[0]
            if files:
                some = ", ".join(files[:3])
                what = f"'{spellings[0]}' matches {len(files)} images ({some}); write the full path"
                self._findings.error(where, what)
                return files[0]
        if spellings[0].startswith(("/", "\\")) or _DRIVE.match(spellings[0]):
            what = (
                f"'{spellings[0]}' is an absolute path that matches no image below {self._root}; write the name "
                "relative to "
                "the image folder (--images)"
            )
            self._findings.error(where, what)
            return spellings[0]
        name = image_name(spellings[0].replace("\\", "/"), where, self._findings)
        return posixpath.join(folders[0], name)

    def exists(self, name: str) -> bool:
        """Return whether a file with this name exists below the root."""
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
            except (OSError, ValueError):  # longer than any file system allows
                return None
        return None

    def _matches(self, name: str, folders: Sequence[str]) -> list[str]:
        """Return the images that match a name; images in the usual folders have priority."""
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
    """Return whether a name, possibly without its extension, is the name of a file in a usual folder."""
    usual = {normal(posixpath.join(folder, name)) for folder in folders}
    return without_ending(normal(file)) in usual
