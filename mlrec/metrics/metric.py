"""`Metric`: collect scores and targets batch by batch, and evaluate them together."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlrec.metrics.conventions import Conventions, ScoreKind, check_kind, conventions_named
from mlrec.metrics.evaluate import aligned, checked, evaluate
from mlrec.metrics.precision_recall import Threshold
from mlrec.metrics.summary import Metrics
from mlrec.utils.arrays import as_array
from mlrec.utils.errors import PredictionsError, counted


class Metric:
    """Metrics for a validation loop: call `update` with each batch and `compute` at the end.

    The result is bit-identical to that of `evaluate` on all samples, for any order of the batches. AP needs all scores,
    so all scores are kept in CPU memory in their own dtype, with one byte per target. For example, 40,000 samples and
    80 labels in float32 need 16 MB. bfloat16 scores are kept as float32.

    With `ids`, a sample that occurs twice is counted once, with the scores that were added first. Copies that a
    distributed sampler adds to the last batch are therefore ignored. The metrics of all processes can be combined
    exactly with `merge`.

    Args:
        labels: C unique label names. Default: the column names of a data frame, otherwise "0", "1", ...
        conventions: Name in `CONVENTIONS`, or a `Conventions` object.
        scores: Kind of the scores, "logits" or "probabilities". It can be None only if a score is negative.
        threshold: Minimum score of a predicted label: one number, or a (C,) array with one number per label. By
            default, logit 0 or probability 0.5. A dict or a `pandas.Series` is matched by label.
        top: K, from 1 to C. If set, precision, recall and F1 are also computed for the K highest-scoring labels; see
            `evaluate`.

    Raises:
        UsageError: There are no conventions or no kind of scores with that name.

    Example:
        >>> metric = Metric(["cat", "dog"])
        >>> metric.update([[2.0, -1.0]], [[1, 0]])
        >>> metric.update([[-3.0, 0.5]], [[0, 1]])
        >>> metric.compute().mAP
        1.0
    """

    def __init__(
        self,
        labels: Sequence[str] | None = None,
        conventions: str | Conventions = "mlrec",
        *,
        scores: ScoreKind | None = None,
        threshold: Threshold | Mapping[str, float] | None = None,
        top: int | None = None,
    ) -> None:
        self.labels = None if labels is None else list(labels)
        self.conventions = conventions_named(conventions)
        check_kind(scores)
        self.scores = scores
        self.threshold = threshold
        self.top = top
        self.reset()

    def reset(self) -> None:
        """Remove all samples."""
        self._scores: list[NDArray[Any]] = []
        self._targets: list[NDArray[np.int8]] = []
        self._known: dict[Hashable, bytes] = {}  # targets of each sample, by its id, in the order of the rows
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"Metric({counted(len(self), 'sample')}, conventions {self.conventions.name})"

    def update(self, scores: ArrayLike, targets: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Add the scores and targets of a batch.

        Args:
            scores: (B, C) logits or probabilities, as a list, an array, a data frame, or a tensor on any device, with
                or without gradients.
            targets: (B, C) array of 1 (positive), 0 (negative) or -1 (unknown).
            ids: B names or numbers of the samples. A sample that was added before is skipped. By default, all samples
                count. Pass ids with every batch or with none.

        Raises:
            PredictionsError: An input is invalid (see `evaluate`), the number of labels differs from that of earlier
                batches, ids were passed with only some of the batches, or a sample was added before with different
                targets.
        """
        values, truth, names, rows = aligned(scores, targets, self.labels)
        keys = None
        if ids is not None:
            keys = as_array(ids).tolist()
            rows = [str(key) for key in keys]
        ranked, known = checked(values, truth, names, rows)
        if self._scores and self._scores[0].shape[1] != ranked.shape[1]:
            raise PredictionsError(
                f"scores have {counted(ranked.shape[1], 'column')}, but earlier batches had "
                f"{self._scores[0].shape[1]}; pass the same labels in all batches"
            )
        self.labels = names
        # A copy: the caller may write the next batch into the same memory.
        self._add(np.array(as_array(values), order="C"), np.array(known, order="C"), keys)

    def compute(self) -> Metrics:
        """Return the metrics over all added samples.

        Raises:
            PredictionsError: No sample was added, the kind of the scores is unclear, or the threshold is invalid (see
                `evaluate`).
            UsageError: `top` is not an integer from 1 to C.
        """
        if not self._scores:
            raise PredictionsError(
                "no samples were added; call update(scores, targets) with each batch before compute()"
            )
        self._scores = [np.concatenate(self._scores)]
        self._targets = [np.concatenate(self._targets)]
        return evaluate(
            self._scores[0],
            self._targets[0],
            labels=self.labels,
            conventions=self.conventions,
            scores=self.scores,
            threshold=self.threshold,
            top=self.top,
        )

    def merge(self, *others: Metric) -> Metric:
        """Add the samples of other metrics, such as those of other processes, and return this metric.

        Metrics without samples are ignored.

        Raises:
            PredictionsError: The labels, conventions, kind of scores, threshold or `top` differ, only some of the
                metrics have ids, or a sample has different targets.

        Example:
            >>> first, second = Metric(), Metric()
            >>> first.update([[2.0]], [[1]])
            >>> second.update([[-3.0]], [[0]])
            >>> len(first.merge(second))
            2
        """
        for other in others:
            if not len(other):
                continue  # a process without samples may not know the labels
            if self.labels is None and not len(self):
                self.labels = other.labels
            self._check_alike(other)
            keys = list(other._known) or None
            self._add(np.concatenate(other._scores), np.concatenate(other._targets), keys)
        return self

    def _add(self, scores: NDArray[Any], targets: NDArray[np.int8], ids: Sequence[Hashable] | None) -> None:
        if self._size and (ids is None) != (not self._known):
            raise PredictionsError(
                "ids were passed with some batches but not with others; pass ids with all batches or with none"
            )
        if ids is not None:
            if len(ids) != len(scores):
                raise PredictionsError(
                    f"got {counted(len(ids), 'id')} for {counted(len(scores), 'sample')}; pass one id per sample"
                )
            new = [row for row, key in enumerate(ids) if self._is_new(key, targets[row].tobytes())]
            scores, targets = scores[new], targets[new]
        self._scores.append(scores)
        self._targets.append(targets)
        self._size += len(scores)

    def _is_new(self, key: Hashable, targets: bytes) -> bool:
        if key not in self._known:
            self._known[key] = targets
            return True
        if self._known[key] != targets:
            raise PredictionsError(
                f"sample '{key}' was already added with different targets; pass a unique id for each sample"
            )
        return False

    def _check_alike(self, other: Metric) -> None:
        for name in ("labels", "conventions", "scores", "threshold", "top"):
            if not np.array_equal(getattr(self, name), getattr(other, name)):
                raise PredictionsError(
                    f"two metrics have different settings of '{name}'; merge only metrics with the same settings"
                )
