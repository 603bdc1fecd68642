"""Metrics and settings of a run, or of multiple runs that differ only in the seed."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlrec.config import FIELDS
from mlrec.lineage import Lineage
from mlrec.metrics.evaluate import evaluate
from mlrec.metrics.summary import Metrics
from mlrec.predictions import Floats
from mlrec.reports.paper.method_names import backbone_name, method_name
from mlrec.reports.settings import METHOD, Settings, settings_of
from mlrec.run_folders.record import Run, RunRecord, SplitRecord, lineage_of
from mlrec.utils.errors import PredictionsError, counted, first_of
from mlrec.utils.names import label_columns

_DEFAULTS = {name: field.default for name, field in FIELDS.items()}
METRICS = ("mAP", "CP", "CR", "CF1", "OP", "OR", "OF1")
TOP3 = ("CP", "CR", "CF1", "OP", "OR", "OF1")


@dataclass(frozen=True)
class Result:
    """Metrics, evaluation data and settings of a method.

    For multiple runs (seeds), metrics are means over the runs, and a mean is undefined if the metric of one run is
    undefined. Settings are those of the first run.

    Attributes:
        paths: Run folders, one per seed.
        names: Names of the runs.
        config: Values of all keys of `Config`.
        dataset, kind, split: Name and kind of the scored dataset, and name of the scored split.
        samples: Number of scored samples.
        labels: Names of the scored labels.
        digest: Hash of the manifest of the scored split.
        conventions: Name of the scoring conventions.
        rules: Text that describes the scoring conventions.
        method: Name of the method as in the paper.
        backbone: Name of the backbone as in the paper.
        timm_name: timm name of the backbone, with the weights tag if it is known.
        resolution: Side length of the square input in pixels; None if unknown.
        extra: Text that lists the training data other than ImageNet and the data of the last training run; "" if there
            are none. Unknown weights are also listed.
        values: Dict from column key (mAP, CP, ..., OF1, CP_3, ..., OF1_3) to metric, as a fraction; None if undefined.
        average_precision: Dict from label to AP, as a fraction; None if undefined.
        label_rates: Precision, recall and F1 of each label; empty for metrics from an earlier version of mlrec.
        support: Number of positive samples of each label; empty for metrics from an earlier version of mlrec.
        lineage: Origin of the initial weights.
        train: Training split; None for a model that mlrec did not train.
        settings: Settings, other than the method, that affect the metrics; see `settings.settings_of`.
        spread: Standard deviation of mAP over the seeds; None for one seed, or if mAP is undefined.
        best_epoch: mAP of the best epoch, if that epoch was chosen on the scored split; otherwise None.
        notes: Footnotes that every table with this result must show.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    config: Mapping[str, Any]
    dataset: str
    kind: str
    split: str
    samples: int
    labels: tuple[str, ...]
    digest: str
    conventions: str
    rules: str
    method: str
    backbone: str
    timm_name: str
    resolution: int | None
    extra: str
    values: Mapping[str, float | None]
    average_precision: Mapping[str, float | None]
    label_rates: Mapping[str, Sequence[float | None]]
    support: Mapping[str, int]
    lineage: Lineage
    train: SplitRecord | None
    settings: Settings
    spread: float | None = None
    best_epoch: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """Name of the classification head."""
        return str(self.config.get("head", ""))

    @property
    def heads(self) -> int | None:
        """Number of heads H if the head is `csra` or `spatial`, otherwise None."""
        return heads_of(self.config)

    @property
    def lam(self) -> float | None:
        """Value of λ if the head is CSRA, otherwise None."""
        if self.head != "csra":
            return None
        return self.config.get("lam")

    @property
    def run(self) -> str:
        """Name of the run. For multiple runs, the first name is followed by the end of the last name."""
        if len(self.names) == 1:
            return self.names[0]
        shared = os.path.commonprefix(self.names)  # noqa: RUF071 - compares characters, not path components
        return f"{self.names[0]} … {self.names[-1][len(shared) :]}"

    @property
    def undefined(self) -> str:
        """Footnote that lists the labels whose AP is undefined; empty if there are none."""
        labels = [label for label, value in self.average_precision.items() if value is None]
        if not labels:
            return ""
        return f"{self.dataset} {self.split}: {undefined_note(labels, len(self.labels))}"

    @property
    def called(self) -> str:
        """Short name for legends and headings: the method, H and λ."""
        facts = [f"{sign} = {value:g}" for sign, value in (("H", self.heads), ("λ", self.lam)) if value is not None]
        return ", ".join([self.method, *facts])

    @property
    def block(self) -> tuple[object, ...]:
        """Grouping key; two results are comparable if they have the same key."""
        scored_on = (self.dataset, self.split, self.samples, self.labels, self.digest)
        return (*scored_on, self.conventions, self.resolution, self.extra)


