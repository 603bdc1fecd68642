"""Matching of prediction ids to sample ids.

Two ids match if they are equal, or if one id is an unambiguous path suffix of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mlrec.utils.errors import PredictionsError
from mlrec.utils.texts import first_places, joined


def rows_of(sample_ids: Sequence[str], predicted: Sequence[str], shown: str) -> NDArray[np.intp]:
    r"""Return, for each sample, the position of its prediction.

    The prediction `photos/a.jpg` matches the sample `a.jpg`, and the prediction `a.jpg` matches the sample
    `photos/a.jpg`, if no other sample matches. An exact match is preferred. Both `\` and `/` separate folders.

    Args:
        sample_ids: N ids of the samples.
        predicted: Ids of the predictions.
        shown: Path of the predictions file, used in error messages.

    Returns:
        (N,) array with the position of each sample's prediction in `predicted`.

    Raises:
        PredictionsError: An id matches no sample or multiple samples, or a sample is predicted twice or not at all.

    Example:
        >>> rows_of(["photos/a.jpg", "photos/b.jpg"], ["b.jpg", "a.jpg"], "scores.csv").tolist()
        [1, 0]
    """
    equal = _rows_of_equal(sample_ids, predicted)
    if equal is not None:
        return equal
    index = _Index(sample_ids)
    row_of: dict[str, int] = {}
    unknown = []
    for row, name in enumerate(predicted):
        matches = index.matches(name)
        if len(matches) > 1:
            raise PredictionsError(
                f"{shown}: '{name}' matches multiple samples ('{matches[0]}', '{matches[1]}'); use a longer part "
                "of the path"
            )
        if not matches:
            unknown.append(name)
        elif matches[0] in row_of:
            other = predicted[row_of[matches[0]]]
            raise PredictionsError(
                f"{shown}: '{matches[0]}' is scored twice, as '{other}' and '{name}'; keep only one of them"
            )
        else:
            row_of[matches[0]] = row
    if unknown:
        raise PredictionsError(
            f"{shown}: no matching sample for {len(unknown)} of {len(predicted)} predictions (first: '{unknown[0]}'); "
            "choose the split for which the predictions were made, and use the sample ids of the ground truth "
            f"(first: '{sample_ids[0]}')"
        )
    missing = [sample for sample in sample_ids if sample not in row_of]
    if missing:
        raise PredictionsError(
            f"{shown}: no prediction for {len(missing)} of {len(sample_ids)} samples (first: '{missing[0]}'); "
            "predict the whole split"
        )
    return np.array([row_of[sample] for sample in sample_ids], dtype=np.intp)


def _rows_of_equal(sample_ids: Sequence[str], predicted: Sequence[str]) -> NDArray[np.intp] | None:
    """Return the rows if both sequences have the same unique ids, which is the usual case; otherwise None."""
    if len(sample_ids) != len(predicted):
        return None
    first = first_places(joined([predicted, sample_ids]))
    rows = first[len(predicted) :]
    every = np.arange(len(predicted))
    if (first[: len(predicted)] == every).all() and np.array_equal(np.sort(rows), every):
        return rows
    return None


class _Index:
    """Index of samples by id and by every suffix of the path."""

    def __init__(self, sample_ids: Sequence[str]) -> None:
        self._equal = set(sample_ids)
        self._whole: dict[str, list[str]] = {}
        self._ends: dict[str, list[str]] = {}
        for sample in sample_ids:
            for k, end in enumerate(_ends_of(sample)):
                self._ends.setdefault(end, []).append(sample)
                if k == 0:
                    self._whole.setdefault(end, []).append(sample)

    def matches(self, name: str) -> list[str]:
        """Return the samples that a prediction with this id may belong to."""
        if name in self._equal:
            return [name]
        whole, *shorter = _ends_of(name)
        return [*self._ends.get(whole, ()), *(sample for end in shorter for sample in self._whole.get(end, ()))]


def _ends_of(path: str) -> Iterator[str]:
    """Iterate over the path and its suffixes, longest first: `a/b/c`, `b/c`, `c`."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]
    yield from ("/".join(parts[k:]) for k in range(max(len(parts), 1)))
