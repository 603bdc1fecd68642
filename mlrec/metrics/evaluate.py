"""`evaluate`: compute `Metrics` from scores and targets.

Scores and targets are arrays, tensors or data frames. Rows and columns of data frames are matched by name, never by
position. All metrics are fractions from 0 to 1, or None if undefined.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlrec.metrics.average_precision import average_precisions
from mlrec.metrics.conventions import (
    THRESHOLDS,
    Conventions,
    ScoreKind,
    check_kind,
    clipped,
    conventions_named,
    implied_kind,
)
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
from mlrec.metrics.summary import LabelMetrics, Metrics, Rates, TopRates
from mlrec.utils.arrays import array_of, as_array
from mlrec.utils.errors import PredictionsError, UsageError, counted, first_of
from mlrec.utils.names import duplicates_in

SHOWN = 3  # names listed in a message


def evaluate(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    labels: Sequence[str] | None = None,
    conventions: str | Conventions = "mlrec",
    scores: ScoreKind | None = None,
    threshold: Threshold | Mapping[str, float] | None = None,
    sample_ids: Sequence[str] | None = None,
    top: int | None = None,
) -> Metrics:
    """Evaluate logits or probabilities against the ground truth.

    The order of the rows does not change the result, not even in the last bit.

    Args:
        logits: (N, C) finite logits or probabilities, as a list, an array, a tensor on any device, or a data frame.
            Scores are compared in their own float type. Two data frames are matched by column and index; rows of arrays
            are not reordered.
        targets: (N, C) array or data frame of 1 (positive), 0 (negative) or -1 (unknown).
        labels: C unique label names. For a data frame, these are its column names in the requested order. Default: the
            column names of a data frame, otherwise "0", "1", ...
        conventions: Name in `CONVENTIONS`, or a `Conventions` object.
        scores: Kind of the scores, "logits" or "probabilities". It can be omitted only if a value is negative, because
            the scores are then logits.
        threshold: Minimum score of a predicted label, on the scale of the scores: one number, or a (C,) array with one
            number per label. A dict or a `pandas.Series` is matched by label. Default: 0 for logits, 0.5 for
            probabilities.
        sample_ids: N names of the rows, used in error messages. Default: the index of a data frame.
        top: K, from 1 to C. If set, precision, recall and F1 are also computed for the K highest-scoring labels of each
            sample; see `TopRates`.

    Returns:
        `Metrics` object; its values are fractions, or None if undefined.

    Raises:
        PredictionsError: Shapes or names differ, a score is NaN or infinite, a target is not 1, 0 or -1, the kind of
            the scores is unclear, a probability is outside [0, 1] by more than 1e-4 (probabilities with smaller
            deviations are clipped), or `threshold` has the wrong shape or names, is NaN, or is outside [0, 1] for
            probabilities (infinity is allowed).
        UsageError: There are no conventions with that name, `scores` is not a kind of scores, or `top` is not an
            integer from 1 to C.

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
        cut = _threshold(threshold, kind, names or [str(k) for k in range(ranked.shape[1])])
        rules = replace(rules, threshold=_threshold_in_words(cut, kind))
    return evaluate_scores(
        ranked, known, threshold=cut, labels=names, conventions=rules, sample_ids=sample_ids, top=top
    )


def _kind(dtype: str, values: NDArray[np.floating[Any]], stated: ScoreKind | None) -> ScoreKind:
    """Return the stated kind of the scores, or infer the kind from the values."""
    check_kind(stated)
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


def _threshold(threshold: Threshold | Mapping[str, float], kind: ScoreKind, labels: Sequence[str]) -> Threshold:
    values: Any = threshold
    if hasattr(values, "keys"):  # a dict or a pandas.Series
        values = _by_label(values, labels)
    try:
        cut = as_array(values).astype(np.float64)
    except (TypeError, ValueError) as error:
        raise PredictionsError(f"threshold is not numeric ({error}); pass numbers") from error
    if cut.shape not in ((), (len(labels),)):
        raise PredictionsError(
            f"threshold has shape {cut.shape}; expected one number, or shape ({len(labels)},) with one threshold per "
            "label"
        )
    if np.isnan(cut).any():
        raise PredictionsError("threshold contains NaN; pass numbers")
    if kind == "probabilities" and ((cut < 0) | (np.isfinite(cut) & (cut > 1))).any():
        outside = cut[(cut < 0) | (np.isfinite(cut) & (cut > 1))].flat[0]
        raise PredictionsError(f"threshold {outside:g} is outside [0, 1]; pass thresholds from 0 to 1")
    return float(cut) if cut.ndim == 0 else cut


