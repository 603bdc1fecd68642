"""`report --format html` and `--plots`, from run folders and images to files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlrec.datasets import dataset as folder
from mlrec.datasets.manifest import Manifest
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord, SplitRecord
from mlrec.utils.errors import RunError
from mlrec.workflows.report.figures import figures, write_figures
from mlrec.workflows.report.page import report_page
from mlrec.workflows.report.report import report
from tests.reports.builders import LABELS, SCORES, TARGETS, logits_of, write_run

LOGITS = logits_of(SCORES)
LOG = (
    '{"event":"epoch","epoch":1,"loss":0.5,"step":1}\n{"event":"scored","epoch":1,"split":"test","mAP":0.5,"step":1}\n'
)


@pytest.fixture
def dataset(tmp_path: Path) -> Manifest:
    """Four images of one colour each, prepared; the second is broken."""
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
    with pytest.raises(RunError, match=r"log\.jsonl: .*not written by mlrec train"):
        figures(*_parts(tmp_path))
    (path / directory.LOG).unlink()
    assert "learning" not in [one.stem for one in figures(*_parts(tmp_path))]
