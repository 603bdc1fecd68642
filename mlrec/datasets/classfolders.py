"""A folder of class folders, as ImageNet is kept: `FOLDER/<class>/<image>`, one class an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mlrec.datasets.manifest import Manifest
from mlrec.errors import DataError, Findings, nearest, printable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})


def read_class_folders(root: Path, classes: Sequence[str]) -> Manifest:
    """The images of all class folders, in order of class and name.

    A class folder is called by the class's name (for ImageNet its WordNet id, `n01440764`) or by its number from 0.
    The columns of the targets are `classes`.

    Raises:
        DataError: no class folders, one that is none of the classes, or no image.
    """
    if not root.is_dir():
        raise DataError(f"{printable(root)}: no such folder; give a folder with one folder a class")
    findings = Findings()
    folders: dict[int, Path] = {}
    place = {name: k for k, name in enumerate(classes)} | {str(k): k for k in range(len(classes))}
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        if folder.name not in place:
            known = f"none of the {len(classes)} classes ({classes[0]} ... {classes[-1]})"
            findings.error(printable(folder), f"{known}, nor a number of one{nearest(folder.name, classes)}")
        elif place[folder.name] in folders:
            findings.error(printable(folder), f"the same class as {printable(folders[place[folder.name]].name)}")
        else:
            folders[place[folder.name]] = folder
    findings.raise_errors(f"{printable(root)}: not a folder of class folders", "rename the folders")
    found = [
        (f"{folder.name}/{image.name}", label)
        for label, folder in sorted(folders.items())
        for image in sorted(folder.iterdir())
        if image.suffix.lower() in SUFFIXES and image.is_file()
    ]
    if not found:
        raise DataError(f"{printable(root)}: no images in class folders; expected {printable(root)}/<class>/<image>")
    targets = np.zeros((len(found), len(classes)), dtype=np.int8)
    targets[np.arange(len(found)), [label for _, label in found]] = 1
    return Manifest(
        root.absolute().name, "all", root.absolute(), tuple(classes), tuple(name for name, _ in found), targets
    )
