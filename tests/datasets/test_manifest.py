"""The manifest file, line by line, and what may be done with a manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlrec.datasets.manifest import Manifest
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.names import clean_label, duplicates_in, label_order

HEADER = '{"format":"mlrec-manifest/1","name":"voc2007","split":"test","root":"/data","labels":["cat","dog","ü"]}'


def persons(root: Path = Path("/data")) -> Manifest:
    return Manifest(
        name="people",
        split="test",
        root=root,
        labels=("hat", "male"),
        images=("Image/a.jpg", "Image/a.jpg", "Image/b.jpg"),
        targets=np.array([[1, -1], [0, 1], [0, 0]], dtype=np.int8),
        boxes=np.array([[0, 1, 20, 30], [2.5, 1, 3, 4], [0, 0, 1, 1]], dtype=np.float64),
        sample_ids=("Image/a.jpg#0", "Image/a.jpg#2", "Image/b.jpg#0"),
    )


def test_the_file_is_the_documented_one(tmp_path: Path) -> None:
    persons().save(tmp_path / "test.jsonl")
    assert (tmp_path / "test.jsonl").read_text("utf-8").splitlines() == [
        '{"format":"mlrec-manifest/1","name":"people","split":"test","root":"/data","labels":["hat","male"]}',
        '{"image":"Image/a.jpg","positive":["hat"],"unknown":["male"],"box":[0,1,20,30],"id":"Image/a.jpg#0"}',
        '{"image":"Image/a.jpg","positive":["male"],"box":[2.5,1,3,4],"id":"Image/a.jpg#2"}',
        '{"image":"Image/b.jpg","positive":[],"box":[0,0,1,1],"id":"Image/b.jpg#0"}',
    ]


def test_reading_a_file_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    lines = [
        HEADER,
        '{"image":"1.jpg","positive":["ü","cat"]}',
        '{"image":"2.jpg","positive":[],"unknown":["dog"]}',
        "",
    ]
    path.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    manifest = Manifest.load(path)
    assert (manifest.name, manifest.split, manifest.root) == ("voc2007", "test", Path("/data"))
    assert manifest.labels == ("cat", "dog", "ü")
    assert manifest.images == manifest.sample_ids == ("1.jpg", "2.jpg")
    assert manifest.targets.tolist() == [[1, 0, 1], [0, -1, 0]]
    assert manifest.boxes is None
    assert manifest.path_of(1) == Path("/data/2.jpg")


@settings(deadline=None)  # it writes to the disk, which others may use
@given(
    targets=st.integers(0, 6).flatmap(
        lambda n: st.lists(st.lists(st.sampled_from([1, 0, -1]), min_size=3, max_size=3), min_size=n, max_size=n)
    )
)
def test_saving_and_loading_changes_nothing(tmp_path_factory: pytest.TempPathFactory, targets: list[list[int]]) -> None:
    path = tmp_path_factory.getbasetemp() / "all.jsonl"
    array = np.array(targets, dtype=np.int8).reshape(-1, 3)
    images = tuple(f"é {k}.jpg" for k in range(len(array)))
    saved = Manifest("n", "all", Path("/r"), ("a", "b", "=c"), images, array)
    saved.save(path)
    loaded = Manifest.load(path)
    assert (loaded.labels, loaded.images, loaded.root) == (saved.labels, saved.images, saved.root)
    np.testing.assert_array_equal(loaded.targets, array)
    assert loaded.digest == saved.digest


def test_the_digest_covers_labels_and_samples_but_not_the_root() -> None:
    manifest = persons()
    assert replace(manifest, root=Path("/elsewhere"), name="n", split="s").digest == manifest.digest
    other_targets = manifest.targets.copy()
    other_targets[2, 0] = 1
    assert manifest.boxes is not None
    changed = [
        replace(manifest, targets=other_targets),
        replace(manifest, labels=("hat", "female")),
        replace(manifest, boxes=manifest.boxes + 1),
        manifest.subset([1, 0, 2]),
        manifest.subset([0, 1]),
    ]
    assert len({manifest.digest, *(one.digest for one in changed)}) == 6


def test_subset_keeps_order_boxes_and_ids() -> None:
    part = persons().subset(np.array([2, 0]), "dev")
    assert (part.split, part.sample_ids) == ("dev", ("Image/b.jpg#0", "Image/a.jpg#0"))
    assert part.targets.tolist() == [[0, 0], [1, -1]]
    assert part.boxes is not None
    assert part.boxes[1].tolist() == [0, 1, 20, 30]


def test_labels_are_reordered_by_name() -> None:
    assert persons().reordered(("male", "hat")).targets.tolist() == [[-1, 1], [1, 0], [0, 0]]
    with pytest.raises(DataError, match="missing 'female'; unexpected 'male'"):
        persons().reordered(("hat", "female"))
    assert label_order(["a", "b", "c"], ["c", "a", "b"]).tolist() == [2, 0, 1]


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "empty"),
        ([HEADER.replace("/1", "/9")], "format is 'mlrec-manifest/9'"),
        ([HEADER.replace("dog", "cat")], "line 1: label 'cat' is listed twice"),
        (["{}"], "line 1"),
        ([HEADER, '{"image":"1.jpg"}'], "line 2: .*positive"),
        (
            [HEADER, '{"image":"1.jpg","positive":["Dog"]}'],
            "line 2: 'Dog' is not one of the 3 labels; did you mean 'dog'",
        ),
        (
            [HEADER, '{"image":"1.jpg","positive":["dog"],"unknown":["dog"]}'],
            "line 2: label 'dog' is both positive and unknown",
        ),
        ([HEADER, '{"image":"1.jpg","positive":[],"extra":1}'], "line 2: .*extra"),
        (
            [HEADER, '{"image":"1.jpg","positive":[]}', '{"image":"1.jpg","positive":[]}'],
            "'1.jpg' occurs on multiple lines",
        ),
        ([HEADER, '{"image":"1.jpg","positive":[],"box":[1,2,3]}'], "line 2"),
        (
            [HEADER, '{"image":"1","positive":[],"box":[1,2,3,4]}', '{"image":"2","positive":[]}'],
            "some samples have a box",
        ),
        ([HEADER, '{"image":"1.jpg","positive":[]'], "line 2"),
        ([HEADER, '{"image":"1.jpg","positive":' + "[" * 100_000], "line 2"),
    ],
)
def test_a_broken_manifest_is_reported_in_one_line_with_its_place(tmp_path: Path, lines: list[str], said: str) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=said) as caught:
        Manifest.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [{"targets": np.zeros((3, 1), np.int8)}, {"boxes": np.zeros((2, 4))}])
def test_shapes_must_agree(change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="have shape"):
        replace(persons(), **change)


def test_label_names_are_cleaned_with_a_warning() -> None:
    findings = ValidationReport()
    assert clean_label("dog", "f", findings) == "dog"
    assert not findings.warnings
    assert clean_label(" e\u0301 ", "f", findings) == "\u00e9"
    assert len(findings.warnings) == 2
    clean_label("  ", "f: category 3", findings)
    assert findings.errors == ["f: category 3: the label name is empty; add a name"]


def test_repeated_names_come_once_each() -> None:
    assert duplicates_in(["a", "b", "a", "c", "b", "a"]) == ["a", "b"]


def test_a_line_is_json_that_any_program_reads(tmp_path: Path) -> None:
    persons().save(tmp_path / "a.jsonl")
    header, first, *_ = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert header["labels"] == ["hat", "male"]
    assert first["box"] == [0, 1, 20, 30]
