"""`report --format html` and `--plots`, from run folders and images to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score

from mlrec.datasets import dataset as folder
from mlrec.datasets.manifest import Manifest
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord, SplitRecord
from mlrec.utils.errors import RunError
from mlrec.workflows.report.figures import figures, write_figures
from mlrec.workflows.report.page import report_page, summary, title
from mlrec.workflows.report.report import report
from tests.reports.builders import LABELS, SCORES, TARGETS, logits_of, write_run

LOGITS = logits_of(SCORES)
LOG = (
    '{"event":"epoch","epoch":1,"loss":0.5,"step":1}\n{"event":"scored","epoch":1,"split":"test","mAP":0.5,"step":1}\n'
)


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """Four images of one color each, prepared; the second is broken."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for k in range(4):
        Image.new("RGB", (400, 300), (60 * k, 0, 0)).save(photographs / f"{k:06d}.jpg")
    (photographs / "000001.jpg").write_bytes(b"no image")
    manifest = Manifest(
        "toy", "test", photographs, LABELS, tuple(f"{k:06d}.jpg" for k in range(4)), np.array(TARGETS, dtype=np.int8)
    )
    info = folder.Info(name="toy", source={"kind": "csv"}, recipe="paper", labels=list(LABELS), splits={"test": 4})
    (tmp_path / "data" / "toy").mkdir(parents=True)
    folder.write(tmp_path / "data" / "toy", info, [manifest])
    return manifest


def run_on(tmp_path: Path, name: str, digest: str, **options) -> Path:
    path = write_run(tmp_path / "runs", name, logits=options.pop("logits", LOGITS), digest=digest, log=LOG, **options)
    record = RunRecord.load(path)
    scored = SplitRecord("toy", "csv", "test", 4, digest, str(tmp_path / "data" / "toy"))
    RunRecord(**{f: getattr(record, f) for f in record.__struct_fields__} | {"scored": scored}).save(path)
    return path


def test_the_page_shows_tables_figures_images_and_settings(tmp_path, dataset):
    run_on(tmp_path, "csra", dataset.digest, logits=-3 * LOGITS, command=["mlrec", "train", "<b>"])
    run_on(tmp_path, "base", dataset.digest, config={"head": "average"}, logits=-4 * LOGITS)
    text = report_page(report(root=tmp_path / "runs"))
    assert text.count("data:image/jpeg;base64,") >= 3, "thumbnails of the images that can be read"
    assert "image not available" in text, "the broken one is no reason to fail"
    for part in ("Finished runs", "AP by label: toy test", "Hardest images of", "Annotations to review", "lam"):
        assert part in text
    assert text.count("data:image/svg+xml;base64,") == len(figures(*_parts(tmp_path)))
    assert "mlrec train &lt;b&gt;" in text


def _parts(tmp_path: Path):
    made = report(root=tmp_path / "runs")
    return made.runs, made.rows


def test_images_of_changed_or_missing_data_are_not_shown(tmp_path, dataset):
    paths = [run_on(tmp_path, "old", "another digest"), write_run(tmp_path / "runs", "nowhere", dataset="elsewhere")]
    for path in paths:
        text = report_page(report([path]))
        assert "data:image/jpeg" not in text
        assert "image not available" in text


def test_all_figures_of_the_runs_are_written(tmp_path, dataset):
    for k, lam in enumerate((0.0, 0.1, 0.2)):
        run_on(tmp_path, f"l{k}", dataset.digest, config={"lam": lam}, logits=LOGITS + k)
    run_on(tmp_path, "h2", dataset.digest, config={"heads": 2, "lam": 0.1})
    run_on(tmp_path, "base", dataset.digest, config={"head": "average"}, logits=-LOGITS)
    drawn = figures(*_parts(tmp_path))
    assert [one.stem for one in drawn] == [
        "map-lambda", "map-heads", "learning", "precision-recall", "ap-by-label", "cooccurrence",
    ]  # fmt: skip
    paths = write_figures(drawn, tmp_path / "figures")
    assert sorted(path.suffix for path in paths) == [".pdf"] * 6 + [".png"] * 6 + [".svg"] * 6
    assert all(path.stat().st_size > 1000 for path in paths)


def test_a_damaged_log_is_an_error(tmp_path):
    path = write_run(tmp_path / "runs", "one", log='{"event":\n')
    with pytest.raises(RunError, match=r"log\.jsonl: .*not a log written by mlrec train"):
        figures(*_parts(tmp_path))
    (path / directory.LOG).unlink()
    assert "learning" not in [one.stem for one in figures(*_parts(tmp_path))]


def test_title_and_summary_name_data_day_best_method_and_its_gain(tmp_path):
    for seed in (0, 1):
        write_run(tmp_path / "runs", f"csra{seed}", config={"seed": seed}, logits=LOGITS + seed, dataset="voc2007")
        base = {"head": "average", "seed": seed}
        write_run(tmp_path / "runs", f"base{seed}", config=base, logits=-LOGITS, dataset="voc2007")
    made = report(root=tmp_path / "runs")
    assert title(made) == "voc2007 test, 2026-01-01"
    cards = {card.title: card for card in summary(made.rows)}
    by_head = {row.head: row for row in made.rows}
    ours, base = 100 * by_head["csra"].values["mAP"], 100 * by_head["average"].values["mAP"]
    best = cards["highest mAP on voc2007 test"]
    assert best.value == f"{ours:.1f}"
    assert "mean of 2 seeds" in best.detail
    assert cards["gain over average pooling"].value == f"+{ours - base:.1f}"
    assert (cards["samples"].value, cards["samples"].detail) == ("4", "4 labels of voc2007 test")
    assert (cards["runs"].value, cards["runs"].detail) == ("4", "2 settings")


@pytest.mark.parametrize(("labels", "stems"), [(24, [""]), (30, ["-worst", "-best", "-others"])])
def test_curves_of_many_labels_are_the_worst_the_best_and_the_folded_others(tmp_path, labels, stems):
    rng = np.random.default_rng(0)
    targets = (rng.random((80, labels)) < 0.3).astype(np.int8)
    names = tuple(f"l{k:02}" for k in range(labels))
    logits = rng.normal(size=targets.shape) + targets * np.linspace(0, 3, labels)
    write_run(tmp_path / "runs", "one", logits=logits, targets=targets, labels=names)
    drawn = [one for one in figures(*_parts(tmp_path)) if one.stem.startswith("precision-recall")]
    assert [one.stem.removeprefix("precision-recall") for one in drawn] == stems
    assert [one.folded for one in drawn] == [stem == "-others" for stem in stems]
    titles = [[axes.get_title() for axes in one.figure.axes if axes.lines] for one in drawn]
    scored = [average_precision_score(targets[:, k], logits[:, k].astype(np.float32)) for k in range(labels)]
    expected = [names[k] for k in np.argsort(scored)]
    order = titles[0] if labels == 24 else [*titles[0], *titles[2], *titles[1]]
    assert [text.split("\n")[0] for text in order] == expected
