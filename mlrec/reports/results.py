"""`Result`: one finished run, or several equal but for the seed, as a table needs it."""

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
from mlrec.datasets.manifest import label_columns
from mlrec.lineage import Lineage
from mlrec.metrics.evaluate import Metrics, evaluate
from mlrec.predictions import Floats
from mlrec.reports.paper.method_names import backbone_name, method_name
from mlrec.reports.settings import METHOD, Settings, settings_of
from mlrec.reports.undefined import undefined_note, without_negative_notes
from mlrec.runs.ancestry import lineage_of, training_of
from mlrec.runs.record import Run, RunRecord, Scored
from mlrec.utils.errors import PredictionsError, printable

_DEFAULTS = {name: field.default for name, field in FIELDS.items()}
METRICS = ("mAP", "CP", "CR", "CF1", "OP", "OR", "OF1")
TOP3 = ("CP", "CR", "CF1", "OP", "OR", "OF1")


@dataclass(frozen=True)
class Result:
    """What was run, on what it was scored, and the numbers.

    Attributes:
        paths: the run folders, one for each seed, and their names.
        rules: the conventions in words.
        backbone: timm's name of the backbone, with the tag of its weights where known.
        values: by column key: mAP CP ... OF1, CP_3 ... OF1_3, as fractions; None is undefined.
        spread: standard deviation of mAP over the seeds, None for one.
        best_epoch: highest mAP of an epoch that was chosen on the scored split, None where nobody looked.
        extra: what the weights were trained on besides ImageNet and this dataset, "" for nothing.
        lineage: Where the starting weights come from.
        train: What it was trained on; None for a model that was trained elsewhere.
        settings: What the numbers depend on besides the method, see `settings.settings_of`.
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
    lineage: Lineage
    train: Scored | None
    settings: Settings
    spread: float | None = None
    best_epoch: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """Name of the head."""
        return str(self.config.get("head", ""))

    @property
    def heads(self) -> int | None:
        """H of a CSRA head, else None."""
        return heads_of(self.config)

    @property
    def lam(self) -> float | None:
        """λ of a CSRA head, else None."""
        return self.config.get("lam") if self.head == "csra" else None

    @property
    def run(self) -> str:
        """The run folder's name, or the first and how the last of several ends."""
        if len(self.names) == 1:
            return self.names[0]
        shared = os.path.commonprefix(self.names)  # noqa: RUF071 - characters are what is wanted
        return f"{self.names[0]} … {self.names[-1][len(shared) :]}"

    @property
    def undefined(self) -> str:
        """A note that names the labels without AP; empty if there are none."""
        labels = [label for label, value in self.average_precision.items() if value is None]
        return f"{self.dataset} {self.split}: {undefined_note(labels, len(self.labels))}" if labels else ""

    @property
    def called(self) -> str:
        """A short name for legends and headings: the method with H and λ."""
        facts = [f"{sign} = {value:g}" for sign, value in (("H", self.heads), ("λ", self.lam)) if value is not None]
        return ", ".join([self.method, *facts])

    @property
    def block(self) -> tuple[object, ...]:
        """Results whose blocks are equal may be compared."""
        return (
            self.dataset, self.split, self.samples, self.labels, self.digest, self.conventions,
            self.resolution, self.extra,
        )  # fmt: skip


def heads_of(config: Mapping[str, Any]) -> int | None:
    """The number of heads H of a configuration; None for a head that is not CSRA."""
    if config.get("head") not in ("csra", "spatial"):
        return None
    temperatures = config.get("temperatures")
    return config.get("heads") or (len(temperatures) if temperatures else 1)


def result_of(run: Run, *, conventions: str | None = None, labels: Sequence[str] | None = None) -> Result:
    """A finished run as a `Result`; scored anew from its predictions where conventions or labels are given.

    Raises:
        MlrecError: the run's files cannot be read, or its predictions hold no targets.
    """
    stored = run.metrics()
    if labels is not None or conventions not in (None, stored.conventions.name):
        # the epochs of the training were scored otherwise: their best is no number to set beside these
        return replace(_result(run, rescored(run, conventions or stored.conventions.name, labels)), best_epoch=None)
    return _result(run, stored)


def rescored(run: Run, conventions: str, labels: Sequence[str] | None = None) -> Metrics:
    """The run's stored predictions under other conventions, of all labels or of `labels` alone."""
    logits, targets, names = scores_and_truth(run, labels)
    return evaluate(logits, targets, labels=names, conventions=conventions, scores="logits")


