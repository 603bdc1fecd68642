"""Figures: the data drawn is the data measured, names can do no harm, and files come out whole in every format."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_score, recall_score

from mlrec.reports.figures import plots
from mlrec.reports.paper.figure5 import CurvePoint, Series

RNG = np.random.default_rng(3)
TARGETS = (RNG.random((60, 4)) < 0.4).astype(np.int8)
LOGITS = np.round(RNG.normal(size=TARGETS.shape) + TARGETS, 1)
LABELS = ("$x_{", "<b>", "漢\x1b", "plain")


def test_the_area_under_a_curve_is_ap_and_the_dot_is_at_p_one_half():
    recall, precision, dot = plots.curve(LOGITS[:, 0], TARGETS[:, 0])
    area = (np.diff(np.append(0, recall)) * precision).sum()
    assert area == pytest.approx(average_precision_score(TARGETS[:, 0], LOGITS[:, 0]), abs=1e-12)
    above = LOGITS[:, 0] >= 0
    assert dot == pytest.approx((recall_score(TARGETS[:, 0], above), precision_score(TARGETS[:, 0], above)))
    assert plots.curve(LOGITS[:, 0] - 99, TARGETS[:, 0])[2] is None


def test_unknown_samples_are_not_part_of_a_curve():
    targets = TARGETS[:, 0].copy()
    targets[:20] = -1
    expected = plots.curve(LOGITS[20:, 0], TARGETS[20:, 0])
    found = plots.curve(LOGITS[:, 0], targets)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def figures():
    series = [Series(LABELS[0], "g", (CurvePoint(0, 0.5, 0.1, 3), CurvePoint(0.1, 0.6, None, 1)))]
    log = [{"event": "epoch", "epoch": 0, "loss": 1.0}, {"event": "scored", "epoch": 0, "mAP": 0.5}]
    ap = dict(zip(LABELS, (0.1, 0.9, None, 0.5), strict=True))
    return {
        "sweep": plots.sweep_figure(series, "lam"),
        "learning": plots.learning_figure({"$run": log, "empty": []}),
        "curves": plots.precision_recall_figure(LOGITS, TARGETS, LABELS),
        "labels": plots.ap_figure(ap, ap, ("a", "$b")),
        "together": plots.cooccurrence_figure(TARGETS, LABELS),
    }


@pytest.mark.parametrize("name", ["sweep", "learning", "curves", "labels", "together"])
def test_every_figure_has_the_same_bytes_when_written_twice(name, tmp_path):
    figure = figures()[name]
    paths = plots.save(figure, tmp_path / name, plots.FORMATS)
    heads = {path.suffix: path.read_bytes()[:8] for path in paths}
    assert heads[".png"] == b"\x89PNG\r\n\x1a\n"
    assert heads[".pdf"].startswith(b"%PDF-")
    root = ElementTree.fromstring((tmp_path / f"{name}.svg").read_text())
    assert root.tag.endswith("svg")
    assert not [e for e in root.iter() if e.tag.endswith("script")]
    again = plots.image(figures()[name], "svg")
    assert again == (tmp_path / f"{name}.svg").read_bytes()


def test_labels_without_positives_have_no_curve_and_a_blank_row():
    targets = TARGETS.copy()
    targets[:, 2] = 0
    figure = plots.precision_recall_figure(LOGITS, targets, LABELS)
    assert len([axes for axes in figure.axes if axes.lines]) == 3
    shares = plots.cooccurrence_figure(targets, LABELS).axes[0].images[0].get_array()
    assert np.isnan(np.asarray(shares[2])).all()
    both = ((TARGETS[:, 0] == 1) & (TARGETS[:, 1] == 1)).sum()
    assert shares[0, 1] == pytest.approx(both / (TARGETS[:, 0] == 1).sum())
    assert not plots.precision_recall_figure(LOGITS, targets * 0, LABELS).axes[0].lines
