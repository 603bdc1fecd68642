"""Word vectors of labels from a text file, as GloVe's: one word per line, followed by its numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.utils.errors import ModelError
from mlrec.utils.files import check_regular


def read_vectors(path: Path, labels: Sequence[str]) -> NDArray[np.float32]:
    """Read a vector for each label, (C, V).

    A label of several words that has no line of its own gets the mean of its words' vectors. Case is ignored.

    Raises:
        ModelError: The file cannot be read, a number is invalid, or labels have no vector; names them.
    """
    found = _lines_of(path, {name for label in labels for name in (label.casefold(), *_words(label))})
    lengths = {len(vector) for vector in found.values()}
    if len(lengths) > 1:
        raise ModelError(f"{path}: vectors of {sorted(lengths)} numbers; all must be as long")
    vectors = {label: _vector(label, found) for label in labels}
    absent = [label for label, vector in vectors.items() if vector is None]
    if absent:
        names = ", ".join(absent[:10])
        raise ModelError(f"{path}: no vector for {names}; leave --word-vectors out for one-hot")
    return np.array(list(vectors.values()), dtype=np.float32)


def _lines_of(path: Path, names: set[str]) -> dict[str, list[float]]:
    """Return the vectors of `names` in the file; the first line determines the length of vectors."""
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
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}); check the path") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not UTF-8; save it as UTF-8") from error
    return found


def _floats(path: Path, name: str, texts: Sequence[str]) -> list[float]:
    try:
        numbers = [float(text) for text in texts]
    except ValueError as error:
        raise ModelError(f"{path}: '{name}': not all of its vector are numbers") from error
    if not np.isfinite(numbers).all():
        raise ModelError(f"{path}: '{name}': its vector holds NaN or infinity")
    return numbers


def _trailing_numbers(line: str) -> int:
    """Count the numbers at the end of a line: the length of a vector, after a name of any number of words."""
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