def heads_of(config: Mapping[str, Any]) -> int | None:
    """Return the number of heads H in a configuration, or None if the head is not `csra` or `spatial`.

    Args:
        config: Values of the configuration keys of a run.

    Example:
        >>> heads_of({"head": "csra", "temperatures": [1.0, 2.0]})
        2
    """
    if config.get("head") not in ("csra", "spatial"):
        return None
    if config.get("heads"):
        return int(config["heads"])
    return len(config.get("temperatures") or [1.0])


def result_of(run: Run, *, conventions: str | None = None, labels: Sequence[str] | None = None) -> Result:
    """Return the `Result` of a finished run.

    The stored metrics are used if `labels` is None and the conventions are those of the stored metrics. Otherwise, the
    stored predictions are scored again.

    Args:
        run: Finished run.
        conventions: Name of the conventions; by default, those of the stored metrics.
        labels: Labels to score; by default, the labels of the stored metrics.

    Raises:
        MlrecError: Files of the run cannot be read, or the predictions have no targets.
    """
    stored = run.metrics()
    if labels is None and conventions in (None, stored.conventions.name):
        return _result(run, stored)
    # the epochs of the training were scored in other conventions, so their best mAP is not comparable
    return replace(_result(run, rescored(run, conventions or stored.conventions.name, labels)), best_epoch=None)


def rescored(run: Run, conventions: str, labels: Sequence[str] | None = None) -> Metrics:
    """Score the stored predictions of a run again.

    Args:
        run: Run with predictions.
        conventions: Name of the conventions.
        labels: Labels to score; by default, all labels.
    """
    logits, targets, names = scores_and_truth(run, labels)
    return evaluate(logits, targets, labels=names, conventions=conventions, scores="logits")


def scores_and_truth(run: Run, labels: Sequence[str] | None = None) -> tuple[Floats, NDArray[np.int8], tuple[str, ...]]:
    """Return the logits (N, C), the targets (N, C) and the label names from the predictions of a run.

    Args:
        run: Run with predictions.
        labels: Labels in the order of the columns; by default, all labels.

    Raises:
        PredictionsError: No targets are stored, or the run lacks one of the labels.
    """
    predictions = run.predictions()
    if predictions.targets is None:
        raise PredictionsError(f"{run.path}: the predictions have no targets; run mlrec score PREDICTIONS TRUTH")
    if labels is None:
        return predictions.logits, predictions.targets, predictions.labels
    columns = label_columns(predictions.labels, labels, run.path, PredictionsError)
    return predictions.logits[:, columns], predictions.targets[:, columns], tuple(labels)


def over_seeds(results: Iterable[Result]) -> list[Result]:
    """Combine results that differ only in the seed into one result with mean metrics.

    The combined result also contains the standard deviation of mAP. Runs with the same seed are never combined with
    each other.
    """
    methods: dict[object, list[Result]] = {}
    for result in results:
        method, seed = (_method_key(result), result.block), result.config.get("seed")
        again = 0
        while any(other.config.get("seed") == seed for other in methods.get((method, again), ())):
            again += 1
        methods.setdefault((method, again), []).append(result)
    return [_mean_result(seeds) for seeds in methods.values()]


def _method_key(result: Result) -> str:
    method = {key: result.config.get(key) for key in METHOD}
    return repr((sorted(method.items()), sorted(result.settings.items()), result.lineage.sha256, result.timm_name))


def _mean_result(seeds: Sequence[Result]) -> Result:
    """Return the mean of results over multiple seeds; a single result is returned unchanged."""
    first = seeds[0]
    if len(seeds) == 1:
        return first
    values = {key: mean_of([seed.values[key] for seed in seeds]) for key in first.values}
    average_precision = {
        name: mean_of([seed.average_precision[name] for seed in seeds]) for name in first.average_precision
    }
    label_rates = {}
    for name in first.label_rates:
        known = [seed.label_rates.get(name, (None, None, None)) for seed in seeds]
        label_rates[name] = [mean_of(rates) for rates in zip(*known, strict=True)]
    return replace(
        first,
        paths=tuple(path for seed in seeds for path in seed.paths),
        names=tuple(name for seed in seeds for name in seed.names),
        values=values,
        average_precision=average_precision,
        label_rates=label_rates,
        spread=deviation_of([seed.values["mAP"] for seed in seeds]),
        best_epoch=mean_of([seed.best_epoch for seed in seeds]),
        notes=tuple(dict.fromkeys(note for seed in seeds for note in seed.notes)),
    )


