"""Open Images' tables of verified labels, as literal files."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrec.datasets.readers.openimages import NOT_THERE, read_openimages, recognizes
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.utils.errors import DataError, ValidationReport

HEADER = "ImageID,Source,LabelName,Confidence\n"
NAMES = "/m/1,Zebra\n/m/2,Cat\n/m/3,Never verified\n/m/4,Dog\n"


def tree(root: Path, rows: str, split: str = "train", header: str = HEADER) -> Path:
    (root / split).mkdir(exist_ok=True)
    (root / "class-descriptions.csv").write_text(NAMES)
    (root / f"{split}-annotations-human-imagelabels.csv").write_text(header + rows)
    for name in {line.split(",")[0] for line in rows.splitlines()}:
        (root / split / f"{name}.jpg").touch()
    return root


def read(root: Path) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_openimages(root, ReadOptions(), findings), findings


def test_verified_labels_are_known_and_the_rest_is_unknown(tmp_path: Path) -> None:
    tree(tmp_path, "aa,verification,/m/2,1\naa,verification,/m/1,0\nbb,crowdsource-verification,/m/4,1.0\n")
    tree(tmp_path, "cc,verification,/m/1,1\n", "validation")
    (tmp_path / "train-annotations-machine-imagelabels.csv").write_text(f"{HEADER}aa,machine,/m/3,0.9\n")
    reading, findings = read(tmp_path)
    train, val = reading.manifests
    assert (train.split, val.split) == ("train", "val")
    assert train.labels == val.labels == ("Zebra", "Cat", "Dog")
    assert dict(zip(train.images, train.targets.tolist(), strict=True)) == {
        "train/aa.jpg": [0, 1, -1],
        "train/bb.jpg": [-1, -1, 1],
    }
    assert (val.images, val.targets.tolist()) == (("validation/cc.jpg",), [[1, -1, -1]])
    assert [line.partition(":")[0] for line in findings.warnings] == [
        "unverified machine-generated labels were not used"
    ]
    assert "like Open Images" in str(recognizes(tmp_path))


def test_images_that_were_not_downloaded_are_left_out_and_counted(tmp_path: Path) -> None:
    tree(tmp_path, "aa,v,/m/2,1\nbb,v,/m/2,0\ncc,v,/m/2,0\n")
    (tmp_path / "train/bb.jpg").unlink()
    reading, _ = read(tmp_path)
    assert reading.manifests[0].images == ("train/aa.jpg", "train/cc.jpg")
    assert reading.skipped == {NOT_THERE: 1}
    for name in ("aa", "cc"):  # none at all, as with --no-verify on a machine without the images
        (tmp_path / f"train/{name}.jpg").unlink()
    reading, _ = read(tmp_path)
    assert (len(reading.manifests[0]), reading.skipped) == (3, {})


@pytest.mark.parametrize(
    ("rows", "expected", "warning"),
    [
        ("aa,v,/m/2,1\naa,c,/m/2,0\n", [-1], "verifications contradict each other, so the label was set to unknown"),
        (
            "aa,v,/m/2,0.7\n",
            [-1],
            "labels with a confidence other than 0 or 1 are not verified and were set to unknown",
        ),
        ("aa,v,/m/9,1\n", [1], "labels without a description were named after their codes"),
    ],
)
def test_what_is_unclear_is_a_warning(tmp_path: Path, rows: str, expected: list[int], warning: str) -> None:
    reading, findings = read(tree(tmp_path, rows))
    assert reading.manifests[0].targets.tolist() == [expected]
    assert warning in findings.warnings[0]


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ("aa,v,/m/2,yes\n", HEADER, "line 2: Confidence 'yes' is not a number"),
        ("aa,v,/m/2\n", HEADER, "line 2: found 3 cells, expected 4"),
        ("aa,v,/m/2,1\n", "a,b,c,d\n", "the header does not contain ImageID, LabelName, Confidence"),
        ("../aa,v,/m/2,1\n", HEADER, "is outside the image directory"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, rows: str, header: str, message: str) -> None:
    def read_all() -> None:
        read(tree(tmp_path, rows, header=header))[1].raise_errors("", "")

    with pytest.raises(DataError, match=message):
        read_all()


def test_a_folder_without_tables_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no <split>-annotations-human-imagelabels\.csv found"):
        read(tmp_path)
