"""Conversion of lists, arrays and tensors to numpy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlrec.utils.errors import PredictionsError

_FLOATS_OF_NUMPY = ("torch.float64", "torch.float32", "torch.float16")


def array_of(values: ArrayLike, what: str) -> NDArray[Any]:
    """Convert rows of numbers to an array; see `as_array`.

    Args:
        values: List, array or tensor.
        what: Description of the values in the plural, used in error messages.

    Raises:
        PredictionsError: The values are not rows of equal length.
    """
    try:
        array = as_array(values)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, sparse tensors, masked arrays
        raise PredictionsError(
            f"{what} cannot be converted to a numeric array ({error}); pass rows of equal length"
        ) from error
    if array.ndim == 0:
        raise PredictionsError(f"{what} are of type {type(values).__name__}; pass an array, a tensor or a list of rows")
    return array


def as_array(values: ArrayLike) -> NDArray[Any]:
    """Convert a list, an array, or a tensor on any device to a numpy array.

    numpy has no bfloat16 and no 8-bit floats, so tensors with these dtypes are converted to float32 without loss. torch
    is not imported.

    Raises:
        ValueError, TypeError, RuntimeError: The values cannot be converted to an array, or some values of a masked
            array are masked.
    """
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        raise ValueError("the array has masked values; fill them, for example targets.filled(-1) for unknown")
    if not hasattr(values, "detach"):
        return np.asarray(values)
    tensor: Any = values.detach().cpu()
    if tensor.is_floating_point() and str(tensor.dtype) not in _FLOATS_OF_NUMPY:
        tensor = tensor.float()
    return np.asarray(tensor)
