"""`mlrec stats` on small datasets, and its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlrec.datasets import dataset as folder
from mlrec.datasets.dataset import Info
from mlrec.datasets.manifest import Manifest
from mlrec.predictions import Predictions
from mlrec.reports.dataset_statistics import tables
from mlrec.reports.figures.dataset_figure import draw, figure_of
from mlrec.reports.render.terminal import render_text
from mlrec.utils.errors import UsageError
from mlrec.workflows.data.stats import stats

LABELS = ("cat", "do$g", "person")


def dataset(root: Path, *, boxes: bool = False) -> Path:
    rng = np.random.default_rng(0)
    manifests = []
    for split, size in (("train", 60), ("test", 40)):
        targets = (rng.random((size, 3)) < [0.5, 0.3, 0.4]).astype(np.int8)
        targets[:, 0] |= targets[:, 1]  # do$g never occurs without cat
        names = tuple(f"{split}{k}.png" for k in range(size))
        if boxes:
            names = tuple(f"{split}{k // 2}.png" for k in range(size))
        given = np.tile([[0.0, 0, 20, 20], [0, 0, 50, 50], [0, 0, 100, 100], [0, 0, 10, 10]], (size // 4, 1))
        ids = tuple(f"{name}#{k % 2}" for k, name in enumerate(names))
        manifests.append(
            Manifest("pets", split, root, LABELS, names, targets, given if boxes else None, ids if boxes else ())
        )
    path = root / "data/pets"
    path.mkdir(parents=True)
    folder.write(path, Info("pets", {"kind": "csv"}, "paper", list(LABELS), {"train": 60, "test": 40}), manifests)
    return path


def test_notable_statistics_are_reported(tmp_path: Path) -> None:
    for k in range(3):
        Image.new("RGB", (40 + k, 30)).save(tmp_path / f"train{k}.png")
    found = stats(dataset(tmp_path))
    shown = render_text(tables(found))
    assert "do$g never occurs without cat" in shown
    assert "no difference in prevalence (train → test)" in shown
    assert "mAP on test (40 images)" in shown
    assert "if every label has AP 80" in shown
    assert "images: median 41 x 30 pixels, 40 to 42 wide" in shown
    assert "few positives in test" in shown
    content = found.to_dict()
    assert content["splits"][0]["positives"][0] / 60 == content["splits"][0]["prevalence"][0]
    assert content["cooccurrence"][1][0] == content["cooccurrence"][1][1]


def test_persons_count_as_samples_and_boxes_have_sizes(tmp_path: Path) -> None:
    found = stats(dataset(tmp_path, boxes=True))
    assert [(split.images, split.samples) for split in found.splits] == [(30, 60), (20, 40)]
    assert found.object_sizes == {"small": 50, "medium": 25, "large": 25}


def test_predictions_measure_the_power_line(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    test = folder.Dataset.load(path).manifest("test")
    noise = np.random.default_rng(1).normal(size=test.targets.shape)
    Predictions(test.labels, test.sample_ids, test.targets + noise, test.targets).save(tmp_path / "predictions.npz")
    power = stats(path, predictions=tmp_path / "predictions.npz").power
    assert power is not None
    assert power.basis.startswith("bootstrap on predictions.npz, mAP ")
    assert 0 < power.half_width < 0.5


def test_an_assumed_ap_in_percent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="between 0 and 1"):
        stats(dataset(tmp_path), assumed_ap=80)


def test_the_figure(tmp_path: Path) -> None:
    found = stats(dataset(tmp_path))
    draw(found, tmp_path / "pets.png")
    with Image.open(tmp_path / "pets.png") as picture:
        assert min(picture.size) > 500
    for name in ("one.svg", "two.svg"):
        draw(found, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    with pytest.raises(UsageError, match=r"--figure .*unknown extension; expected .png, .svg, .pdf"):
        draw(found, tmp_path / "pets.txt")


def test_bars_and_histogram_show_the_counts(tmp_path: Path) -> None:
    found = stats(dataset(tmp_path))
    axes = figure_of(found).axes
    counts = {split.split: split.positives for split in found.splits}
    order = sorted(range(3), key=lambda k: -(counts["train"][k] + counts["test"][k]))
    assert [label.get_text() for label in axes[0].get_yticklabels()] == [LABELS[k] for k in order]
    assert [bar.get_width() for bar in axes[0].patches] == [counts[s][k] for s in ("train", "test") for k in order]
    assert [text.get_text() for text in axes[0].texts] == [str(counts[s][k]) for s in ("train", "test") for k in order]
    assert sum(bar.get_height() for bar in axes[1].patches) == pytest.approx(200), "percent of both splits"


@pytest.mark.parametrize(("labels", "named"), [(100, 100), (101, 51)])
def test_up_to_100_labels_are_all_named(tmp_path: Path, labels: int, named: int) -> None:
    targets = np.eye(labels, dtype=np.int8)
    manifest = Manifest(
        "many", "all", tmp_path, tuple(f"l{k}" for k in range(labels)), tuple(f"{k}.png" for k in range(labels)),
        targets,
    )  # fmt: skip
    path = tmp_path / "data/many"
    path.mkdir(parents=True)
    folder.write(path, Info("many", {"kind": "csv"}, "paper", list(manifest.labels), {"all": labels}), [manifest])
    bars, _, matrix = figure_of(stats(path)).axes
    assert len(bars.get_yticklabels()) == len(matrix.get_yticklabels()) == len(matrix.get_xticklabels()) == named
