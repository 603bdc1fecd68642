"""Anybody's scores: read, joined by name, each fault of a file told with its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlrec import Manifest
from mlrec.metrics.scores import OUTSIDE, read_scores
from mlrec.utils.errors import PredictionsError, ValidationReport

TRUTH = Manifest(
    name="pets",
    split="test",
    root=Path("/pets"),
    labels=("cat", "dog"),
    images=("a/1.jpg", "a/2.jpg", "b/2.jpg"),
    targets=np.array([[1, 0], [0, 1], [1, -1]], dtype=np.int8),
)


def stored(tmp_path: Path, text: str) -> Path:
    (tmp_path / "pred.csv").write_text(text, encoding="utf-8")
    return tmp_path / "pred.csv"


def told(tmp_path: Path, text: str, **options) -> str:
    with pytest.raises(PredictionsError) as caught:
        read_scores(stored(tmp_path, text), ValidationReport(), **options).against(TRUTH).evaluate()
    message = str(caught.value)
    assert "\n" not in message
    return message.partition("pred.csv")[2]


def test_rows_and_columns_are_matched_by_name(tmp_path: Path) -> None:
    scores = read_scores(
        stored(tmp_path, "filename,dog,cat\nb/2.jpg,0.1,0.2\n1.jpg,0.3,0.4\na/2.jpg,0.5,0.6\n"), ValidationReport()
    )
    joined = scores.against(TRUTH)
    assert joined.labels == ("cat", "dog")
    assert joined.sample_ids == TRUTH.sample_ids
    assert joined.values.tolist() == [[0.4, 0.3], [0.6, 0.5], [0.2, 0.1]]
    assert joined.threshold == 0.5


def test_base_names_only_where_unique(tmp_path: Path) -> None:
    assert ": '2.jpg' matches multiple samples ('a/2.jpg', 'b/2.jpg'); use a longer part of the path" in told(
        tmp_path, "filename,cat,dog\n1.jpg,0,1\n2.jpg,0,1\nb/2.jpg,0,1\n"
    )
    assert "'a/1.jpg' is scored twice, as '1.jpg' and 'a/1.jpg'; keep only one of them" in told(
        tmp_path, "filename,cat,dog\n1.jpg,0,1\na/1.jpg,0,1\na/2.jpg,0,1\nb/2.jpg,0,1\n"
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a/1.jpg,0,1\na/2.jpg,0,1\n", "no prediction for 1 of 3 samples (first: 'b/2.jpg')"),
        ("a/1.jpg,0,1\na/2.jpg,0,1\nb/2.jpg,0,1\nc.jpg,0,1\n", "no matching sample for 1 of 4 predictions"),
        (
            "a/1.jpg,0,1\na/2.jpg,0,1\na/1.jpg,0,1\n",
            ": 'a/1.jpg' is scored twice, on lines 2 and 4; keep only one of them",
        ),
        (
            "a/1.jpg,0,x\na/2.jpg,,1\n",
            ": line 2, column 'dog': 'x' is not a number; correct the cell (and 1 more such error)",
        ),
        ("a/1.jpg,0,1_0\n", ": line 2, column 'dog': '1_0' is not a number"),
        ("a/1.jpg,0,nan\na/2.jpg,0,1\nb/2.jpg,0,1\n", ": 1 NaN score: sample 'a/1.jpg', label 'dog'"),
        ("a/1.jpg,0,1e999\na/2.jpg,0,1\nb/2.jpg,0,1\n", ": 1 infinite score: sample 'a/1.jpg', label 'dog'"),
        (",0,1\n", ": line 2, column 'filename': the cell is empty"),
        ("a/1.jpg,0\n", ": line 2: 2 fields, expected 3"),
    ],
)
def test_faults_are_reported_in_one_line_with_their_place(tmp_path: Path, rows: str, message: str) -> None:
    assert message in told(tmp_path, "filename,cat,dog\n" + rows)


def test_other_labels_are_reported(tmp_path: Path) -> None:
    assert "missing 'dog'; unexpected 'Dog'" in told(
        tmp_path, "filename,cat,Dog\n1.jpg,0,1\na/2.jpg,0,1\nb/2.jpg,0,1\n"
    )
    assert "unknown label 'dig'; did you mean 'dog'?" in told(tmp_path, "filename,cat,dog\n1.jpg,0,1\n", labels=["dig"])


def test_probabilities_are_ranked_as_given_and_logits_are_a_warning(tmp_path: Path) -> None:
    findings = ValidationReport()
    rows = "filename,cat,dog\n1.jpg,1,0.5\na/2.jpg,0.9999999999,0\nb/2.jpg,1,0\n"
    metrics = read_scores(stored(tmp_path, rows), findings).against(TRUTH).evaluate()
    assert metrics.average_precision["cat"] == 1.0
    assert metrics.OP == 0.5  # 1.jpg cat and dog, 2.jpg cat, b/2.jpg cat are said; two of them are true
    assert not findings.warnings
    assert read_scores(stored(tmp_path, rows), findings, kind="logits").threshold == 0.0
    assert not findings.warnings
    beyond = read_scores(stored(tmp_path, rows.replace("0.5", "-1.5")), findings)
    assert beyond.threshold == 0.0
    assert OUTSIDE in findings.warnings[0]


def test_restricted_to_labels_before_anything_else(tmp_path: Path) -> None:
    path = stored(tmp_path, "filename,note,dog,cat\n1.jpg,x,0.2,0.4\n")
    scores = read_scores(path, ValidationReport(), labels=["cat"])
    assert (scores.labels, scores.values.tolist()) == (("cat",), [[0.4]])


def test_npz_holds_logits_and_its_own_truth(tmp_path: Path) -> None:
    path = tmp_path / "pred.npz"
    logits, targets = np.array([[0.4, 0.2], [0.1, 0.3]]), np.array([[1, 0], [0, 1]], dtype=np.int8)
    np.savez(path, logits=logits, targets=targets, sample_ids=["1", "2"], labels=["cat", "dog"])
    scores = read_scores(path, ValidationReport())
    assert scores.threshold == 0.0
    assert scores.evaluate().mAP == 1.0
    assert list(read_scores(path, ValidationReport(), labels=["dog"]).evaluate().average_precision) == ["dog"]
    np.savez(path, logits=logits, sample_ids=["1", "2"], labels=["cat", "dog"])
    with pytest.raises(PredictionsError, match="the file has no targets; pass the ground truth"):
        read_scores(path, ValidationReport()).evaluate()


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match=r"expected an \.npz, \.csv or \.jsonl"):
        read_scores(tmp_path / "pred.parquet", ValidationReport())
    with pytest.raises(PredictionsError, match="cannot read the file"):
        read_scores(tmp_path / "none.csv", ValidationReport())


def test_the_index_of_a_data_frame_may_have_no_name(tmp_path: Path) -> None:
    text = "filename,cat,dog\na/1.jpg,0.4,0.3\na/2.jpg,0.6,0.5\nb/2.jpg,0.2,0.1\n"
    expected = read_scores(stored(tmp_path, text), ValidationReport()).against(TRUTH)
    unnamed = read_scores(stored(tmp_path, text.replace("filename", "")), ValidationReport())
    assert unnamed.against(TRUTH).values.tolist() == expected.values.tolist()
    lines = text.splitlines()
    findings = ValidationReport()
    numbered = "\n".join([f",{lines[0]}", *(f"{k},{line}" for k, line in enumerate(lines[1:]))])
    assert read_scores(stored(tmp_path, numbered), findings).against(TRUTH).values.tolist() == expected.values.tolist()
    assert "row numbers was skipped" in findings.warnings[0]


def test_ids_without_a_match_are_shown_with_an_id_of_the_truth(tmp_path: Path) -> None:
    assert "use the sample ids of the ground truth (first: 'a/1.jpg')" in told(tmp_path, "id,cat,dog\n1,0.1,0.2\n")
