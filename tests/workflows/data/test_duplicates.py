"""Photographs that stand twice: planted ones are found, real ones are not confused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlrec.datasets.analysis.near_duplicates import Fingerprint, fingerprint, pairs
from mlrec.datasets.dataset import FINGERPRINTS_FILE
from mlrec.reports.figures.contact_sheet import write_sheet
from mlrec.utils.errors import DataError
from mlrec.workflows.data.duplicates import find_duplicates, pages, summary
from mlrec.workflows.data.prepare import prepare

WAYS = {
    "copy": lambda path, out: out.with_suffix(".jpg").write_bytes(path.read_bytes()),
    "quality 40": lambda path, out: Image.open(path).save(out.with_suffix(".jpg"), quality=40),
    "png": lambda path, out: Image.open(path).save(out.with_suffix(".png")),
    "half the size": lambda path, out: Image.open(path).reduce(2).save(out.with_suffix(".jpg"), quality=75),
    "square": lambda path, out: Image.open(path).resize((224, 224)).save(out.with_suffix(".jpg"), quality=80),
    "grey": lambda path, out: Image.open(path).convert("L").save(out.with_suffix(".jpg"), quality=80),
}


def test_planted_duplicates_are_all_found_and_no_others(realdata: Path, tmp_path: Path) -> None:
    photographs = sorted((realdata / "voc/VOCdevkit/VOC2007/JPEGImages").glob("*.jpg"))[::25]
    files = list(photographs)
    planted = set()
    for k, path in enumerate(photographs[::2]):
        name, make = list(WAYS.items())[k % len(WAYS)]
        make(path, tmp_path / path.stem)
        copy = next(tmp_path.glob(f"{path.stem}.*"))
        planted.add((files.index(path), len(files), name == "copy"))
        files.append(copy)
    found = pairs([fingerprint(path) for path in files])
    assert {(pair.first, pair.second, pair.exact) for pair in found} == planted


def test_plain_images_are_compared_by_content_only(tmp_path: Path) -> None:
    for k, color in enumerate(("white", "black", "white")):
        Image.new("RGB", (40, 40), color).save(tmp_path / f"{k}.png")
    found = pairs([fingerprint(tmp_path / f"{k}.png") for k in range(3)])
    assert [(pair.first, pair.second, pair.exact) for pair in found] == [(0, 2, True)]


def pets(root: Path) -> Path:
    """Four photographs; the first stands in train, again in val with other labels, and small in test."""
    rng = np.random.default_rng(0)
    for k in range(4):
        pixels = np.repeat(np.repeat(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8), 12, 0), 12, 1)
        Image.fromarray(pixels).save(root / f"{k}.png")
    (root / "again.png").write_bytes((root / "0.png").read_bytes())
    Image.open(root / "0.png").resize((40, 50)).save(root / "small.png")
    rows = ["0.png,train,1", "1.png,train,0", "again.png,val,0", "2.png,val,1", "small.png,test,1", "3.png,test,0"]
    (root / "pets.csv").write_text("filename,split,cat\n" + "\n".join(rows) + "\n")
    return prepare("csv", root / "pets.csv", out=root / "data", allow_overlap=True).path


def test_duplicates_are_reported_with_splits_labels_and_leaks(tmp_path: Path) -> None:
    path = pets(tmp_path)
    twins = find_duplicates(path)
    told = {(t.first, t.second): (t.exact, t.leak, t.labels_differ) for t in twins.pairs}
    assert told == {
        ("0.png", "again.png"): (True, False, True),
        ("0.png", "small.png"): (False, True, False),
        ("again.png", "small.png"): (False, True, True),
    }
    assert twins.groups == [["0.png", "again.png", "small.png"]]
    assert "1 pair of identical files, 2 pairs of near-duplicates; 2 pairs between test" in summary(twins).footnotes[0]
    assert list(twins.to_dict()["pairs"][0]["first_splits"]) == ["train"]
    assert write_sheet(pages(twins), tmp_path / "twins.png") == 3
    with Image.open(tmp_path / "twins.png") as sheet:
        assert sheet.width > 600


def test_fingerprints_are_kept_until_the_file_changes(tmp_path: Path) -> None:
    path = pets(tmp_path)
    first = find_duplicates(path)
    written = (path / FINGERPRINTS_FILE).stat().st_mtime_ns
    assert find_duplicates(path) == first
    assert (path / FINGERPRINTS_FILE).stat().st_mtime_ns == written
    Image.new("RGB", (9, 9), "red").save(tmp_path / "again.png")
    assert len(find_duplicates(path).pairs) == 1
    (path / FINGERPRINTS_FILE).write_bytes(b"broken")
    assert len(find_duplicates(path).pairs) == 1


@pytest.mark.parametrize(
    "changed", [np.zeros((1, 2, 2), np.uint8), np.zeros((6, 32, 32)), np.array([b"x"]), np.array(5)]
)
def test_invalid_fingerprints_are_computed_again(tmp_path: Path, changed: np.ndarray) -> None:
    path = pets(tmp_path)
    first, file = find_duplicates(path), path / FINGERPRINTS_FILE
    with np.load(file) as stored:
        kept = dict(stored)
    np.savez(file, **{**kept, "thumbnails": changed})
    assert find_duplicates(path) == first
    np.savez(file, **{**kept, "names": np.arange(6).reshape(3, 2)})
    assert find_duplicates(path) == first
    file.unlink()
    os.mkfifo(file)
    assert find_duplicates(path) == first


def test_missing_images_are_reported(tmp_path: Path) -> None:
    path = pets(tmp_path)
    (tmp_path / "0.png").unlink()
    assert find_duplicates(path).unreadable == 1
    for file in tmp_path.glob("*.png"):
        file.unlink()
    with pytest.raises(DataError, match=r"no image of the dataset can be read \(6 tried\)"):
        find_duplicates(path)


def test_the_coarse_search_loses_no_pair_of_the_full_comparison() -> None:
    rng = np.random.default_rng(0)
    fields = rng.integers(0, 256, (12, 8, 8)).repeat(5, axis=0) + rng.normal(0, 8, (60, 8, 8))
    blurred = np.kron(fields, np.ones((4, 4))) + rng.normal(0, 15, (60, 32, 32))
    prints = [Fingerprint(str(k), small) for k, small in enumerate(np.clip(blurred, 0, 255).astype(np.uint8))]
    correlations = np.corrcoef([found.thumbnail.ravel() for found in prints])
    expected = {(i, j) for i, j in np.argwhere(np.triu(correlations >= 0.95, 1)).tolist()}
    assert 20 < len(expected) < 120
    assert {(pair.first, pair.second) for pair in pairs(prints, 0.95)} == expected
