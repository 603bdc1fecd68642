"""Logits and probabilities are never mistaken for each other in silence."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score

from mlrec import MlrecError, evaluate
from mlrec.metrics.scores import CLIPPED, DECIDED, INSIDE, OUTSIDE, read_scores
from mlrec.predictions import probabilities_of
from mlrec.utils.errors import PredictionsError, UsageError, ValidationReport
from tests.metrics.scoring_oracles import random_case

LOGITS, TARGETS = random_case(3, samples=40, labels=4)
PROBABILITIES = probabilities_of(LOGITS)


def test_probabilities_are_cut_at_one_half() -> None:
    metrics = evaluate(PROBABILITIES, TARGETS, scores="probabilities", conventions="macro-f1")
    assert metrics.CF1 == pytest.approx(f1_score(TARGETS, PROBABILITIES >= 0.5, average="macro", zero_division=0))
    assert metrics.CF1 == evaluate(LOGITS, TARGETS, conventions="macro-f1").CF1
    assert metrics.conventions.scores == "probabilities"
    assert "scores are probabilities, threshold: p >= 0.5" in metrics.conventions.in_words()


@pytest.mark.parametrize(
    "scores",
    [
        PROBABILITIES, PROBABILITIES + 5e-5, PROBABILITIES - 5e-5, np.zeros((40, 4)), TARGETS, TARGETS == 1,
        PROBABILITIES.astype(np.float16),
    ],
)  # fmt: skip
def test_scores_within_0_and_1_need_a_word(scores: np.ndarray) -> None:
    with pytest.raises(
        PredictionsError, match=r"all scores are in \[0, 1\].*scores='probabilities' or scores='logits'"
    ):
        evaluate(scores, TARGETS)
    assert evaluate(scores, TARGETS, scores="probabilities").counts["samples"] == 40


def test_stated_logits_between_0_and_1_are_all_predicted() -> None:
    assert evaluate(PROBABILITIES, TARGETS, scores="logits").OR == 1.0


def test_decisions_are_not_logits() -> None:
    with pytest.raises(PredictionsError, match="boolean scores are decisions"):
        evaluate(TARGETS == 1, TARGETS, scores="logits")
    perfect = evaluate(TARGETS == 1, TARGETS, scores="probabilities")
    assert (perfect.OF1, perfect.CF1) == (1.0, 1.0)
    assert evaluate([[2], [-3]], [[True], [False]]).OF1 == 1.0, "whole numbers with a negative one are logits"


def test_percentages_are_refused_and_rounding_is_clipped() -> None:
    with pytest.raises(PredictionsError, match=r"but probabilities range from 0 to 1; divide percentages by 100"):
        evaluate(100 * PROBABILITIES, TARGETS)
    with pytest.raises(PredictionsError, match=r"divide percentages by 100"):
        evaluate(np.clip(PROBABILITIES, 0, 1) + 2e-4 + (1 - PROBABILITIES.max()), TARGETS)
    with pytest.raises(PredictionsError, match="divide percentages by 100"):
        evaluate(100 * PROBABILITIES, TARGETS, scores="probabilities")
    with pytest.raises(PredictionsError, match="declare the scores as logits"):
        evaluate(LOGITS, TARGETS, scores="probabilities")
    sure = np.where(TARGETS == 1, 1.0000001, -1e-7)
    assert evaluate(sure, TARGETS, scores="probabilities").OF1 == 1.0


def test_a_threshold_is_on_the_scale_of_the_scores() -> None:
    recall = [recall_score(TARGETS, PROBABILITIES >= cut, average="micro") for cut in (0.2, 0.5, 0.8)]
    for expected, cut in zip(recall, (0.2, 0.5, 0.8), strict=True):
        metrics = evaluate(PROBABILITIES, TARGETS, scores="probabilities", threshold=cut)
        assert metrics.OR == pytest.approx(expected)
        assert metrics.conventions.threshold == f"p >= {cut:g}"
        assert evaluate(LOGITS, TARGETS, threshold=float(np.log(cut / (1 - cut)))).OR == pytest.approx(expected)
    cuts = np.array([0.2, 0.5, 0.8, np.inf])
    each = evaluate(PROBABILITIES, TARGETS, scores="probabilities", threshold=cuts)
    assert each.OR == pytest.approx(recall_score(TARGETS, PROBABILITIES >= cuts, average="micro"))
    assert each.conventions.threshold == "p >= the label's own threshold"
    assert evaluate(LOGITS, TARGETS, threshold=1).conventions.threshold == "logit >= 1"


@pytest.mark.parametrize("threshold", [1.5, -0.1, np.nan, [0.5, 0.5]])
def test_a_threshold_that_cannot_be_is_refused(threshold: float) -> None:
    with pytest.raises(MlrecError, match="threshold"):
        evaluate(PROBABILITIES, TARGETS, scores="probabilities", threshold=threshold)


def test_another_kind_is_refused() -> None:
    with pytest.raises(UsageError, match="must be 'logits' or 'probabilities'"):
        evaluate(LOGITS, TARGETS, scores="logit")  # type: ignore[arg-type]


def read(tmp_path, rows: str, **options):
    (tmp_path / "p.csv").write_text("filename,cat,dog\n" + rows)
    findings = ValidationReport()
    return read_scores(tmp_path / "p.csv", findings, **options), findings.warnings


def test_the_kind_of_a_csv(tmp_path) -> None:
    scores, warnings = read(tmp_path, "1.jpg,0.2,1\n")
    assert (scores.kind, scores.note, warnings) == ("probabilities", f"{tmp_path / 'p.csv'}: {DECIDED}", [])
    scores, warnings = read(tmp_path, "1.jpg,0.2,1.0000001\n2.jpg,-0.00001,0.5\n")
    assert (scores.kind, scores.values.tolist()) == ("probabilities", [[0.2, 1.0], [0.0, 0.5]])
    assert warnings == [f"{CLIPPED}: 2 in {tmp_path / 'p.csv'}"]
    scores, warnings = read(tmp_path, "1.jpg,0.2,-1\n")
    assert (scores.kind, scores.note, warnings) == ("logits", "", [f"{OUTSIDE}: {tmp_path / 'p.csv'}"])
    for kind in ("probabilities", "logits"):
        scores, warnings = read(tmp_path, "1.jpg,0.2,1\n", kind=kind)
        assert (scores.kind, scores.note, warnings) == (kind, "", [])
    for rows, options in (("1.jpg,20,87.5\n", {}), ("1.jpg,-1,0\n", {"kind": "probabilities"})):
        with pytest.raises(PredictionsError, match=r"p\.csv: "):
            read(tmp_path, rows, **options)
    assert read(tmp_path, "1.jpg,20,87.5\n", kind="logits")[0].kind == "logits"


def test_an_npz_holds_logits_and_warns_of_probabilities(tmp_path) -> None:
    np.savez(tmp_path / "p.npz", logits=np.array([[0.5, 1.0]]), sample_ids=["1"], labels=["cat", "dog"])
    findings = ValidationReport()
    assert read_scores(tmp_path / "p.npz", findings).kind == "logits"
    assert findings.warnings == [f"{INSIDE}: {tmp_path / 'p.npz'}"]
    findings = ValidationReport()
    read_scores(tmp_path / "p.npz", findings, kind="logits")
    assert not findings.warnings
    with pytest.raises(PredictionsError, match=r"\.npz files contain logits"):
        read_scores(tmp_path / "p.npz", findings, kind="probabilities")