def mean_of(numbers: Sequence[float | None]) -> float | None:
    """Return the mean of numbers, or None if any number is None or there are no numbers.

    Example:
        >>> mean_of([0.5, 1.0]), mean_of([0.5, None])
        (0.75, None)
    """
    known = [number for number in numbers if number is not None]
    if not known or len(known) < len(numbers):
        return None
    return math.fsum(known) / len(known)


def deviation_of(numbers: Sequence[float | None]) -> float | None:
    """Return the sample standard deviation of numbers, or None if it is undefined.

    The deviation is undefined if any number is None or if there are fewer than two numbers.
    """
    known = [number for number in numbers if number is not None]
    if len(known) < 2 or len(known) < len(numbers):
        return None
    return statistics.stdev(known)


def _result(run: Run, metrics: Metrics) -> Result:
    record = run.record
    config = _DEFAULTS | record.config  # a run of an earlier version lacks keys that were added later
    lineage = lineage_of(record)
    content = metrics.to_dict()
    values = {key: content[key] for key in METRICS} | {f"{key}_3": content["top3"][key] for key in TOP3}
    scored = record.scored or SplitRecord("unknown data", "", "", 0, "")
    return Result(
        paths=(run.path,),
        names=(run.name,),
        config=config,
        dataset=scored.dataset,
        kind=scored.kind,
        split=scored.split,
        samples=int(content["counts"]["samples"]),
        labels=tuple(content["average_precision"]),
        digest=scored.digest,
        conventions=metrics.conventions.name,
        rules=metrics.conventions.in_words(),
        method=method_name(config, cutmix=lineage.is_cutmix),
        backbone=backbone_name(config, cutmix=lineage.is_cutmix),
        timm_name=str(record.model.get("backbone") or record.config.get("backbone", "")),
        resolution=_resolution(record),
        extra=lineage.extra_data(record.train.training() if record.train else None),
        values=values,
        average_precision=metrics.average_precision,
        label_rates={name: (label.precision, label.recall, label.F1) for name, label in metrics.per_label.items()},
        support={name: label.support for name, label in metrics.per_label.items()},
        lineage=lineage,
        train=record.train,
        settings=settings_of(config, lineage, record.train),
        best_epoch=_best_epoch(record),
        notes=(*record.notes, *_declared(lineage), *without_negative_notes(metrics.counts)),
    )


def _declared(lineage: Lineage) -> list[str]:
    """Return a note if the origin of the weights was stated by the user and was not verified."""
    if lineage.origin != "declared":
        return []
    return [f"weights of {lineage.weights}: origin as declared ({lineage.declared}), not verified"]


def _resolution(record: RunRecord) -> int | None:
    size = record.model.get("input_size", record.config.get("img_size"))
    if isinstance(size, (list, tuple)):
        size = size[-1]
    if size is None:
        return None
    return int(size)


def _best_epoch(record: RunRecord) -> float | None:
    """Return the mAP of the best epoch, or None if that epoch was not chosen on the scored split."""
    best = record.best or {}
    if record.scored is None or best.get("split") != record.scored.split:
        return None
    return best.get("mAP")


NAMES_SHOWN = 20  # labels named in a note


def undefined_note(labels: Sequence[str], total: int) -> str:
    """Return a footnote that lists the labels that are not included in mAP.

    Args:
        labels: Labels whose AP is undefined. The footnote names at most 20 of them.
        total: Number of all scored labels.
    """
    names = first_of(labels, NAMES_SHOWN)
    number = f"{len(labels)} of {total}"
    return f"AP is undefined for labels without a known positive or without a known negative ({number}): {names}"


def without_negative_notes(counts: Mapping[str, int]) -> list[str]:
    """Return a footnote about labels without known negatives; an empty list if there are no such labels.

    Args:
        counts: Counts of samples and labels, as in `Metrics.counts`.
    """
    number = counts.get("without_negative", 0)
    if not number:
        return []
    return [f"{counted(number, 'label')} without a known negative: each positive prediction counts as correct"]
