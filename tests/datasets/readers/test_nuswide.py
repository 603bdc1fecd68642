"""NUS-WIDE's lists and files of labels, as literal trees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlrec.datasets.readers.nuswide import read_nuswide, recognizes
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.utils.errors import DataError, ValidationReport

CONCEPTS = ("water", "sky", "person")
COUNTS = {"Train": 7, "Test": 4}


def tree(root: Path) -> dict[str, dict[str, list[int]]]:
    """A small copy of the layout; returns the truth, a row of 0 and 1 by split and image."""
    rng = np.random.default_rng(0)
    for folder in ("ImageList", "TrainTestLabels", "Flickr/actor"):
        (root / folder).mkdir(parents=True)
    (root / "Concepts81.txt").write_text("\n".join(CONCEPTS) + "\n")
    truth: dict[str, dict[str, list[int]]] = {}
    for split, count in COUNTS.items():
        names = [f"{split}_{k}.jpg" for k in range(count)]
        values = rng.integers(0, 2, (count, len(CONCEPTS)))
        (root / f"ImageList/{split}Imagelist.txt").write_text("".join(f"actor\\{name}\r\n" for name in names))
        for k, concept in enumerate(CONCEPTS):
            lines = "".join(f"{value}\n" for value in values[:, k])
            (root / f"TrainTestLabels/Labels_{concept}_{split}.txt").write_text(lines)
        for name in names:
            (root / "Flickr/actor" / name).touch()
        truth[split.lower()] = {f"Flickr/actor/{n}": row for n, row in zip(names, values.tolist(), strict=True)}
    return truth


def read(root: Path) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_nuswide(root, ReadOptions(), findings), findings


def test_concepts_keep_their_order_and_lines_belong_to_the_lists(tmp_path: Path) -> None:
    truth = tree(tmp_path)
    reading, findings = read(tmp_path)
    assert (findings.errors, findings.warnings) == ([], [])
    assert {m.split: dict(zip(m.images, m.targets.tolist(), strict=True)) for m in reading.manifests} == truth
    assert {m.labels for m in reading.manifests} == {CONCEPTS}
    assert recognizes(tmp_path) == "it contains TrainImagelist.txt, like NUS-WIDE"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("TrainTestLabels/Labels_sky_Train.txt", "1\n0\n", "has 2 lines, but TrainImagelist.txt has 7 images"),
        ("TrainTestLabels/Labels_sky_Test.txt", "1\n0\n2\n0\n", "line 3: '2' is not 0 or 1"),
        ("TrainTestLabels/Labels_sky_Test.txt", None, "Labels_sky_Test.txt is missing"),
        ("ImageList/TestImagelist.txt", "actor\\Test_0.jpg\n" * 4, "is listed twice"),
        ("ImageList/TestImagelist.txt", "..\\..\\x.jpg\n" * 4, "is outside the image directory"),
    ],
)
def test_files_that_do_not_fit_are_errors(tmp_path: Path, file: str, content: str | None, message: str) -> None:
    tree(tmp_path)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(content)
    _, findings = read(tmp_path)
    with pytest.raises(DataError, match=message):
        findings.raise_errors("", "")


def test_a_missing_list_is_a_warning_and_no_list_an_error(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "ImageList/TestImagelist.txt").unlink()
    reading, findings = read(tmp_path)
    assert [m.split for m in reading.manifests] == ["train"]
    assert "split 'test' is absent" in findings.warnings[0]
    (tmp_path / "ImageList/TrainImagelist.txt").unlink()
    with pytest.raises(DataError, match=r"no TrainImagelist\.txt or TestImagelist\.txt found"):
        read(tmp_path)
