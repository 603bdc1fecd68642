"""Word vectors for labels from a text file in the format of GloVe.

The file contains one word per line, followed by numbers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.utils.errors import ModelError
from mlrec.utils.files import check_regular


def read_vectors(path: Path, labels: Sequence[str]) -> NDArray[np.float32]:
    """Read a word vector for each label; returns (C, V).

    If a label with multiple words is not in the file, the mean of the word vectors is used. Case is ignored.

    Raises:
        ModelError: The file cannot be read, a number is invalid, or labels have no vector; the message lists these
            labels.
    """
    found = _lines_of(path, {name for label in labels for name in (label.casefold(), *_words(label))})
    lengths = {len(vector) for vector in found.values()}
    if len(lengths) > 1:
        raise ModelError(
            f"{path}: the vectors have different lengths ({', '.join(map(str, sorted(lengths)))}); all vectors must "
            "have the same length"
        )
    vectors = {label: _vector(label, found) for label in labels}
    absent = [label for label, vector in vectors.items() if vector is None]
    if absent:
        names = ", ".join(absent[:10])
        raise ModelError(f"{path}: no vector for {names}; omit --word-vectors to use one-hot vectors")
    return np.array(list(vectors.values()), dtype=np.float32)


def _lines_of(path: Path, names: set[str]) -> dict[str, list[float]]:
    """Return the vectors for `names` in the file; the first line determines the vector length."""
    found: dict[str, list[float]] = {}
    size = 0
    check_regular(path, ModelError)
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                size = size or _trailing_numbers(line)
                name, *numbers = line.rstrip().rsplit(" ", size)
                if name.casefold() in names:
                    found[name.casefold()] = _floats(path, name, numbers)
    except OSError as error:
        raise ModelError(f"{path}: cannot read the file ({error.strerror or error}); check the path") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not UTF-8; save the file as UTF-8") from error
    return found


def _floats(path: Path, name: str, texts: Sequence[str]) -> list[float]:
    try:
        numbers = [float(text) for text in texts]
    except ValueError as error:
        raise ModelError(
            f"{path}: '{name}': the vector contains values that are not numbers; correct the values"
        ) from error
    if not np.isfinite(numbers).all():
        raise ModelError(f"{path}: '{name}': the vector contains NaN or infinity; correct the values")
    return numbers


def _trailing_numbers(line: str) -> int:
    """Count the numbers at the end of a line, that is, the vector length.

    The name may have any number of words.
    """
    count = 0
    for text in reversed(line.split()[1:]):
        try:
            float(text)
        except ValueError:
            break
        count += 1
    return count or 1


def _words(label: str) -> list[str]:
    return [word.casefold() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", label)]


def _vector(label: str, found: dict[str, list[float]]) -> list[float] | None:
    if label.casefold() in found:
        return found[label.casefold()]
    parts = _words(label)
    if not parts or any(word not in found for word in parts):
        return None
    mean: list[float] = np.mean([found[word] for word in parts], axis=0).tolist()
    return mean
