"""Reader for images inside tar shards (WebDataset) and Parquet files, without unpacking the files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mlrec.datasets.image_paths import is_image
from mlrec.datasets.listing import Item
from mlrec.datasets.readers.table_parquet import ParquetTable
from mlrec.datasets.readers.webdataset import MAX_IMAGE, read_member, tar_members
from mlrec.utils.errors import DataError


def packed_items(file: Path) -> Iterator[Item]:
    """Iterate over the images in a packed file, in file order.

    As in `mlrec prepare`, the id of an image is the path of the packed file without its extension, followed by the
    name of the image in the file, for example `shards/train-000000/a.jpg`. Images without a name are numbered.

    Raises:
        DataError: The file cannot be read, is incomplete, or contains no images.
    """
    found = False
    stem = re.sub(r"(?i)(\.tar|\.tar\.gz|\.tgz|\.parquet)$", "", str(file))
    for name, content in _images_in(file):
        found = True
        sample = f"{stem}/{name}"
        yield Item(sample, Path(sample), None, content)
    if not found:
        raise DataError(f"{file}: the file contains no images; omit this file")


def _images_in(file: Path) -> Iterator[tuple[str, bytes]]:
    if file.suffix.casefold() == ".parquet":
        table = ParquetTable(file)
        if table.image_column is None:
            raise DataError(f"{file}: no column contains image bytes; pass a .txt file that lists the image paths")
        for name, content in table.images():
            yield name, content or b""  # reported as an empty image
        return
    for member, stream in tar_members(file):
        if is_image(member.name):
            # An image above the size limit is not read in full; its first bytes are reported as a damaged image.
            yield member.name, read_member(file, stream, MAX_IMAGE)