def _by_label(thresholds: Mapping[str, float], labels: Sequence[str]) -> Any:
    """Return the thresholds in the order of the labels."""
    by_name = {str(name): thresholds[name] for name in thresholds.keys()}  # noqa: SIM118 - a Series iterates over values
    for one, others, which in ((labels, by_name, "is missing"), (by_name, labels, "has no label of this name")):
        if different := [name for name in one if name not in others]:
            raise PredictionsError(f"threshold '{different[0]}' {which}; pass one threshold for each label name")
    return [by_name[name] for name in labels]


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
    """Evaluate arrays of scores on any scale; see `evaluate`.

    Args:
        scores: (N, C) finite scores on any scale; used for ranking without conversion.
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown).
        threshold: Minimum score of a predicted label: one number, or a (C,) array with one number per label.
        labels: C unique label names. Default: "0", "1", ...
        conventions: Name in `CONVENTIONS`, or a `Conventions` object.
        sample_ids: N names of the rows for error messages.
        top: See `evaluate`.

    Raises:
        PredictionsError: Shapes or numbers of names differ, a label is repeated, a score is NaN or infinite, or a
            target is not 1, 0 or -1.
        UsageError: There are no conventions with that name, or `top` is not an integer from 1 to C.
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
        UsageError: K is not an integer, is below 1, or is above the number of labels.
    """
    if top is not None and not (hasattr(top, "__index__") and 1 <= top <= labels):
        raise UsageError(f"top must be from 1 to {labels} (the number of scored labels), but got {top}")


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
    ranked, truth = array_of(scores, "logits"), array_of(targets, "targets")
    if ranked.dtype.kind in "biu":
        ranked = ranked.astype(np.float64)
    if ranked.ndim != 2 or ranked.dtype.kind != "f" or not ranked.shape[1]:
        raise PredictionsError(
            f"logits have shape {ranked.shape} and dtype {ranked.dtype}; pass floats of shape (N, C)"
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
            raise PredictionsError(f"label '{twice[0]}' is listed twice; remove the duplicate")
    if sample_ids is not None and len(sample_ids) != len(ranked):
        raise PredictionsError(
            f"got {counted(len(sample_ids), 'id')} for {counted(len(ranked), 'sample')}; pass one id per sample"
        )
    if not all(np.isfinite(ranked[rows]).all() for rows in row_blocks(ranked.shape)):
        raise PredictionsError(_not_finite(ranked, labels, sample_ids))
    blocks = row_blocks(truth.shape)
    if truth.dtype.kind not in "biuf" or not all(np.isin(truth[rows], (1, 0, -1)).all() for rows in blocks):
        raise PredictionsError(_not_targets(truth, labels, sample_ids))
    return ranked, truth.astype(np.int8, copy=False)


def undefined_labels(targets: NDArray[np.int8], labels: Sequence[str]) -> list[str]:
    """Explain which labels have no AP, and why, in one sentence per reason.

    Args:
        targets: (N, C) array of 1 (positive), 0 (negative) or -1 (unknown).
        labels: C label names.

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
    """Return a dict with the number of labels whose known targets are all positive; empty if it is 0."""
    number = int(np.count_nonzero((_counts(targets, 1) > 0) & (_counts(targets, 0) == 0)))
    if number == 0:
        return {}
    return {"without_negative": number}


def _counts(targets: NDArray[np.int8], value: int) -> NDArray[np.int64]:
    """Return, for each label, the number of samples whose target is `value`."""
    counts = np.zeros(targets.shape[1], dtype=np.int64)
    for rows in row_blocks(targets.shape):
        counts += np.count_nonzero(targets[rows] == value, axis=0)
    return counts


def _not_finite(scores: NDArray[Any], labels: Sequence[str] | None, sample_ids: Sequence[str] | None) -> str:
    bad = np.argwhere(~np.isfinite(scores))
    row, column = bad[0].tolist()
    place = _place(row, column, labels, sample_ids)
    kind = "NaN" if np.isnan(scores[row, column]) else "infinite"
    if len(bad) == 1:
        return f"1 {kind} score: {place}; scores must be finite numbers"
    return f"{len(bad)} NaN or infinite scores; the first is {kind} ({place}); scores must be finite numbers"


def _not_targets(targets: NDArray[Any], labels: Sequence[str] | None, sample_ids: Sequence[str] | None) -> str:
    row, column = np.argwhere(~np.isin(targets, (1, 0, -1)) | (targets.dtype.kind not in "biuf"))[0].tolist()
    first = f"{targets[row, column]!s} ({_place(row, column, labels, sample_ids)})"
    if targets.dtype.kind not in "biuf":
        first += f", dtype {targets.dtype}"
    return f"targets contain invalid values, first {first}; use 1 (positive), 0 (negative) or -1 (unknown)"


def _place(row: int, column: int, labels: Sequence[str] | None, sample_ids: Sequence[str] | None) -> str:
    sample = f"sample '{sample_ids[row]}'" if sample_ids is not None else f"sample {row}"
    label = f"label '{labels[column]}'" if labels is not None else f"label {column}"
    return f"{sample}, {label}"


def _number(value: NDArray[np.float64]) -> float | None:
    """Convert a metric to a float, or to None if the metric is NaN (undefined)."""
    return None if np.isnan(value) else float(value)


def aligned(
    scores: ArrayLike, targets: ArrayLike, labels: Sequence[str] | None
) -> tuple[ArrayLike, ArrayLike, list[str] | None, list[str] | None]:
    """Reorder scores and targets so that their samples and labels match.

    Two data frames must have the same columns and the same index, in any order. The rows are returned in the order of
    the targets, and the columns in the order of `labels`, or of the targets if `labels` is None. The rows of an array
    must be in the order of the data frame. The columns of an array must be in the order of `labels`, or in the order of
    the data frame if `labels` is None. pandas is imported only if an input is a data frame.

    Args:
        scores: (N, C) array or `pandas.DataFrame`.
        targets: (N, C) array or `pandas.DataFrame`.
        labels: C label names in the requested order. For an array, `labels` contains the names of its columns.

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
    arrays = {what: _columns_array(frame, columns, first.index, what) for what, frame in frames.items()}
    names, samples = [str(name) for name in columns], [str(name) for name in first.index]
    return arrays.get("scores", scores), arrays.get("targets", targets), names, samples


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
            raise PredictionsError(
                f"'{twice[0]}' occurs more than once in the {where} of {what}; remove the duplicates"
            )


def _check_equal(what: str, scored: list[Hashable], true: list[Hashable]) -> None:
    """Raise an error that lists the differences if two sets of names are not equal."""
    known, wanted = set(scored), set(true)
    missing, extra = [x for x in true if x not in known], [x for x in scored if x not in wanted]
    if missing or extra:
        parts = []
        if missing:
            parts.append(f"only in targets: {_named(missing)}")
        if extra:
            parts.append(f"only in scores: {_named(extra)}")
        raise PredictionsError(f"{what} of scores and targets must be the same ({'; '.join(parts)})")


def _columns_of(frame: Any, labels: Sequence[str], what: str) -> list[Hashable]:
    """Return the columns in the order of `labels`, which must be the column names."""
    by_name = {str(name): name for name in frame.columns}
    if sorted(by_name) != sorted(labels):
        missing, extra = [x for x in labels if x not in by_name], [x for x in by_name if x not in labels]
        raise PredictionsError(
            f"labels differ from the columns of {what} (missing: {_named(missing)}; not in labels: {_named(extra)}); "
            "pass the column names as labels"
        )
    return [by_name[name] for name in labels]


def _columns_array(frame: Any, columns: list[Hashable], index: Any, what: str) -> NDArray[Any]:
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
