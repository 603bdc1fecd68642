"""Reader for devkits with multiple VOC years, which are read as one dataset.

In papers, models are often trained on VOC2007 and VOC2012 together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.registry import Reading
from mlrec.datasets.readers.samples import lines_of
from mlrec.datasets.readers.voc import LABELS, read_year, split_lists
from mlrec.datasets.readers.voc_class_lists import ANNOTATIONS, LISTS
from mlrec.datasets.split_names import known_split, usual_order
from mlrec.utils.errors import DataError, ValidationReport


def read_years(folders: Sequence[Path], findings: ValidationReport) -> Reading:
    """Merge the splits of multiple years into one dataset. Image names start with the folder of the year.

    If the images of a test list have no annotations, as in 2012, the list is skipped with a warning.

    Raises:
        DataError: No list with annotated images remains.
    """
    root = folders[0].absolute().parent
    parts: dict[str, list[Manifest]] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for folder in folders:
        year = folder.name
        unlabelled = _unlabelled(folder)
        for split in unlabelled:
            findings.warn("lists of images without annotations were skipped", f"{split} of {year}")
        manifests, stated = read_year(year, folder.absolute(), LABELS, findings, skipped=unlabelled)
        sizes |= {f"{year}/{image}": size for image, size in stated.items()}
        for manifest in manifests:
            images = tuple(f"{year}/{image}" for image in manifest.images)
            parts.setdefault(manifest.split, []).append(replace(manifest, images=images, sample_ids=images, root=root))
    if not parts and not findings.errors:
        raise DataError(f"{root}: no list in {LISTS} contains annotated images; unpack the archives again")
    years = [folder.name.removeprefix("VOC") for folder in folders]
    name = "voc" + "-".join(years)
    manifests = [_joined(name, split, root, parts[split]) for split in sorted(parts, key=usual_order)]
    source = {"kind": "voc", "path": str(root), "years": years, "format": "voc"}
    return Reading(name, manifests, source, stated_sizes=sizes)


def _unlabelled(folder: Path) -> list[str]:
    """Return test splits without any annotated image."""
    splits = []
    for file in split_lists(folder / LISTS, {}):
        annotated = ((folder / ANNOTATIONS / f"{line}.xml").exists() for _, line in lines_of(file))
        if known_split(file.stem) == "test" and not any(annotated):
            splits.append("test")
    return splits


def _joined(name: str, split: str, root: Path, parts: Sequence[Manifest]) -> Manifest:
    images = tuple(image for part in parts for image in part.images)
    return Manifest(name, split, root, LABELS, images, np.concatenate([part.targets for part in parts]))
