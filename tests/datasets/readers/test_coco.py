"""COCO: tiny files written here, and pycocotools as the judge of what they say."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO

from mlrec.datasets.readers.coco import EMPTY, read_coco
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.utils.errors import DataError, UsageError, ValidationReport

CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 3, "name": "car"}]


def image(number: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number:03}.jpg", "width": 64, "height": 48} | more


def annotation(number: int, image_id: int, category_id: int, **more: Any) -> dict[str, Any]:
    return {"id": number, "image_id": image_id, "category_id": category_id, "bbox": [1, 1, 9, 9], "iscrowd": 0} | more


def content(images: list[Any] | None = None, annotations: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    return {
        "info": {},
        "images": [image(1), image(2)] if images is None else images,
        "annotations": [annotation(1, 1, 3), annotation(2, 2, 1)] if annotations is None else annotations,
        "categories": CATEGORIES,
    } | more


def dataset(root: Path, folder: str = "", year: str = "2017", **files: dict[str, Any]) -> Path:
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split, value in files.items():
        (root / folder / f"{split}{year}").mkdir(parents=True, exist_ok=True)
        (root / "annotations" / f"instances_{split}{year}.json").write_text(json.dumps(value))
    return root


def read(path: Path, **options: Any) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_coco(path, ReadOptions(**options), findings), findings


def test_labels_ascend_by_category_id_and_crowds_count(tmp_path: Path) -> None:
    annotations = [annotation(1, 1, 3), annotation(2, 1, 3), annotation(3, 1, 90, iscrowd=1), annotation(4, 2, 1)]
    reading, findings = read(dataset(tmp_path, train=content([image(2), image(1)], annotations)))
    (manifest,) = reading.manifests
    assert manifest.labels == ("person", "car", "toothbrush")
    assert manifest.images == ("train2017/002.jpg", "train2017/001.jpg")
    assert manifest.targets.tolist() == [[1, 0, 0], [0, 1, 1]]
    assert (reading.name, manifest.root) == ("coco2017", tmp_path)
    assert reading.stated_sizes["train2017/001.jpg"] == (64, 48)
    assert findings.warnings == [
        f"split 'val' is absent because its file is missing: {tmp_path}/annotations/instances_val2017.json"
    ]
    assert not findings.errors


@settings(max_examples=30, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(1, 6), st.sampled_from([1, 3, 90]), st.booleans()), max_size=20))
def test_labels_are_those_of_pycocotools(tmp_path_factory: pytest.TempPathFactory, pairs: list[Any]) -> None:
    annotations = [annotation(k, i, c, iscrowd=int(crowd)) for k, (i, c, crowd) in enumerate(pairs, 1)]
    root = tmp_path_factory.getbasetemp() / "oracle"
    dataset(root, train=content([image(k) for k in range(1, 7)], annotations))
    with contextlib.redirect_stdout(io.StringIO()):
        oracle = COCO(str(root / "annotations" / "instances_train2017.json"))
    for keep_empty in (True, False):
        (manifest,) = read(root, keep_empty=keep_empty)[0].manifests
        expected = {}
        for number in oracle.getImgIds():
            found = {a["category_id"] for a in oracle.loadAnns(oracle.getAnnIds(imgIds=number))}
            if found or keep_empty:
                expected[f"train2017/{number:03}.jpg"] = [int(c in found) for c in sorted(oracle.getCatIds())]
        assert dict(zip(manifest.images, manifest.targets.tolist(), strict=True)) == expected


def test_images_without_annotation_are_left_out_counted_and_told(tmp_path: Path) -> None:
    root = dataset(tmp_path, train=content([image(k) for k in (1, 2, 3, 4)]), val=content())
    reading, _ = read(root)
    assert [len(manifest) for manifest in reading.manifests] == [2, 2]
    assert reading.skipped == {EMPTY: 2}
    (line,) = reading.footnotes
    assert line.startswith("train: images without annotations are skipped, as in the paper (2 of 4 images)")
    kept, _ = read(root, keep_empty=True)
    assert [len(manifest) for manifest in kept.manifests] == [4, 2]
    assert (kept.skipped, kept.footnotes) == ({}, [])


def test_the_real_subset(realdata: Path) -> None:
    reading, findings = read(realdata / "coco2014")
    assert {m.split: m.targets.shape for m in reading.manifests} == {"train": (83, 80), "val": (101, 80)}
    assert reading.manifests[0].labels[:3] == ("person", "bicycle", "car")
    assert reading.manifests[0].images[0].startswith("train2014/COCO_train2014_")
    assert reading.skipped == {EMPTY: 2}
    assert not findings.errors


def test_images_may_lie_one_folder_deeper(tmp_path: Path) -> None:
    reading, _ = read(dataset(tmp_path, "images", train=content()))
    assert reading.manifests[0].images[0] == "images/train2017/001.jpg"


def test_of_several_years_one_is_chosen(tmp_path: Path) -> None:
    for year in ("2014", "2017"):
        dataset(tmp_path, year=year, train=content(), val=content())
    with pytest.raises(DataError, match=r"contains files for multiple years \(2014, 2017\); choose a year with --year"):
        read(tmp_path)
    with pytest.raises(DataError, match=r"no files for year '2015'"):
        read(tmp_path, year="2015")
    reading, _ = read(tmp_path, year="2014")
    assert reading.name == "coco2014"
    assert [manifest.images[0] for manifest in reading.manifests] == ["train2014/001.jpg", "val2014/001.jpg"]
    with pytest.raises(DataError, match="or a custom file with --annotations"):
        read(tmp_path / "elsewhere")


def test_one_own_file(tmp_path: Path) -> None:
    file = tmp_path / "birds.json"
    file.write_text(json.dumps(content()))
    (tmp_path / "photos").mkdir()
    reading, findings = read(tmp_path, annotations=(file,), images=tmp_path / "photos", splits=("dev",))
    (manifest,) = reading.manifests
    assert (reading.name, manifest.split, manifest.root) == ("birds", "val", tmp_path / "photos")
    assert manifest.images == ("001.jpg", "002.jpg")
    assert not findings.warnings


def test_own_files_one_a_split(tmp_path: Path) -> None:
    files = (tmp_path / "val.json", tmp_path / "more.json")
    for file, number in zip(files, (1, 2), strict=True):
        file.write_text(json.dumps(content([image(number)], [annotation(1, number, 3)])))
    reading, _ = read(tmp_path, annotations=files, splits=("val", "train"))
    assert reading.name == tmp_path.name
    assert {m.split: m.images for m in reading.manifests} == {"val": ("001.jpg",), "train": ("002.jpg",)}
    by_name, _ = read(tmp_path, annotations=files)
    assert [m.split for m in by_name.manifests] == ["val", "all"]
    for splits, message in (
        (("train",), "2 files with --annotations, but 1 split with --split"),
        (("train", "train"), "two --annotations files have the same split 'train'"),
        (("train", "../val"), "'../val' is not a split name"),
    ):
        with pytest.raises(UsageError, match=message):
            read(tmp_path, annotations=files, splits=splits)
    with pytest.raises(UsageError, match="--split can only be used with --annotations"):
        read(tmp_path, splits=("train",))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"annotations": [annotation(17, 9, 3)]}, 'annotations[0] (id 17): image_id 9 is not in "images"'),
        ({"annotations": [annotation(17, 1, 77)]}, 'annotations[0] (id 17): category_id 77 is not in "categories"'),
        ({"images": []}, "\"images\" is empty, so split 'train' has no images"),
        (
            {"images": [image(1), image(2), image(1, file_name="x.jpg")]},
            "images[2]: id 1 occurs twice with different content",
        ),
        (
            {"images": [image(1), image(2), image(3, file_name="./001.jpg")]},
            "train2017/001.jpg has two image ids",
        ),
        (
            {"images": [image(1), image(2, file_name="../../x.jpg")]},
            "images[1] (id 2): file_name: '../../x.jpg' is outside",
        ),
        ({"images": [image(1), image(2, file_name="/etc/passwd")]}, "'/etc/passwd' is an absolute path"),
        ({"images": [image(1), image(2, file_name="a\n\x1b[2J")]}, "'a\\n\\x1b[2J' contains a control character"),
        ({"categories": [*CATEGORIES, {"id": 5, "name": "car"}]}, "two categories are named 'car'"),
        ({"categories": [*CATEGORIES, {"id": 3, "name": "bus"}]}, "categories[3]: id 3 occurs twice"),
        ({"images": [image(2**70)]}, "images[0].id"),
    ],
)
def test_a_bad_record_is_one_line_that_names_file_and_record(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    whole = content(annotations=[]) | change if "images" in change else content() | change
    _, findings = read(dataset(tmp_path, train=whole, val=content()))
    (error,) = findings.errors
    assert "instances_train2017.json" in error
    assert said in error
    assert error.isprintable()


def test_no_categories_at_all(tmp_path: Path) -> None:
    _, findings = read(dataset(tmp_path, train=content(annotations=[], categories=[])))
    assert any('"categories" is empty' in error for error in findings.errors)


def test_faults_of_all_files_are_told(tmp_path: Path) -> None:
    root = dataset(tmp_path, train=content(), val=content(annotations=[annotation(1, 8, 3), annotation(2, 9, 77)]))
    (root / "annotations" / "instances_train2017.json").write_text('{"images": [')
    _, findings = read(root)
    assert len(findings.errors) == 4
    assert "instances_train2017.json: invalid JSON" in findings.errors[0]


def test_what_is_odd_but_usable_is_a_warning(tmp_path: Path) -> None:
    whole = content(
        images=[image(1), image(2), image(1)],
        annotations=[annotation(1, 1, 3), annotation(1, 1, 3), annotation(2, 2, 1, bbox=[float("nan")] * 4)],
        categories=[{"id": 1, "name": "person "}, *CATEGORIES[::2]],
    )
    reading, findings = read(dataset(tmp_path, train=whole, val=content()))
    assert not findings.errors
    assert reading.manifests[0].labels == ("person", "car", "toothbrush")
    assert reading.manifests[0].targets.tolist() == [[0, 1, 0], [1, 0, 0]]
    kinds = [line.partition(":")[0] for line in findings.warnings]
    assert kinds == [
        "bbox contains NaN or an infinite number and was ignored",
        "duplicate records were merged",
        "whitespace around label names was stripped",
        "annotation ids are not unique; all annotations were used",
    ]


def test_a_byte_order_mark_changes_nothing(tmp_path: Path) -> None:
    root = dataset(tmp_path, train=content(), val=content())
    before = read(root)[0].manifests[0].digest
    file = root / "annotations" / "instances_train2017.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert read(root)[0].manifests[0].digest == before
    assert np.array_equal(read(root)[0].manifests[0].targets, [[0, 1, 0], [1, 0, 0]])


@pytest.mark.parametrize(
    ("content_of_file", "followed"),
    [("store\n", True), ("store/../store", True), ("../elsewhere", False), ("/etc", False), (".", False), ("", False)],
)
def test_a_link_that_git_wrote_as_a_file_is_followed_inside_the_root(
    tmp_path: Path, content_of_file: str, followed: bool
) -> None:
    root = dataset(tmp_path / "root", train=content())
    (tmp_path / "elsewhere").mkdir()
    (root / "train2017").rename(root / "store")
    (root / "train2017").write_text(content_of_file)
    reading, findings = read(root)
    assert reading.manifests[0].images[0] == ("store/001.jpg" if followed else "train2017/001.jpg")
    assert any("folder named in the file" in line and "train2017" in line for line in findings.warnings) == followed


def test_annotation_ids_that_are_not_unique_are_a_warning_and_all_count(tmp_path: Path) -> None:
    whole = content(annotations=[annotation(17, 1, 3), annotation(17, 2, 1), annotation(17, 2, 90)])
    reading, findings = read(dataset(tmp_path, train=whole, val=content()))
    assert not findings.errors
    assert reading.manifests[0].targets.tolist() == [[0, 1, 0], [1, 0, 1]]
    assert [line for line in findings.warnings if line.startswith("annotation ids are not unique")]


@pytest.mark.parametrize(("year", "kept"), [("2014", 1), ("2017", 1), ("", 2), ("2021", 2)])
def test_images_without_labels_are_left_out_of_coco_2014_and_2017_alone(tmp_path: Path, year: str, kept: int) -> None:
    one_empty = content(annotations=[annotation(1, 1, 3)])
    reading, _ = read(dataset(tmp_path, year=year, train=one_empty))
    assert len(reading.manifests[0]) == kept
    assert reading.skipped == ({EMPTY: 1} if kept == 1 else {})


def test_lvis_has_verified_negatives_and_the_rest_is_unknown(tmp_path: Path) -> None:
    """Each target by the definition, one image and category at a time."""
    rng = np.random.default_rng(0)
    (tmp_path / "annotations").mkdir()
    images, annotations, truth = [], [], {}
    for number in range(1, 9):
        codes = rng.integers(-1, 2, 3)
        folder = "train2017" if number % 2 else "val2017"
        negative = [c["id"] for c, code in zip(CATEGORIES, codes, strict=True) if code == 0]
        url = f"http://images.cocodataset.org/{folder}/{number:012}.jpg"
        images.append({"id": number, "coco_url": url, "neg_category_ids": negative, "width": 4, "height": 4})
        positive = [c["id"] for c, code in zip(CATEGORIES, codes, strict=True) if code == 1]
        annotations += [annotation(1000 * number + c, number, c) for c in positive]
        truth[f"{folder}/{number:012}.jpg"] = {c["name"]: code for c, code in zip(CATEGORIES, codes, strict=True)}
    (tmp_path / "annotations/lvis_v1_train.json").write_text(json.dumps(content(images, annotations)))
    (tmp_path / "annotations/lvis_v1_image_info_test_dev.json").write_text(json.dumps(content(images, [])))
    reading, findings = read(tmp_path)
    (manifest,) = reading.manifests
    assert (manifest.split, findings.errors) == ("train", [])
    for image, row in zip(manifest.images, manifest.targets.tolist(), strict=True):
        assert dict(zip(manifest.labels, row, strict=True)) == truth[image]
    assert len(manifest) == 8


def test_a_negative_category_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    whole = content([image(1, neg_category_ids=[5])], [])
    (tmp_path / "annotations/lvis_v1_val.json").write_text(json.dumps(whole))
    _, findings = read(tmp_path)
    assert 'image with id 1: neg_category_ids contains 5, which is not in "categories"' in findings.errors[0]


GROUP = [
    {"id": 0, "name": "pets", "supercategory": "none"},
    {"id": 1, "name": "cat", "supercategory": "pets"},
    {"id": 2, "name": "dog", "supercategory": "pets"},
]


def roboflow(root: Path, **parts: list[Any]) -> Path:
    for folder, found in parts.items():
        (root / folder).mkdir()
        (root / folder / "_annotations.coco.json").write_text(
            json.dumps(content([image(1), image(2)], found, categories=GROUP))
        )
        for name in ("001.jpg", "002.jpg"):
            (root / folder / name).touch()
    return root


def test_folders_of_splits_have_their_own_files_and_the_group_is_no_label(tmp_path: Path) -> None:
    reading, findings = read(roboflow(tmp_path, train=[annotation(1, 1, 1)], valid=[annotation(1, 2, 2)]))
    assert [(m.split, m.labels, m.images) for m in reading.manifests] == [
        ("train", ("cat", "dog"), ("train/001.jpg", "train/002.jpg")),
        ("val", ("cat", "dog"), ("valid/001.jpg", "valid/002.jpg")),
    ]
    assert [m.targets.tolist() for m in reading.manifests] == [[[1, 0], [0, 0]], [[0, 0], [0, 1]]]
    assert findings.warnings == ["a category that only groups other categories was not used as a label: pets"]


def test_a_group_with_an_annotation_in_any_split_is_a_label_of_all(tmp_path: Path) -> None:
    reading, _ = read(roboflow(tmp_path, train=[annotation(1, 1, 1)], valid=[annotation(1, 2, 0)]))
    assert {m.labels for m in reading.manifests} == {("pets", "cat", "dog")}


def test_a_single_file_is_one_split_and_absolute_names_go_by_their_ends(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images/default").mkdir(parents=True)
    (tmp_path / "images/default/001.jpg").touch()
    whole = content([image(1, file_name="/content/drive/default/001.jpg")], [annotation(1, 1, 3)])
    (tmp_path / "annotations/instances_default.json").write_text(json.dumps(whole))
    reading, findings = read(tmp_path)
    assert [(m.split, m.images) for m in reading.manifests] == [("all", ("images/default/001.jpg",))]
    assert reading.source["annotated_names"] == {
        "images/default/001.jpg": "images/default//content/drive/default/001.jpg"
    }
    assert findings.warnings == [
        "names were matched to files with a different spelling: "
        "/content/drive/default/001.jpg matched images/default/001.jpg"
    ]
    assert read(tmp_path / "annotations/instances_default.json")[0].manifests[0].images == manifest_images(reading)


def manifest_images(reading: Reading) -> tuple[str, ...]:
    return reading.manifests[0].images


def test_names_end_with_the_split_and_two_of_one_split_are_an_error(tmp_path: Path) -> None:
    for name in ("zhiyuan_objv2_train", "zhiyuan_objv2_val", "captions_val2017"):
        (tmp_path / f"{name}.json").write_text(json.dumps(content()))
    reading, findings = read(tmp_path)
    assert ([m.split for m in reading.manifests], findings.errors) == (["train", "val"], [])
    (tmp_path / "other_val.json").write_text(json.dumps(content()))
    _, findings = read(tmp_path)
    assert (
        "the file belongs to the same split 'val' as other_val.json; keep only one of the two files"
        in findings.errors[0]
    )
