"""`PaperRow`: a row of one of the paper's tables before it is drawn, printed by others or measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlrec.lineage import PAPER_TAGS
from mlrec.reports.paper.method_names import CUTMIX, METHODS, variation
from mlrec.reports.paper.published import DATASETS, PublishedRow
from mlrec.reports.results import Result
from mlrec.reports.settings import STAND_IN, compare_with_paper
from mlrec.utils.errors import counted

Source = Literal["paper", "given", "own"]


@dataclass(frozen=True, eq=False)
class PaperRow:
    """What a row says. Lines of one `group` may be compared with each other, others may not.

    Attributes:
        facts: Settings of an own run, its head under "head"; see `settings.differing_settings`.
        settings: The settings to show, in words.
    """

    source: Source
    group: str
    method: str
    backbone: str
    resolution: int | None
    scores: Mapping[str, float | None]
    head: str = ""
    heads: int | None = None
    lam: float | None = None
    normalize: bool = True
    variation: str = ""
    extra: str = ""
    augmentation: str = ""
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
        """The mAP of the row."""
        return self.scores.get("mAP")


def row_of_published(row: PublishedRow, source: Source, dataset: str, resolution: int) -> PaperRow:
    """A printed row of the table on `dataset` at `resolution` pixels."""
    larger = "larger input" if row.larger_input else ""
    # the server's AP is the convention of all of Table 3
    other = f"other conventions: {row.convention}" if row.convention and dataset != "voc2012" else ""
    pixels = f"{row.resolution} px" if row.resolution not in (None, resolution) else ""
    return PaperRow(
        source=source,
        group=_group(dataset, resolution, row.block, [larger, pixels, _extra(row.extra_data), other]),
        method=METHODS.get(row.method, row.method),
        backbone=row.backbone,
        resolution=row.resolution,
        scores=row.scores,
        head=row.head,
        heads=row.heads if row.head in ("csra", "spatial") or source == "given" else None,
        lam=row.lam,
        normalize="unnormalised" not in row.method,
        extra=row.extra_data,
        augmentation=row.augmentation,
        baseline_of=METHODS.get(row.baseline_of, row.baseline_of),
        inferred=row.inferred,
        notes=(row.note,) if row.note else (),
    )


def row_of_result(result: Result, dataset: str, resolution: int) -> PaperRow:
    """A run of our own, in the printed rows' group only if it was trained and scored as they were.

    That is: by the paper's recipe or one that is declared equivalent, from its weights, on its training split, and
    scored on the whole published test set.
    """
    full = DATASETS[dataset]
    why = reasons_apart(result, dataset)
    extra = _extra(result.extra)
    settings, notes = "", result.notes
    if why:
        here = f"{result.dataset} {result.split}".strip()
        group = (
            f"{here}, {counted(result.samples, 'sample')}, {counted(len(result.labels), 'label')}, "
            f"{result.resolution} px"
        )
        group += f" ({extra})" if extra else ""
        group += f": not comparable with {full.name}, {', '.join(why)}"
    else:
        recipe, differences = compare_training(result, dataset)
        pixels = f"{result.resolution} px" if result.resolution not in (None, resolution) else ""
        other = "other settings than the paper's" if differences else ""
        group = _group(dataset, resolution, _block(dataset, result), [pixels, extra, other])
        settings = ", ".join(differences) or (f"recipe {recipe}" if recipe not in ("", "paper") else "")
        notes += (STAND_IN,) if result.backbone == "ViT-L/16" and result.lineage.tag == PAPER_TAGS[2] else ()
    return PaperRow(
        source="own",
        group=group,
        method=result.method,
        backbone=result.backbone,
        resolution=result.resolution,
        scores=result.values,
        head=result.head,
        heads=result.heads,
        lam=result.lam,
        normalize=result.config.get("normalize") is not False,
        variation=variation(dict(result.config)),
        extra=result.extra,
        augmentation="RandAugment" if result.config.get("randaugment") else "",
        notes=(*notes, result.undefined) if result.undefined else notes,
        paths=result.paths,
        spread=result.spread,
        best_epoch=result.best_epoch,
        run=result.run,
        kind=result.kind,
        facts=dict(result.settings) | {"head": result.head},
        settings=settings,
    )


def compare_training(result: Result, dataset: str) -> tuple[str, list[str]]:
    """The declared recipe that a run followed, and every difference of its training from the paper's; see there."""
    recipe, differences = compare_with_paper(result.config, result.settings, result.lineage, result.kind, result.train)
    full, train = DATASETS[dataset], result.train
    if train is not None and (train.split, train.samples) != (full.train_split, full.train_samples):
        differences.append(f"trained on {train.dataset} {train.split}, {train.samples:,} samples")
    return recipe, differences


def reasons_apart(result: Result, dataset: str) -> list[str]:
    """Why a run must not stand beside published rows of `dataset`; empty if it may."""
    full, number = DATASETS[dataset], result.samples
    if result.kind != full.kind:
        return ["other data"]
    why = []
    if number != full.samples:
        relation = f"{number:,} of {full.samples:,}" if number < full.samples else f"{number:,}"
        why.append(f"{relation} samples of {result.split}")
    if len(result.labels) != full.labels:
        why.append(f"{len(result.labels)} of {full.labels} labels")
    return why


def _block(dataset: str, result: Result) -> str:
    if dataset != "coco2014":
        return ""
    return "ResNet-101 based" if result.backbone in ("ResNet-101", CUTMIX) else "other"


def _extra(data: str) -> str:
    return f"extra data {data}" if data else ""


def _group(dataset: str, resolution: int, block: str, apart: list[str]) -> str:
    full = DATASETS[dataset]
    facts = [f"{full.name} {full.split}, {full.samples:,} samples, {full.labels} labels, {resolution} px", block]
    reasons = [reason for reason in apart if reason]
    return " · ".join(filter(None, facts)) + (f" · set apart: {', '.join(reasons)}" if reasons else "")
