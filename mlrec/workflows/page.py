"""`mlrec report --format html`: a report with its figures, its images worth a look, and what was run."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mlrec.datasets.folder import Dataset
from mlrec.datasets.images import decode, decode_box
from mlrec.datasets.manifest import Manifest
from mlrec.errors import MlrecError
from mlrec.reports import plots
from mlrec.reports.examples import Example, disagreements, hardest
from mlrec.reports.numbers import percent
from mlrec.reports.page import Card, Facts, Gallery, Picture, page
from mlrec.reports.results import Result, scores_and_truth
from mlrec.reports.table import Column, Row, Table
from mlrec.runs.record import Run
from mlrec.workflows.figures import figures
from mlrec.workflows.report import Report

THUMBNAIL = 176  # pixels of the longer side
MOST_CARDS = 80  # a page with more thumbnails grows beyond what a mail takes
MOST_RUNS = 50  # settings of more runs than that are in their folders


def report_page(report: Report, labels: Sequence[str] | None = None) -> str:
    """The page of a report: tables, figures, AP by label, images worth a look, settings and environment."""
    drawn = figures(report.runs, report.rows, labels)
    pictures = [Picture(plots.image(one.figure, "svg"), "image/svg+xml", one.caption) for one in drawn]
    tables = [report.table, *label_tables(report.rows)]
    galleries = _galleries(report, labels)
    return page("mlrec report", tables, pictures, galleries, [_facts(run) for run in report.runs[:MOST_RUNS]])


def label_tables(rows: Sequence[Result]) -> list[Table]:
    """AP of each label, a column a row of the report, one table for each block of comparable rows."""
    blocks: dict[object, list[Result]] = {}
    for row in rows:
        blocks.setdefault(row.block, []).append(row)
    tables = []
    for members in blocks.values():
        columns = [Column("label", "Label", identity=True)]
        shared = Counter(row.called for row in members)
        titles = [row.called if shared[row.called] == 1 else f"{row.called} ({row.run})" for row in members]
        columns += [Column(f"ap{k}", title, "percent") for k, title in enumerate(titles)]
        cells = [Row((label, *(row.average_precision[label] for row in members))) for label in members[0].labels]
        first = members[0]
        note = " · ".join(f"{row.called}: {row.run}" for row in members)
        tables.append(Table(f"AP by label: {first.dataset} {first.split}", tuple(columns), tuple(cells), (note,)))
    return tables


@dataclass(frozen=True)
class _Shown:
    """The best run of a report and its images, where they are at hand."""

    run: Run
    ids: tuple[str, ...]
    manifest: Manifest | None

    def card(self, example: Example) -> Card:
        name = self.ids[example.sample]
        lines = tuple(
            f"{label}: {'labelled' if truth else 'not labelled'}, {percent(probability)} %"
            for label, truth, probability in example.labels
        )
        return Card(name, lines, self._thumbnail(name))

    def _thumbnail(self, name: str) -> Picture | None:
        if self.manifest is None or name not in self.manifest.sample_ids:
            return None
        place = self.manifest.sample_ids.index(name)
        path, boxes = self.manifest.path_of(place), self.manifest.boxes
        try:
            pixels = decode(path) if boxes is None else decode_box(path, boxes[place])
        except (MlrecError, OSError):
            return None
        return Picture(_small(pixels), "image/jpeg")


def _galleries(report: Report, labels: Sequence[str] | None) -> list[Gallery]:
    """The hardest images of the best run, and those in which it disagrees with the annotation."""
    if not report.rows:
        return []
    best = max(report.rows, key=lambda row: row.values["mAP"] or 0.0)
    run = next(run for run in report.runs if run.path == best.paths[0])
    logits, targets, names = scores_and_truth(run, labels)
    shown = _Shown(run, run.predictions().sample_ids, _manifest(run))
    hard = Gallery(
        f"Hardest images of {run.path.name}",
        "The highest mean loss over all labels; the three worst labels of each.",
        tuple(shown.card(example) for example in hardest(logits, targets, names)),
    )
    doubtful = sorted(
        (example for examples in disagreements(logits, targets, names).values() for example in examples),
        key=lambda example: -example.loss,
    )[: MOST_CARDS - len(hard.cards)]
    if not doubtful:
        return [hard]
    why = "A sure model and the annotation disagree: errors of the one or the other, at most four a label."
    return [hard, Gallery("Likely label errors", why, tuple(shown.card(example) for example in doubtful))]


def _manifest(run: Run) -> Manifest | None:
    """The manifest a run was scored on; None where it is gone or has changed since."""
    scored = run.record.scored
    if scored is None or not scored.path:
        return None
    try:
        manifest = Dataset.load(scored.path).manifest(scored.split)
    except MlrecError:
        return None
    return manifest if manifest.digest == scored.digest else None


def _small(pixels: Any) -> bytes:
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _facts(run: Run) -> Facts:
    """What was run, as typed and as it was filled in, and on which machine."""
    record = run.record
    values = {"folder": str(run.path), "command": " ".join(record.command), "finished": record.finished or ""}
    values["recipe"] = record.recipe or ""
    values |= {
        key: f"{value} ({source})" if (source := record.sources.get(key, "default")) != "default" else str(value)
        for key, value in record.config.items()
        if value is not None
    }
    for part, facts in (("model", record.model), ("environment", record.environment), ("seconds", record.seconds)):
        values |= {f"{part}: {key}": str(value) for key, value in facts.items()}
    values |= {f"warning {k}": text for k, text in enumerate(record.warnings, start=1)}
    return Facts(run.path.name, {key: value for key, value in values.items() if value})
