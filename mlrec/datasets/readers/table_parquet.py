"""Reader for Parquet tables, including Hugging Face tables that contain images and class names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlrec.datasets.image_paths import is_image
from mlrec.datasets.readers.samples import as_list
from mlrec.datasets.readers.table_file import cell_text, needs_extra
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.names import image_name

BATCH_ROWS = 256  # rows read at a time if they contain images
# First bytes of image files, for images without a name.
SIGNATURES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp"}
SIGNATURES |= {b"II*\0": ".tif", b"MM\0*": ".tif"}


class ParquetTable:
    """Table in a Parquet file.

    Attributes:
        path: Parquet file.
        image_column: Column that contains image bytes, optionally with image paths as in Hugging Face datasets, or
            None.
        class_names: Mapping from each column of class indices to its class names.
    """

    def __init__(self, path: Path) -> None:
        """Open the file and read its schema.

        Raises:
            DataError: The file is not a Parquet file, multiple columns contain bytes, or pyarrow is not installed.
        """
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise needs_extra(path, "Parquet files", error) from error
        self.path = path
        with self._readable():
            self._file = pyarrow.parquet.ParquetFile(path)
            self._schema = self._file.schema_arrow
        self.class_names = _class_names(self._schema.metadata or {}, path)
        images = [field.name for field in self._schema if _holds_bytes(field.type)]
        if len(images) > 1:
            raise DataError(f"{path}: multiple columns contain bytes ({', '.join(images)}); keep only one of them")
        self.image_column = next(iter(images), None)

    def texts(self) -> tuple[list[str], Iterator[list[str]]]:
        """Return the names of the columns, and the cells of each row as strings. Image bytes are not read."""
        columns = [field.name for field in self._schema]
        return columns, self._rows(columns)

    def _rows(self, columns: list[str]) -> Iterator[list[str]]:
        names = self._image_names() if self.image_column else []
        read = [column for column in columns if column != self.image_column]
        number = 0
        with self._readable():
            for batch in self._file.iter_batches(columns=read):
                values = {column: batch.column(column).to_pylist() for column in read}
                if self.image_column:
                    values[self.image_column] = names[number : number + batch.num_rows]
                number += batch.num_rows
                for row in range(batch.num_rows):
                    yield [self._text(column, values[column][row]) for column in columns]

    def _text(self, column: str, value: Any) -> str:
        names = self.class_names.get(column)
        if names is None:
            return cell_text(value)
        if value is None:
            return ""
        return cell_text([self._class(names, column, one) for one in as_list(value)])

    def _class(self, names: list[str], column: str, value: Any) -> str:
        if isinstance(value, int) and 0 <= value < len(names):
            return names[value]
        raise DataError(
            f"{self.path}: column '{column}': class {value} is not one of the {len(names)} classes in the schema; "
            "write the file again"
        )

    def _image_names(self) -> list[str]:
        """Return unique image names: the file names in the paths, or numbers if paths are missing or repeated."""
        names = self._path_names()
        if names is not None:
            return names
        return [self._numbered(number, value) for number, value in enumerate(self._images())]

    def _path_names(self) -> list[str] | None:
        """Return the names in the paths of all images; None if paths are missing or repeated."""
        index = self._schema.get_field_index(self.image_column)
        if not _has_path(self._schema.field(index).type):
            return None
        paths = [path or "" for path in self._column(f"{self.image_column}.path")]
        names = [path.replace("\\", "/").rpartition("/")[2] for path in paths]
        if len(set(names)) == len(names) and all(map(is_image, names)):
            return names
        return None

    def _numbered(self, number: int, value: Any) -> str:
        return f"{self.path.stem}-{number:06}{_ending(value)}"

    def _column(self, name: str) -> list[Any]:
        """Return one field of the image column."""
        with self._readable():
            field = name.rpartition(".")[2]
            batches = self._file.iter_batches(columns=[name])
            return [value and value[field] for batch in batches for value in batch.column(0).to_pylist()]

    def _images(self) -> Iterator[Any]:
        with self._readable():
            for batch in self._file.iter_batches(batch_size=BATCH_ROWS, columns=[self.image_column]):
                yield from batch.column(0).to_pylist()

    def images(self) -> Iterator[tuple[str, bytes | None]]:
        """Iterate over image names and images; only a few images are in memory at a time."""
        names = self._path_names()
        for number, value in enumerate(self._images()):
            if names is None:
                name = self._numbered(number, value)
            else:
                name = names[number]
            yield name, _bytes_of(value)

    def write_images(self, folder: Path) -> None:
        """Write all images into `folder`, with the file names from `texts`.

        Raises:
            DataError: An image has no bytes, or a name is not a valid file name.
        """
        folder.mkdir(parents=True, exist_ok=True)
        findings = ValidationReport()
        for number, (name, value) in enumerate(zip(self._image_names(), self._images(), strict=True), 1):
            where = f"{self.path}: row {number}"
            image_name(name, where, findings)
            content = _bytes_of(value)
            if not content:
                findings.error(where, f"image '{name}' has no bytes; add the bytes or remove the row")
            elif not findings.errors:
                (folder / name).write_bytes(content)
        findings.raise_errors(f"{self.path}: the images cannot be written", "")

    @contextmanager
    def _readable(self) -> Iterator[None]:
        import pyarrow

        try:
            yield
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(
                f"{self.path}: the file cannot be read as Parquet ({error}); write the file again"
            ) from error


def _holds_bytes(kind: Any) -> bool:
    """Return whether a column contains bytes, or a struct with a field `bytes`."""
    import pyarrow.types as types

    if types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _has_path(kind: Any) -> bool:
    import pyarrow.types as types

    return bool(types.is_struct(kind) and kind.get_field_index("path") >= 0)


def _class_names(metadata: Mapping[bytes, bytes], path: Path) -> dict[str, list[str]]:
    """Return class names by column, from the schema written by Hugging Face datasets."""
    text = metadata.get(b"huggingface")
    if text is None:
        return {}
    try:
        features = json.loads(text)["info"]["features"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: the column descriptions in the schema cannot be read; write the file again"
        ) from error
    names: dict[str, list[str]] = {}
    for column, feature in features.items():
        # A list of classes is written as {"feature": ...} or as [...], depending on the version.
        if isinstance(feature, list) and feature:
            feature = feature[0]
        if isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
            feature = feature["feature"]
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            names[column] = [str(name) for name in feature.get("names", [])]
    return names


def _bytes_of(value: Any) -> bytes | None:
    if isinstance(value, dict):
        value = value.get("bytes")
    content: bytes | None = value
    return content


def _ending(value: Any) -> str:
    content = _bytes_of(value) or b""
    return next((ending for start, ending in SIGNATURES.items() if content.startswith(start)), ".jpg")
