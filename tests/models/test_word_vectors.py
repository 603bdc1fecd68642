"""Word vectors of labels: found by name, by words, or missed with the names of those without."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlrec.models.word_vectors import read_vectors
from mlrec.utils.errors import ModelError


def test_vectors_by_name_by_words_and_without_case(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text(
        "Traffic 1 0\nlight 0 1\ncat 3 4\nhot dog 5 6\nsleeve 2 2\nlong 0 4\nunused 7 8\n", encoding="utf-8"
    )
    vectors = read_vectors(file, ["traffic light", "Cat", "hot dog", "longSleeve"])
    assert vectors.tolist() == [[0.5, 0.5], [3, 4], [5, 6], [1, 3]]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("cat 1 2\n", "no vector for dog"),
        ("cat 1 2\ndog 1 x\n", "'dog': the vector contains values that are not numbers"),
        ("cat 1 2\ndog 1 nan\n", "'dog': the vector contains NaN"),
        ("cat 1 2\ndog 1\n", r"the vectors have different lengths \(1, 2\)"),
    ],
)
def test_faulty_vectors_are_told(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "v.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ModelError, match=told):
        read_vectors(tmp_path / "v.txt", ["cat", "dog"])


def test_an_absent_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read the file"):
        read_vectors(tmp_path / "v.txt", ["cat"])


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "v.txt")
    with pytest.raises(ModelError, match="not a regular file"):
        read_vectors(tmp_path / "v.txt", ["cat"])
