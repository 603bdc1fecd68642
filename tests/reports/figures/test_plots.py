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
        "learning": plots.learning_figure({"$run": [log, log], "one": [log]}),
        "curves": plots.precision_recall_figure(LOGITS, TARGETS, ap),
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
    precisions = dict.fromkeys(LABELS, 0.5)
    figure = plots.precision_recall_figure(LOGITS, targets, precisions)
    assert len([axes for axes in figure.axes if axes.lines]) == 3
    shares = plots.cooccurrence_figure(targets, LABELS).axes[0].images[0].get_array()
    assert np.isnan(np.asarray(shares[2])).all()
    both = ((TARGETS[:, 0] == 1) & (TARGETS[:, 1] == 1)).sum()
    assert shares[0, 1] == pytest.approx(100 * both / (TARGETS[:, 0] == 1).sum())
    assert not plots.precision_recall_figure(LOGITS, targets * 0, precisions).axes[0].lines


def test_a_panel_names_label_ap_and_number_of_positives():
    precision = {f"label {k}": average_precision_score(TARGETS[:, k], LOGITS[:, k]) for k in range(4)}
    figure = plots.precision_recall_figure(LOGITS, TARGETS, precision)
    shown = [axes.get_title() for axes in figure.axes]
    positives = TARGETS.sum(axis=0)
    assert shown == [f"label {k}\nAP {100 * precision[f'label {k}']:.1f}, n = {positives[k]}" for k in range(4)]


def test_learning_curves_are_the_mean_over_seeds_with_a_band_of_one_standard_deviation():
    losses, scores = [[1.0, 0.5, 0.25], [2.0, 1.5]], [[0.5, 0.7, 0.75], [0.6, 0.4]]
    logs = []
    for loss, score in zip(losses, scores, strict=True):
        logs.append([{"event": "epoch", "epoch": k, "loss": value} for k, value in enumerate(loss, start=1)])
        logs[-1] += [{"event": "scored", "epoch": k, "mAP": value} for k, value in enumerate(score, start=1)]
        logs[-1] += [{"event": "scored", "epoch": 9, "mAP": None}]
    figure = plots.learning_figure({"CSRA": logs, "average pooling": logs[:1]})
    for axes, values, factor in zip(figure.axes, (losses, scores), (1, 100), strict=True):
        both = factor * np.array([values[0][:2], values[1]])  # the second seed ended earlier
        mean, single = axes.lines[0].get_xydata(), axes.lines[1].get_xydata()
        np.testing.assert_allclose(mean, np.column_stack([[1, 2], both.mean(axis=0)]))
        np.testing.assert_allclose(single[:, 1], factor * np.array(values[0]))
        band = axes.collections[0].get_paths()[0].vertices
        spread = np.sqrt(((both - both.mean(axis=0)) ** 2).sum(axis=0))  # of two seeds
        assert band[:, 1].max() == pytest.approx((both.mean(axis=0) + spread).max())
        assert band[:, 1].min() == pytest.approx((both.mean(axis=0) - spread).min())
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["CSRA, 2 seeds", "average pooling"]


def test_runs_that_were_evaluated_once_have_no_curve_of_map():
    log = [{"event": "epoch", "epoch": k, "loss": 1 / k} for k in (1, 2, 3)]
    log.append({"event": "scored", "epoch": 3, "mAP": 0.5})
    assert [axes.get_ylabel() for axes in plots.learning_figure({"CSRA": [log, log]}).axes] == [
        "training loss, mean over the epoch"
    ]


@pytest.mark.parametrize(("labels", "numbers"), [(20, True), (21, False)])
def test_cells_of_few_labels_have_numbers(labels, numbers):
    targets = (np.random.default_rng(0).random((200, labels)) < 0.3).astype(np.int8)
    axes = plots.cooccurrence_figure(targets, [f"l{k}" for k in range(labels)]).axes[0]
    texts = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    if not numbers:
        assert texts == {}
        return
    expected = 100 * (targets[:, 3] & targets[:, 7]).sum() / targets[:, 3].sum()
    assert texts[7, 3] == f"{expected:.0f}"
    assert len(texts) == labels * (labels - 1)
    assert axes.get_yticklabels()[3].get_text() == f"l3 ({targets[:, 3].sum()})"
