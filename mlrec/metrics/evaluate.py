"""`evaluate`: compute `Metrics` from scores and targets.

All metrics are fractions from 0 to 1, or None if undefined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlrec.datasets.names import duplicates_in
from mlrec.metrics.average_precision import average_precisions
from mlrec.metrics.conventions import THRESHOLDS, Conventions, ScoreKind, clipped, conventions_named, implied_kind
from mlrec.metrics.frames import aligned, as_array
from mlrec.metrics.frequency import FrequencyGroup
from mlrec.metrics.precision_recall import (
    FEW_POSITIVES,
    Counts,
    Threshold,
    count_decisions,
    count_top_k,
    label_rates,
    rates,
    row_blocks,
)
from mlrec.utils.errors import PredictionsError, UsageError, counted
from mlrec.utils.files import read_own_json, write_json

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class LabelMetrics:
    """Precision, recall, F1 and sample counts of one label.

    Rates are fractions, or None if undefined.

    Attributes:
        precision: Precision; 0 if the label is never predicted (as in CP), None if the label is unknown in all samples.
        recall, F1: Recall and F1; None if the label has no known positive (as in CR).
        support: Number of known positives.
        negatives, unknown: Number of samples annotated as negative, and number of samples whose target is unknown.
        predicted: Number of samples predicted positive. The conventions define whether unknown samples count.
        threshold: Minimum score of a predicted label; None if it is infinite (the label is always or never predicted).
        few_positives: Whether the support is below 30. With so few positives, metrics depend strongly on the choice of
            test images.
    """

    precision: float | None
    recall: float | None
    F1: float | None
    support: int
    negatives: int
    unknown: int
    predicted: int
    threshold: float | None
    few_positives: bool


@dataclass(frozen=True)
class Rates:
    """Precision, recall and F1 of the predicted labels.

    CP, CR and CF1 are averages over labels. OP, OR and OF1 are computed over all sample-label pairs.
    """

    CP: float | None
    CR: float | None
    CF1: float | None
    OP: float | None
    OR: float | None
    OF1: float | None


@dataclass(frozen=True)
class TopRates(Rates):
    """Precision, recall and F1 when the K highest-scoring labels of each sample are predicted.

    Attributes:
        F1: F1@K as reported for NUS-WIDE: F1 over all sample-label pairs when K labels are predicted for every sample,
            without a threshold.
    """

    F1: float | None


@dataclass(frozen=True)
class Metrics:
    """Metrics of scored samples and their conventions.

    All metrics are fractions from 0 to 1, or None if undefined.

    Attributes:
        mAP: Mean AP over the labels that have a known positive and a known negative.
        CP, CR, CF1, OP, OR, OF1: Precision, recall and F1 of the labels at or above the threshold.
        top3: CP, CR, CF1, OP, OR and OF1 for the three highest-scoring labels of each sample.
        average_precision: AP of each label; None for a label without a known positive or without a known negative.
        counts: Counts by name: `samples`, `labels`, `positives` and `unknown` (sample-label pairs), and `undefined`
            (labels without AP). `without_negative` (labels whose known targets are all positive) is included only if it
            is above 0.
        conventions: Scoring conventions that were used.
        per_label: Precision, recall, F1 and support of each label; empty in files of earlier versions.
        by_frequency: mAP of frequent, medium and rare labels; empty if the training split is not known.
        top: Precision, recall and F1@K of the K highest-scoring labels. The key is K; only the requested K is included.

    Example:
        >>> metrics = evaluate([[2.0, -1.0], [-3.0, 0.5]], [[1, 0], [0, 1]], labels=["cat", "dog"])
        >>> metrics.mAP, metrics.average_precision, metrics.counts["samples"]
        (1.0, {'cat': 1.0, 'dog': 1.0}, 2)
    """

    mAP: float | None
    CP: float | None
    CR: float | None
    CF1: float | None
    OP: float | None
    OR: float | None
    OF1: float | None
    top3: Rates
    average_precision: dict[str, float | None]
    counts: dict[str, int]
    conventions: Conventions
    per_label: dict[str, LabelMetrics] = field(default_factory=dict)
    by_frequency: dict[str, FrequencyGroup] = field(default_factory=dict)
    top: dict[int, TopRates] = field(default_factory=dict)

    @property
    def undefined(self) -> list[str]:
        """Labels without AP, because they have no known positive or no known negative."""
        return [label for label, value in self.average_precision.items() if value is None]

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `metrics.json`, which `score --json` also prints."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return content

    def to_frame(self) -> DataFrame:
        """Return one row per label, as in `per_label.csv`.

        The columns are `AP`, `precision`, `recall`, `F1`, `support` (known positives), `negatives`, `unknown`,
        `predicted`, `threshold` and `few_positives` (support below 30). Undefined values are NaN.

        Example:
            >>> metrics = evaluate([[2.0, -1.0], [-3.0, 0.5]], [[1, 0], [0, 1]], labels=["cat", "dog"])
            >>> metrics.to_frame()["support"].to_dict()
            {'cat': 1, 'dog': 1}
        """
        from mlrec.metrics.summary import label_frame

        return label_frame(self)

    def flat(self, prefix: str = "", *, per_label: bool = False) -> dict[str, float]:
        """Return all metrics as floats by name, for trackers and `log_dict`; undefined metrics are NaN.

        Args:
            prefix: Prefix of each name, such as "val/".
            per_label: Whether to add the AP of each label as `AP/<label>`.

        Example:
            >>> evaluate([[2.0], [-3.0]], [[1], [0]], labels=["cat"]).flat("val/", per_label=True)["val/AP/cat"]
            1.0
        """
        from mlrec.metrics.summary import flat

        return flat(self, prefix, per_label=per_label)

    def __str__(self) -> str:
        from mlrec.metrics.summary import text

        return text(self)

    def _repr_html_(self) -> str:
        from mlrec.metrics.summary import html

        return html(self)

    def save(self, path: Path | str) -> None:
        """Write `metrics.json`."""
        write_json(Path(path), self.to_dict())

    @classmethod
    def load(cls, path: Path | str) -> Metrics:
        """Read `metrics.json`.

        Raises:
            PredictionsError: The file is not a metrics file; the message states the fault.
        """
        return read_own_json(Path(path), cls, PredictionsError, "not a metrics file")


def evaluate(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
    conventions: str | Conventions = "mlrec",
    scores: ScoreKind | None = None,
    threshold: Threshold | None = None,
    sample_ids: Sequence[str] | None = None,
    top: int | None = None,
) -> Metrics:
    """Score logits or probabilities against the ground truth.

    The order of the rows does not change the result, not even in the last bit.

    Args:
        logits: (N, C) finite logits or probabilities: a list, an array, a tensor on any device, or a data frame. Scores
            are compared in their own float type. Two data frames are matched by column and index; rows of arrays are
            not reordered.
        targets: (N, C) array or data frame of 1 (positive), 0 (negative) or -1 (unknown).
        labels: C unique names. Default: the column names of a data frame, otherwise "0", "1", ...
        conventions: Name in `CONVENTIONS`, or a `Conventions` object.
        scores: Kind of the scores, "logits" or "probabilities". It can be omitted only if a value is negative, because
            the scores are then logits.
        threshold: Minimum score of a predicted label, on the scale of the scores: one number, or a (C,) array with one
            number per label. Default: 0 for logits, 0.5 for probabilities.
        sample_ids: N names of the rows, used in error messages. Default: the index of a data frame.
        top: K, from 1 to C. If set, precision, recall and F1 are also computed for the K highest-scoring labels of each
            sample as predictions.

    Returns:
        `Metrics` object; its values are fractions, or None if undefined.

    Raises:
        PredictionsError: Shapes or names differ, a score is NaN or infinite, a target is not 1, 0 or -1, the kind of
            the scores is unclear, or a probability is outside [0, 1] by more than 1e-4. Smaller rounding errors are
            clipped.
        UsageError: There are no conventions with that name, or `top` is not from 1 to C.

    Example:
        >>> evaluate([[2.0, -1.0], [-3.0, 0.5]], [[1, 0], [0, 1]]).OF1
        1.0
        >>> evaluate([[2.0, 1.0], [3.0, 0.5]], [[1, 0], [0, 1]], scores="logits", top=1).top[1].F1
        0.5
        >>> evaluate([[0.9, 0.2], [0.1, 0.6]], [[1, 0], [0, 1]], scores="probabilities", threshold=0.7).OR
        0.5
    """
    values, truth, names, index = aligned(logits, targets, labels)
    if sample_ids is None:
        sample_ids = index
    ranked, known = checked(values, truth, names, sample_ids)
    kind = _kind(as_array(values).dtype.kind, ranked, scores)
    if kind == "probabilities":  # rounding errors only; anything larger is an error
        ranked, _ = clipped(ranked)
    rules = replace(conventions_named(conventions), scores=kind)
    cut: Threshold = THRESHOLDS[kind]
    if threshold is not None:
        cut = _threshold(threshold, kind, ranked.shape[1])
        rules = replace(rules, threshold=_threshold_in_words(cut, kind))
    return evaluate_scores(
        ranked, known, threshold=cut, labels=names, conventions=rules, sample_ids=sample_ids, top=top
    )


def _kind(dtype: str, values: NDArray[np.floating[Any]], stated: ScoreKind | None) -> ScoreKind:
    """Return the kind of the scores as stated, or as determined by the values."""
    if stated is not None and stated not in THRESHOLDS:
        raise UsageError(f"scores must be 'logits' or 'probabilities', got '{stated}'")
    if dtype == "b" and stated == "logits":
        raise PredictionsError("boolean scores are decisions, not logits; pass scores='probabilities'")
    if stated is not None:
        return stated
    if values.size == 0:
        return "logits"
    kind = implied_kind(values)
    if kind is None:
        raise PredictionsError(
            "all scores are in [0, 1] and may be probabilities or logits; pass scores='probabilities' or "
            "scores='logits'"
        )
    return kind


def _threshold(threshold: Threshold, kind: ScoreKind, labels: int) -> Threshold:
    cut = np.asarray(threshold, dtype=np.float64)
    if cut.shape not in ((), (labels,)) or np.isnan(cut).any():
        raise PredictionsError(
            f"threshold has shape {cut.shape}; expected one number, or shape ({labels},) with one threshold per label"
        )
    if kind == "probabilities" and ((cut < 0) | (np.isfinite(cut) & (cut > 1))).any():
        outside = cut[(cut < 0) | (np.isfinite(cut) & (cut > 1))].flat[0]
        raise PredictionsError(f"threshold {outside:g} is outside [0, 1]; pass probability thresholds")
    return float(cut) if cut.ndim == 0 else cut


def _threshold_in_words(cut: Threshold, kind: ScoreKind) -> str:
    score = {"probabilities": "p", "logits": "logit"}[kind]
    if isinstance(cut, float):
        return f"{score} >= {cut:g}"
    return f"{score} >= the label's own threshold"


def evaluate_scores(
    scores: ArrayLike,
    targets: ArrayLike,
    *,
    threshold: Threshold,
    labels: Sequence[str] | None = None,
    conventions: str | Conventions = "mlrec",
    sample_ids: Sequence[str] | None = None,
    top: int | None = None,
) -> Metrics:
    """Evaluate arrays of scores on any scale, see `evaluate`.

    Args:
        scores: (N, C) finite scores on any scale; used for ranking without conversion.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown).
        threshold: Minimum score of a predicted label: one number, or a (C,) array with one number per label.
        labels: C unique names. By default "0", "1", ...
        conventions: Name in `CONVENTIONS`, or a `Conventions` object.
        sample_ids: N names of the rows for error messages.
        top: See `evaluate`.

    Raises:
        PredictionsError: See `evaluate`.
    """
    rules = conventions_named(conventions)
    ranked, truth = checked(scores, targets, labels, sample_ids)
    check_top(top, truth.shape[1])
    if labels is None:
        labels = [str(k) for k in range(truth.shape[1])]
    names = list(labels)
    precisions = [_number(value) for value in average_precisions(ranked, truth, rules)]
    defined = [value for value in precisions if value is not None]
    mAP = None
    if defined:
        mAP = math.fsum(defined) / len(defined)
    counts, of_top = count_decisions(ranked, truth, threshold, rules)
    above: dict[str, Any] = {name: _number(value) for name, value in rates(counts, rules).items()}
    top3 = rates(of_top, rules)
    return Metrics(
        mAP=mAP,
        **above,
        top3=Rates(**{name: _number(value) for name, value in top3.items()}),
        average_precision=dict(zip(names, precisions, strict=True)),
        counts={
            "samples": truth.shape[0],
            "labels": truth.shape[1],
            "positives": int(_counts(truth, 1).sum()),
            "unknown": int(_counts(truth, -1).sum()),
            "undefined": len(names) - len(defined),
            **_without_negative(truth),
        },
        conventions=rules,
        per_label=dict(zip(names, _label_metrics(counts, truth, threshold), strict=True)),
        top={} if top is None else {top: _top_rates(ranked, truth, threshold, rules, top)},
    )


def check_top(top: int | None, labels: int) -> None:
    """Check that K, the number of predicted labels per sample, is valid.

    Raises:
        UsageError: K is below 1 or above the number of labels.
    """
    if top is not None and not 1 <= top <= labels:
        raise UsageError(f"top must be from 1 to {labels} (the number of scored labels), got {top}")


def _top_rates(
    scores: NDArray[np.floating[Any]], truth: NDArray[np.int8], threshold: Threshold, rules: Conventions, k: int
) -> TopRates:
    """Return the rates for the K highest-scoring labels under the conventions, and F1@K.

    F1@K has no threshold.
    """
    values = rates(count_top_k(scores, truth, threshold, rules, k), rules)
    every = replace(rules, top_k="all", phantom=False)
    F1 = rates(count_top_k(scores, truth, threshold, every, k), every)["OF1"]
    return TopRates(**{name: _number(value) for name, value in values.items()}, F1=_number(F1))


def _label_metrics(counts: Counts, truth: NDArray[np.int8], threshold: Threshold) -> list[LabelMetrics]:
    precision, recall, F1 = label_rates(counts)
    support, negatives, unknown = (np.count_nonzero(truth == value, axis=0) for value in (1, 0, -1))
    cuts = np.broadcast_to(np.float64(threshold), support.shape)
    cuts = np.where(np.isinf(cuts), np.nan, cuts)
    return [
        LabelMetrics(
            precision=_number(precision[k]),
            recall=_number(recall[k]),
            F1=_number(F1[k]),
            support=int(support[k]),
            negatives=int(negatives[k]),
            unknown=int(unknown[k]),
            predicted=int(counts.predicted[k]),
            threshold=_number(cuts[k]),
            few_positives=bool(support[k] < FEW_POSITIVES),
        )
        for k in range(len(support))
    ]


def checked(
    scores: ArrayLike, targets: ArrayLike, labels: Sequence[str] | None = None, sample_ids: Sequence[str] | None = None
) -> tuple[NDArray[np.floating[Any]], NDArray[np.int8]]:
    """Convert scores and targets to arrays, and check them.

    Raises:
        PredictionsError: See `evaluate`.
    """
    ranked, truth = _array(scores, "logits"), _array(targets, "targets")
    if ranked.dtype.kind in "biu":
        ranked = ranked.astype(np.float64)
    if ranked.ndim != 2 or ranked.dtype.kind != "f" or not ranked.shape[1]:
        raise PredictionsError(
            f"logits have shape {ranked.shape} and dtype {ranked.dtype}, expected floats of shape (N, C)"
        )
    if truth.shape != ranked.shape:
        raise PredictionsError(
            f"targets have shape {truth.shape}, but logits have shape {ranked.shape}; pass one target per logit"
        )
    if labels is not None:
        if len(labels) != ranked.shape[1]:
            raise PredictionsError(
                f"{counted(len(labels), 'label name')} for {counted(ranked.shape[1], 'logit column')}"
            )
        if twice := duplicates_in(labels):
            raise PredictionsError(f"label '{twice[0]}' is listed twice; keep one")
    if not all(np.isfinite(ranked[rows]).all() for rows in row_blocks(ranked.shape)):
        raise PredictionsError(_not_finite(ranked, labels, sample_ids))
    blocks = row_blocks(truth.shape)
    if truth.dtype.kind not in "biuf" or not all(np.isin(truth[rows], (1, 0, -1)).all() for rows in blocks):
        raise PredictionsError("targets contain invalid values; use 1 (positive), 0 (negative) or -1 (unknown)")
    return ranked, truth.astype(np.int8, copy=False)


def undefined_labels(targets: NDArray[np.int8], labels: Sequence[str]) -> list[str]:
    """Explain which labels have no AP, and why, in one sentence per reason.

    Args:
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown).
        labels: C names.

    Example:
        >>> undefined_labels(np.array([[1, 0], [0, 0]]), ["cat", "dog"])
        ['no AP for 1 of 2 labels (no known positive): dog']
    """
    positive, negative = _counts(targets, 1) > 0, _counts(targets, 0) > 0
    reasons = {
        "unknown in every sample": ~positive & ~negative,
        "no known positive": ~positive & negative,
        "no known negative; precision is 1 wherever these labels are predicted": positive & ~negative,
    }
    return [
        f"no AP for {int(flags.sum())} of {counted(len(labels), 'label')} ({reason}): "
        + ", ".join(label for label, flag in zip(labels, flags, strict=True) if flag)
        for reason, flags in reasons.items()
        if flags.any()
    ]


def _without_negative(targets: NDArray[np.int8]) -> dict[str, int]:
    """Return the number of labels whose known samples are all positive, if any."""
    number = int(np.count_nonzero((_counts(targets, 1) > 0) & (_counts(targets, 0) == 0)))
    if number == 0:
        return {}
    return {"without_negative": number}


def _counts(targets: NDArray[np.int8], value: int) -> NDArray[np.int64]:
    """Return the number of samples of each label with this value."""
    counts = np.zeros(targets.shape[1], dtype=np.int64)
    for rows in row_blocks(targets.shape):
        counts += np.count_nonzero(targets[rows] == value, axis=0)
    return counts


def _array(values: ArrayLike, what: str) -> NDArray[Any]:
    try:
        return as_array(values)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists, sparse tensors
        raise PredictionsError(
            f"{what} cannot be converted to a numeric array ({error}); pass rows of equal length"
        ) from error


def _not_finite(scores: NDArray[Any], labels: Sequence[str] | None, sample_ids: Sequence[str] | None) -> str:
    bad = np.argwhere(~np.isfinite(scores))
    row, column = bad[0].tolist()
    sample = f"sample '{sample_ids[row]}'" if sample_ids is not None else f"sample {row}"
    label = f"label '{labels[column]}'" if labels is not None else f"label {column}"
    kind = "NaN" if np.isnan(scores[row, column]) else "infinite"
    if len(bad) == 1:
        return f"1 {kind} score: {sample}, {label}; scores must be finite numbers"
    return f"{len(bad)} NaN or infinite scores; the first is {kind} ({sample}, {label}); scores must be finite numbers"


def _number(value: NDArray[np.float64]) -> float | None:
    """Return a number from an array; None for NaN, which means undefined."""
    return None if np.isnan(value) else float(value)
