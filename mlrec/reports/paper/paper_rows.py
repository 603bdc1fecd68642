"""Rows of the paper's tables: published results and results of the user's runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlrec.config import resolve_temperatures
from mlrec.lineage import PAPER_TAGS
from mlrec.reports.paper.citations import citation
from mlrec.reports.paper.method_names import CUTMIX, METHODS, temperature_text, variation
from mlrec.reports.paper.published import DATASETS, PublishedRow
from mlrec.reports.results import Result
from mlrec.reports.settings import STAND_IN, compare_with_paper
from mlrec.utils.errors import counted

Source = Literal["paper", "given", "own"]


@dataclass(frozen=True, eq=False)
class PaperRow:
    """Row in one of the paper's tables; rows are comparable only if they have the same `group`.

    Attributes:
        source: "paper" for published rows, "given" for rows from a file of the user, "own" for the user's runs.
        block: Block of the table to which a published row belongs.
        apart: Reason why the row is not comparable with published rows, other than extra training data; "" if there is
            none. The reason is appended to the heading of the group.
        scores: Dict from column key to metric, as a fraction.
        normalize: Whether the classifier is normalized.
        variation: Description of the differences from the paper's CSRA head; see `method_names.variation`.
        extra: Datasets, other than ImageNet and the dataset of the table, on which the weights were trained.
        temperature: Temperature of the attention; "" if there is none, or if the paper does not state it.
        cite: Key of a published row in `citations.bib`.
        baseline_of: Name of the method for which this published row is the baseline.
        inferred: Columns with values that were inferred, because the source does not state them.
        facts: Settings of one of the user's runs. The key "head" contains the head. See `settings.differing_settings`.
        settings: Text that describes the settings of the row, as shown in the table.
    """

    source: Source
    group: str
    method: str
    backbone: str
    resolution: int | None
    scores: Mapping[str, float | None]
    block: str = ""
    apart: str = ""
    head: str = ""
    heads: int | None = None
    lam: float | None = None
    normalize: bool = True
    variation: str = ""
    extra: str = ""
    augmentation: str = ""
    temperature: str = ""
    cite: str = ""
    baseline_of: str = ""
    inferred: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    spread: float | None = None
    best_epoch: float | None = None
    run: str = field(default="")
    kind: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    settings: str = ""

    @property
    def mAP(self) -> float | None:  # noqa: N802
        """Mean AP of the row, as a fraction."""
        return self.scores.get("mAP")


def row_of_published(row: PublishedRow, source: Source, dataset: str, resolution: int) -> PaperRow:
    """Return the `PaperRow` for a published row.

    Args:
        row: Published row.
        source: Source of the row, "paper" or "given".
        dataset: Dataset of the table.
        resolution: Resolution of the table in pixels.
    """
    reasons = []
    if row.larger_input:
        reasons.append("larger input")
    if row.resolution not in (None, resolution):
        reasons.append(f"{row.resolution} px")
    extra = []
    if row.extra_data:
        extra.append(f"extra data {row.extra_data}")
    reasons += extra
    if row.convention and dataset != "voc2012":  # all rows on VOC2012 have the AP of its server
        reasons.append(f"different conventions: {row.convention}")
    apart = ""
    if source == "given":
        apart = _apart(reasons, extra)
    heads = None
    if row.head in ("csra", "spatial") or source == "given":
        heads = row.heads
    return PaperRow(
        source=source,
        group=_group(dataset, resolution, row.block, reasons),
        method=METHODS.get(row.method, row.method),
        backbone=row.backbone,
        resolution=row.resolution,
        scores=row.scores,
        block=row.block,
        apart=apart,
        head=row.head,
        heads=heads,
        lam=row.lam,
        normalize="unnormalised" not in row.method,
        extra=row.extra_data,
        augmentation=row.augmentation,
        temperature=row.temperature,
        cite=citation(row) if source == "paper" else "",
        baseline_of=METHODS.get(row.baseline_of, row.baseline_of),
        inferred=row.inferred,
        notes=(row.note,) if row.note else (),
    )


def row_of_result(result: Result, dataset: str, resolution: int) -> PaperRow:
    """Return the `PaperRow` for one of the user's runs.

    The row is in the same group as published rows only if the run is comparable with them. A comparable run uses the
    paper's recipe (or an equivalent recipe), weights and training split, the resolution of the table and no extra
    training data, and is scored on the whole test set.

    Args:
        result: Result of the run.
        dataset: Dataset of the table.
        resolution: Resolution of the table in pixels.
    """
    notes, settings = list(result.notes), ""
    reasons = reasons_apart(result, dataset)
    if reasons:
        group = _own_group(result, dataset, reasons)
        apart = f" on {group}"
    else:
        recipe, differences = compare_training(result, dataset)
        if differences:
            settings = ", ".join(differences)
        elif recipe not in ("", "paper"):
            settings = f"recipe {recipe}"
        if result.resolution not in (None, resolution):
            reasons.append(f"{result.resolution} px")
        extra = []
        if result.extra:
            extra.append(f"extra data {result.extra}")
        reasons += extra
        if differences:
            reasons.append("settings different from the paper's")
        apart = _apart(reasons, extra)
        group = _group(dataset, resolution, _block(dataset, result), reasons)
        if result.backbone == "ViT-L/16" and result.lineage.tag == PAPER_TAGS[2]:
            notes.append(STAND_IN)
    if result.undefined:
        notes.append(result.undefined)
    return PaperRow(
        source="own",
        group=group,
        method=result.method,
        backbone=result.backbone,
        resolution=result.resolution,
        scores=result.values,
        apart=apart,
        head=result.head,
        heads=result.heads,
        lam=result.lam,
        normalize=result.config.get("normalize") is not False,
        variation=variation(dict(result.config)),
        extra=result.extra,
        augmentation="RandAugment" if result.config.get("randaugment") else "",
        temperature=", ".join(temperature_text(value) for value in _temperatures(result)),
        notes=tuple(notes),
        paths=result.paths,
        spread=result.spread,
        best_epoch=result.best_epoch,
        run=result.run,
        kind=result.kind,
        facts=dict(result.settings) | {"head": result.head},
        settings=settings,
    )


def _temperatures(result: Result) -> Sequence[float]:
    """Return the attention temperatures of a result; empty if the head has no attention or λ = 0."""
    if result.heads is None or (result.head == "csra" and result.lam == 0):
        return ()
    return resolve_temperatures(result.heads, result.config.get("temperatures"))


def compare_training(result: Result, dataset: str) -> tuple[str, list[str]]:
    """Compare the training settings and the training split of a run with those of the paper.

    Args:
        result: Result of the run.
        dataset: Dataset of the published rows.

    Returns:
        Recipe that the run followed ("" if there is none), and one text for each kind of difference from the paper.
    """
    recipe, differences = compare_with_paper(result.config, result.settings, result.lineage, result.kind, result.train)
    full, train = DATASETS[dataset], result.train
    if train is not None and (train.split, train.samples) != (full.train_split, full.train_samples):
        differences.append(f"trained on {train.dataset} {train.split}, {train.samples:,} samples")
    return recipe, differences


def reasons_apart(result: Result, dataset: str) -> list[str]:
    """Describe how the evaluation data of a run differ from the evaluation data of published rows.

    The result is empty if there are no differences.

    Args:
        result: Result of the run.
        dataset: Dataset of the published rows.
    """
    full = DATASETS[dataset]
    if result.kind != full.kind:
        return ["different data"]
    reasons = []
    if result.samples < full.samples:
        reasons.append(f"{result.samples:,} of {full.samples:,} samples in {result.split}")
    elif result.samples > full.samples:
        reasons.append(f"{result.samples:,} samples in {result.split}")
    if len(result.labels) != full.labels:
        reasons.append(f"{len(result.labels)} of {full.labels} labels")
    return reasons


def _apart(reasons: Sequence[str], extra: Sequence[str]) -> str:
    """Return the end of a group heading, which lists all reasons except extra data.

    Extra data are omitted because the paper's tables have a column for them.
    """
    others = [reason for reason in reasons if reason not in extra]
    if not others:
        return ""
    return f", not comparable: {', '.join(others)}"


def _block(dataset: str, result: Result) -> str:
    """Return the block of the paper's table for a result; only tables on COCO have blocks."""
    if dataset != "coco2014":
        return ""
    if result.backbone in ("ResNet-101", CUTMIX):
        return "ResNet-101 based"
    return "other"


def _own_group(result: Result, dataset: str, reasons: list[str]) -> str:
    """Return the heading for the user's runs on data that the paper does not use."""
    facts = [
        f"{result.dataset} {result.split}".strip(),
        counted(result.samples, "sample"),
        counted(len(result.labels), "label"),
        f"{result.resolution} px",
    ]
    group = ", ".join(facts)
    if result.extra:
        group += f" (extra data {result.extra})"
    return f"{group}: not comparable with {DATASETS[dataset].name} ({', '.join(reasons)})"


def _group(dataset: str, resolution: int, block: str, reasons: list[str]) -> str:
    """Return the heading for rows on the paper's data.

    The text in `reasons` states why these rows are not comparable with the main rows of the paper.
    """
    full = DATASETS[dataset]
    parts = [f"{full.name} {full.split}, {full.samples:,} samples, {full.labels} labels, {resolution} px"]
    if block:
        parts.append(block)
    if reasons:
        parts.append(f"not comparable: {', '.join(reasons)}")
    return " · ".join(parts)
