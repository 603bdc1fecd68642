"""Conversion of data frames to arrays: rows and columns are matched by name, never by position."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlrec.datasets.names import duplicates_in
from mlrec.utils.errors import PredictionsError, first_of

SHOWN = 3  # names listed in a message
_FLOATS_OF_NUMPY = ("torch.float64", "torch.float32", "torch.float16")


def aligned(
    scores: ArrayLike, targets: ArrayLike, labels: Sequence[str] | None
) -> tuple[ArrayLike, ArrayLike, list[str] | None, list[str] | None]:
    """Reorder scores and targets so that their samples and labels match.

    Two data frames must have the same columns and the same index; the targets determine the order. The rows of an array
    must be in the order of the data frame. The columns of an array must be in the order of `labels`, or in the order of
    the data frame if `labels` is None. pandas is imported only if an input is a data frame.

    Args:
        scores: (N, C) array or `pandas.DataFrame`.
        targets: (N, C) array or `pandas.DataFrame`.
        labels: C label names in the requested order. For an array, these are the names of its columns.

    Returns:
        Scores, targets, label names, and sample names; the names are None if they are unknown.

    Raises:
        PredictionsError: Names differ or are repeated, a column is not numeric, or a table is not a pandas.DataFrame.
    """
    frames: dict[str, Any] = {
        what: table for what, table in (("scores", scores), ("targets", targets)) if _is_table(table, what)
    }
    if not frames:
        return scores, targets, None if labels is None else list(labels), None
    for what, frame in frames.items():
        _check_unique(frame, what)
    first = next(reversed(frames.values()))
    columns = list(first.columns)
    if labels is not None:
        columns = _columns_of(first, labels, next(reversed(frames)))
    if len(frames) == 2:
        _check_equal("labels (columns)", list(frames["scores"].columns), list(first.columns))
        _check_equal("samples (index)", list(frames["scores"].index), list(first.index))
    arrays = {what: _array(frame, columns, first.index, what) for what, frame in frames.items()}
    names, samples = [str(name) for name in columns], [str(name) for name in first.index]
    return arrays.get("scores", scores), arrays.get("targets", targets), names, samples


def as_array(values: ArrayLike) -> NDArray[Any]:
    """Convert a list, an array, or a tensor on any device to a numpy array.

    numpy has no bfloat16 and no 8-bit floats, so tensors with these dtypes are converted to float32 without loss. torch
    is not imported.

    Raises:
        ValueError, TypeError, RuntimeError: The values are not an array of numbers.
    """
    if not hasattr(values, "detach"):
        return np.asarray(values)
    tensor: Any = values.detach().cpu()
    if tensor.is_floating_point() and str(tensor.dtype) not in _FLOATS_OF_NUMPY:
        tensor = tensor.float()
    return np.asarray(tensor)


def _is_table(table: Any, what: str) -> bool:
    if not hasattr(table, "columns"):
        return False
    import pandas as pd

    if not isinstance(table, pd.DataFrame):
        kind = f"{type(table).__module__.partition('.')[0]}.{type(table).__name__}"
        raise PredictionsError(
            f"{what} are of type {kind}, which has no index for matching samples; pass a pandas.DataFrame"
        )
    return True


def _check_unique(frame: Any, what: str) -> None:
    for where, names in (("columns", list(frame.columns)), ("index", list(frame.index))):
        if twice := duplicates_in(map(str, names)):
            raise PredictionsError(f"'{twice[0]}' occurs more than once in the {where} of {what}; keep one")


def _check_equal(what: str, scored: list[Hashable], true: list[Hashable]) -> None:
    """Raise an error that lists the difference between two sets of names."""
    known, wanted = set(scored), set(true)
    missing, extra = [x for x in true if x not in known], [x for x in scored if x not in wanted]
    if missing or extra:
        parts = []
        if missing:
            parts.append(f"only in targets: {_named(missing)}")
        if extra:
            parts.append(f"only in scores: {_named(extra)}")
        raise PredictionsError(f"{what} of scores and targets differ but must be the same ({'; '.join(parts)})")


def _columns_of(frame: Any, labels: Sequence[str], what: str) -> list[Hashable]:
    """Return the columns in the order of `labels`, which must be their names."""
    by_name = {str(name): name for name in frame.columns}
    if sorted(by_name) != sorted(labels):
        missing, extra = [x for x in labels if x not in by_name], [x for x in by_name if x not in labels]
        raise PredictionsError(
            f"labels differ from the columns of {what} (missing: {_named(missing)}; not in labels: {_named(extra)}); "
            "list the same names in labels"
        )
    return [by_name[name] for name in labels]


def _array(frame: Any, columns: list[Hashable], index: Any, what: str) -> NDArray[Any]:
    if frame.index is not index:
        frame = frame.loc[list(index)]
    values = [frame[column].to_numpy() for column in columns]
    for column, array in zip(columns, values, strict=True):
        if array.dtype.kind not in "biuf":
            raise PredictionsError(
                f"column '{column}' of {what} is not numeric or has empty cells; correct the column, or move sample "
                "names to the index with "
                "frame.set_index(...)"
            )
    if not values:
        return np.empty((len(frame), 0))
    return np.column_stack(values)


def _named(names: Sequence[Hashable]) -> str:
    if not names:
        return "none"
    return first_of([repr(name) for name in names], SHOWN)
