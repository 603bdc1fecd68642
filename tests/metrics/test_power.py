"""The power line: by hand, and against the bootstrap on real scores."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mlrec.metrics.bootstrap import mAP_interval
from mlrec.metrics.intervals import expected_half_width, images_needed
from mlrec.metrics.scores import read_scores
from mlrec.utils.errors import ValidationReport
from mlrec.workflows.evaluate.score import read_truth


def test_by_hand() -> None:
    # two labels of AP 0.8 with 100 and 400 positives: variance (.16/100 + .16/400) / 4
    expected = 1.959964 * math.sqrt((0.16 / 100 + 0.16 / 400) / 4)
    assert expected_half_width([100, 400], 0.8) == pytest.approx(expected)
    assert expected_half_width([100, 400, 0], 0.8) == pytest.approx(expected)
    assert expected_half_width([0], 0.8) is None
    assert images_needed(1000, 0.02, 0.005) == 16_000


def test_it_errs_on_the_safe_side_of_the_bootstrap(realdata: Path) -> None:
    truth = read_truth(realdata / "scores/truth.csv", None, None, ValidationReport())
    for name in ("resnet18", "resnet50"):
        scores = read_scores(realdata / f"scores/{name}_predictions.csv", ValidationReport()).against(truth)
        interval = mAP_interval(scores.values, truth.targets, threshold=0.5, resamples=300)
        assert interval is not None
        expected = expected_half_width(np.sum(truth.targets == 1, axis=0).tolist(), interval.value)
        assert expected is not None
        assert 1.0 <= expected / interval.half_width <= 1.35