def scores_and_truth(run: Run, labels: Sequence[str] | None = None) -> tuple[Floats, NDArray[np.int8], tuple[str, ...]]:
    """Logits, targets and label names of a run's predictions, of all labels or of `labels` in that order.

    Raises:
        PredictionsError: no targets are stored, or a label is not among the run's.
    """
    predictions = run.predictions()
    if predictions.targets is None:
        raise PredictionsError(f"{printable(run.path)}: its predictions hold no targets; score them with mlrec score")
    if labels is None:
        return predictions.logits, predictions.targets, predictions.labels
    columns = label_columns(predictions.labels, labels, run.path, PredictionsError)
    return predictions.logits[:, columns], predictions.targets[:, columns], tuple(labels)


def over_seeds(results: Iterable[Result]) -> list[Result]:
    """Results equal but for the seed become one: the mean of every metric, the spread of mAP, all names.

    A seed that was run once more makes a row of its own: it is no further draw of a seed.
    """
    methods: dict[object, list[Result]] = {}
    for result in results:
        method, seed = (_method_key(result), result.block), result.config.get("seed")
        again = 0
        while any(other.config.get("seed") == seed for other in methods.get((method, again), ())):
            again += 1
        methods.setdefault((method, again), []).append(result)
    return [_mean(seeds) if len(seeds) > 1 else seeds[0] for seeds in methods.values()]


def _method_key(result: Result) -> str:
    method = {key: result.config.get(key) for key in METHOD}
    return repr((sorted(method.items()), sorted(result.settings.items()), result.lineage.sha256, result.timm_name))


def _mean(seeds: Sequence[Result]) -> Result:
    first = seeds[0]
    values = {key: _mean_of([seed.values[key] for seed in seeds]) for key in first.values}
    per_label = {name: _mean_of([seed.average_precision[name] for seed in seeds]) for name in first.average_precision}
    scores = [seed.values["mAP"] for seed in seeds]
    known = [score for score in scores if score is not None]
    best = [seed.best_epoch for seed in seeds]
    return replace(
        first,
        paths=tuple(path for seed in seeds for path in seed.paths),
        names=tuple(name for seed in seeds for name in seed.names),
        values=values,
        average_precision=per_label,
        spread=statistics.stdev(known) if len(known) == len(scores) else None,
        best_epoch=_mean_of(best),
        notes=tuple(dict.fromkeys(note for seed in seeds for note in seed.notes)),
    )


def _mean_of(numbers: Sequence[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return math.fsum(known) / len(known) if len(known) == len(numbers) else None


def _result(run: Run, metrics: Metrics) -> Result:
    record = run.record
    config = _DEFAULTS | record.config  # a run of an earlier version lacks the keys that came since
    lineage = lineage_of(record)
    told = metrics.to_dict()
    values = {key: told[key] for key in METRICS} | {f"{key}_3": told["top3"][key] for key in TOP3}
    scored = record.scored
    return Result(
        paths=(run.path,),
        names=(run.name,),
        config=config,
        dataset=scored.dataset if scored else "unknown data",
        kind=scored.kind if scored else "",
        split=scored.split if scored else "",
        samples=int(told["counts"]["samples"]),
        labels=tuple(told["average_precision"]),
        digest=scored.digest if scored else "",
        conventions=metrics.conventions.name,
        rules=metrics.conventions.in_words(),
        method=method_name(config, cutmix=lineage.is_cutmix),
        backbone=backbone_name(config, cutmix=lineage.is_cutmix),
        timm_name=str(record.model.get("backbone") or record.config.get("backbone", "")),
        resolution=_resolution(record),
        extra=lineage.extra_data(training_of(record.train) if record.train else None),
        values=values,
        average_precision=told["average_precision"],
        lineage=lineage,
        train=record.train,
        settings=settings_of(config, lineage, record.train),
        best_epoch=_best_epoch(record),
        notes=(*record.notes, *_declared(lineage), *without_negative_notes(metrics.counts)),
    )


def _declared(lineage: Lineage) -> list[str]:
    """A note on weights whose origin somebody states and nothing verifies."""
    if lineage.origin != "declared":
        return []
    return [f"weights of {lineage.weights}: origin as declared ({lineage.declared}), not verified"]


def _resolution(record: RunRecord) -> int | None:
    size = record.model.get("input_size", record.config.get("img_size"))
    if isinstance(size, (list, tuple)):
        size = size[-1]
    return int(size) if size is not None else None


def _best_epoch(record: RunRecord) -> float | None:
    best = record.best or {}
    chosen_on_scored = record.scored is not None and best.get("split") == record.scored.split
    return best.get("mAP") if chosen_on_scored else None
