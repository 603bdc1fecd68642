"""Groups of samples that must stay together in a split."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.analysis import near_duplicates as duplicates
from mlrec.datasets.analysis.groups import connected, joined, numbered
from mlrec.datasets.dataset import Dataset
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.columns import RoleFinder, cell_meanings, column_named
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.datasets.readers.table_file import read_table
from mlrec.datasets.readers.table_folder import table_sources
from mlrec.datasets.readers.table_images import TableImages
from mlrec.utils.errors import DataError, UsageError, ValidationReport, counted
from mlrec.utils.progress import Progress
from mlrec.workflows.data.duplicates import fingerprints

logger = logging.getLogger(__name__)


def sample_groups(
    dataset: Dataset,
    manifest: Manifest,
    *,
    column: str | None,
    file: Path | None,
    near_duplicates: bool,
    progress: Progress,
) -> NDArray[np.intp]:
    """Return one group number per sample; samples that must stay together have the same number.

    Args:
        dataset: Dataset of the samples; its folder contains the cached image fingerprints.
        manifest: Split of the dataset.
        column: Column of the table; images with equal values form one group. If None, no table is read.
        file: Table with an image column; by default the table from which the dataset was prepared.
        near_duplicates: Whether near-duplicate images are kept in the same group.
        progress: Progress display.

    Returns:
        Array (N,) with the group number of each sample, counted from 0.

    Raises:
        UsageError: A file is set without a column, or a column is set although the dataset has no table and no file is
            set.
        DataError: The column does not exist, or an image has no value.
    """
    groupings = [numbered(manifest.images)]
    values = _values(dataset, manifest.root, column, file)
    if values is not None:
        missing = next((image for image in manifest.images if image not in values), None)
        if missing is not None:
            raise DataError(f"{missing}: the --group table has no row for this image; add one")
        groupings.append(numbered([values[image] for image in manifest.images]))
    if near_duplicates:
        groupings.append(_same_photographs(dataset, manifest, progress))
    return joined(groupings)


def _same_photographs(dataset: Dataset, manifest: Manifest, progress: Progress) -> NDArray[np.intp]:
    images = list(dict.fromkeys(manifest.images))
    prints = fingerprints(dataset.path, manifest.root, images, progress)
    if not prints:
        logger.info("no image files were found, so duplicate images may be in different splits")
    elif len(prints) < len(images):
        logger.warning(
            f"{counted(len(images) - len(prints), 'image')} could not be read, so duplicates may be in different splits"
        )
    pairs = [(pair.first, pair.second) for pair in duplicates.pairs(list(prints.values()))]
    if pairs:
        logger.info(
            f"keeping {counted(len(pairs), 'pair')} of duplicate images together; list all pairs with mlrec duplicates"
        )
    group_of = dict(zip(prints, connected(len(prints), pairs).tolist(), strict=True))
    return numbered([group_of.get(image, image) for image in manifest.images])


def _values(dataset: Dataset, root: Path, column: str | None, file: Path | None) -> dict[str, str] | None:
    """Return the value of the group column for each image below `root`."""
    if column is None:
        if file is not None:
            raise UsageError(f"--groups {file} requires a group column; name the column with --group")
        return None
    if file is None and dataset.info.source.get("kind") != "csv":
        raise UsageError(
            "--group: the dataset was not prepared from a table; pass a table of images and groups with --groups"
        )
    place = file or Path(dataset.info.source["path"])
    findings = ValidationReport()
    images = TableImages(root, findings)
    options = ReadOptions()
    if file is None:
        options = ReadOptions(image_column=dataset.info.source.get("options", {}).get("image_column"))
    paths = [place]
    if place.is_dir():
        paths = [source.path for source in table_sources(place, {}, None)]
    values: dict[str, str] = {}
    for path in paths:
        table = read_table(path, findings)
        group = column_named(table, column, "--group")
        image = RoleFinder(table, options, cell_meanings(options), images.exists, findings).image()
        for name, cell in zip(images.names(table, image), table.column(group), strict=True):
            values[name] = cell.strip()
    findings.raise_errors(f"{place} cannot be used", "correct the file")
    return values
