"""Output of `mlrec predict`: CSV rows, JSON lines, and file writers, including Parquet."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from mlrec.datasets.readers.table_file import EXTRA
from mlrec.utils.errors import DataError
from mlrec.utils.names import duplicates_in
from mlrec.workflows.deploy.predict import Prediction

Form = Literal["csv", "jsonl", "parquet"]
ROW_GROUP = 1000  # rows of Parquet that are written at once
SEPARATOR = ";"  # between the labels of a CSV cell
RowFormat = Callable[[str, Sequence[str], Mapping[str, float]], str]  # id, predicted labels, probability by label


def csv_header(labels: Sequence[str]) -> str:
    """Return the header line of the CSV output: `id`, `labels`, and one column per label."""
    return _csv_line(["id", "labels", *labels])


def csv_row(sample_id: str, predicted: Sequence[str], scores: Mapping[str, float]) -> str:
    """Return one prediction as a CSV line.

    Probabilities are written with all digits, because rounding would create ties.

    Args:
        sample_id: Id of the image.
        predicted: Predicted labels.
        scores: Dict that maps each label to its probability.

    Example:
        >>> csv_row("a.jpg", ["cat", "dog"], {"cat": 0.9, "dog": 0.75})
        'a.jpg,cat;dog,0.9,0.75'
    """
    return _csv_line([sample_id, SEPARATOR.join(predicted), *(repr(float(score)) for score in scores.values())])


def jsonl_row(sample_id: str, predicted: Sequence[str], scores: Mapping[str, float]) -> str:
    """Return one prediction as a JSON line; for the arguments, see `csv_row`.

    Example:
        >>> jsonl_row("a.jpg", ["cat"], {"cat": 0.9})
        '{"id": "a.jpg", "labels": ["cat"], "scores": {"cat": 0.9}}'
    """
    exact = {label: float(score) for label, score in scores.items()}
    return json.dumps({"id": sample_id, "labels": list(predicted), "scores": exact}, ensure_ascii=False)


ROW_FORMATS: dict[str, RowFormat] = {"csv": csv_row, "jsonl": jsonl_row}


def _csv_line(cells: Sequence[str]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(cells)
    return stream.getvalue()


class Writer(Protocol):
    """Interface of writers that add predictions to an open file."""

    def add(self, prediction: Prediction) -> None:
        """Write one prediction."""
        ...

    def close(self) -> None:
        """Finish writing the file, but do not close the stream."""
        ...


class TextWriter:
    """Writer of predictions as CSV or JSON lines."""

    def __init__(self, stream: IO[bytes], labels: Sequence[str], form: Form) -> None:
        self._stream, self._row = stream, ROW_FORMATS[form]
        if form == "csv":
            self._write(csv_header(labels))

    def add(self, prediction: Prediction) -> None:
        """Write one line."""
        self._write(self._row(prediction.id, prediction.predicted, prediction.scores))

    def close(self) -> None:
        """Do nothing, because text files need no completion."""

    def _write(self, line: str) -> None:
        self._stream.write(readable(line).encode() + b"\n")


class ParquetWriter:
    """Writer of predictions as Parquet, with the same columns as CSV.

    The columns are `id`, `labels` (list of strings), and one double column per label.
    """

    def __init__(self, stream: IO[bytes], labels: Sequence[str]) -> None:
        pyarrow = parquet_library()
        self._names = ["id", "labels", *labels]
        taken = duplicates_in(self._names)
        if taken:
            raise DataError(f"label '{taken[0]}' has the same name as another column; use --format jsonl")
        kinds = [pyarrow.string(), pyarrow.list_(pyarrow.string()), *[pyarrow.float64()] * len(labels)]
        self._schema = pyarrow.schema(list(zip(self._names, kinds, strict=True)))
        self._writer = pyarrow.parquet.ParquetWriter(stream, self._schema)
        self._rows: list[Prediction] = []

    def add(self, prediction: Prediction) -> None:
        """Write one row; rows are buffered until a row group is full."""
        self._rows.append(prediction)
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Write the last row group and the footer."""
        if self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import numpy as np
        import pyarrow

        scores = np.stack([row.probabilities for row in self._rows])
        columns: list[Any] = [pyarrow.array([readable(row.id) for row in self._rows], pyarrow.string())]
        columns.append(pyarrow.array([list(row.predicted) for row in self._rows], self._schema.field(1).type))
        columns += [pyarrow.array(np.ascontiguousarray(column)) for column in scores.T]
        self._writer.write_table(pyarrow.Table.from_arrays(columns, schema=self._schema))
        self._rows.clear()


def open_writer(stream: IO[bytes], labels: Sequence[str], form: Form) -> Writer:
    """Return the writer for a format."""
    if form == "parquet":
        return ParquetWriter(stream, labels)
    return TextWriter(stream, labels, form)


def joined(parts: Sequence[Path], form: Form, stream: IO[bytes]) -> None:
    """Concatenate files with predictions, and write the result to `stream`.

    Args:
        parts: One or more files to concatenate.
        form: Format of `parts` and of the result.
        stream: Open file to write to.
    """
    if form == "parquet":
        pyarrow = parquet_library()
        with pyarrow.parquet.ParquetWriter(stream, pyarrow.parquet.read_schema(parts[0])) as writer:
            for part in parts:
                with pyarrow.parquet.ParquetFile(part) as opened:
                    for group in range(opened.num_row_groups):
                        writer.write_table(opened.read_row_group(group))
        return
    for number, part in enumerate(parts):
        with part.open("rb") as opened_part:
            if form == "csv" and number:
                opened_part.readline()  # the heading; label names have no line breaks
            shutil.copyfileobj(opened_part, stream)


def parquet_library() -> Any:
    """Return pyarrow, after importing it with its Parquet module.

    Raises:
        DataError: pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DataError(f"writing Parquet requires pyarrow; install it with {EXTRA}") from error
    return pyarrow


def readable(text: str) -> str:
    """Escape the bytes in a path that are not valid UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
