"""Reader for MATLAB annotation files; requires scipy (the extra `mat`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlrec.utils.errors import DataError, MlrecError
from mlrec.utils.files import check_regular


def load_mat(path: Path) -> dict[str, Any]:
    """Read the variables in a MATLAB file (up to version 7).

    Raises:
        MlrecError: scipy is not installed.
        DataError: The file cannot be read.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise MlrecError("reading .mat files requires scipy; install it with pip install 'mlrec[mat]'") from error
    if not path.exists():
        raise DataError(f"{path}: no such file; check the path")
    check_regular(path)
    try:
        content: dict[str, Any] = loadmat(str(path))
    except Exception as error:  # scipy raises many kinds of errors for damaged files
        raise DataError(f"{path}: the file cannot be read as a MATLAB file ({error}); download it again") from error
    return content


def texts_of(value: Any, where: str) -> list[str]:
    """Return the strings in a cell array, in order.

    Raises:
        DataError: An entry of the cell array is not a string.

    Example:
        >>> import numpy as np
        >>> texts_of(np.array([[np.array(["Hat"])], [np.array(["Glasses"])]], dtype=object), "attributes")
        ['Hat', 'Glasses']
    """
    texts: list[str] = []
    for cell in np.asarray(value, dtype=object).ravel():
        while isinstance(cell, np.ndarray) and cell.size == 1:
            cell = cell.ravel()[0]
        if not isinstance(cell, str):
            raise DataError(f"{where}: entry {len(texts) + 1} is not a string; download the file again")
        texts.append(str(cell))
    return texts
