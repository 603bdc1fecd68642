"""The drawn files are COCO as pycocotools understands it, and are drawn once."""

from __future__ import annotations

import contextlib
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from mlrec.datasets.readers.registry import ReadOptions
from mlrec.datasets.readers.scenes import CLASSES, draw_scene
from mlrec.datasets.readers.shapes import draw_shapes, read_shapes
from mlrec.utils.errors import DataError, ValidationReport

IMAGES = {"train": 12, "val": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shapes") / "data"
    draw_shapes(path, seed=5, images=IMAGES)
    return path


def digest(folder: Path) -> str:
    content = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        content.update(str(file.relative_to(folder)).encode())
        content.update(file.read_bytes() if file.is_file() else b"")
    return content.hexdigest()


def coco(folder: Path, split: str) -> COCO:
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(folder / "annotations" / f"instances_{split}2014.json"))


@pytest.mark.parametrize(("split", "number"), [("train", 0), ("val", 1)])
def test_pycocotools_finds_the_scenes_masks_and_boxes(folder: Path, split: str, number: int) -> None:
    truth = coco(folder, split)
    assert len(truth.imgs) == IMAGES[split]
    for k, image in enumerate(truth.loadImgs(truth.getImgIds())):
        scene = draw_scene(np.random.default_rng([5, number, k]))
        found = truth.loadAnns(truth.getAnnIds(imgIds=[image["id"]]))
        assert (folder / f"{split}2014" / image["file_name"]).is_file()
        assert (image["height"], image["width"]) == scene.image.shape[:2]
        assert [truth.cats[a["category_id"]]["name"] for a in found] == [CLASSES[o.label] for o in scene.objects]
        for annotation, thing in zip(found, scene.objects, strict=True):
            assert np.array_equal(truth.annToMask(annotation), thing.mask)
            rows, columns = np.nonzero(thing.mask)
            x, y = columns.min(), rows.min()
            assert annotation["bbox"] == [x, y, columns.max() - x + 1, rows.max() - y + 1]
            assert annotation["area"] == thing.mask.sum()


def test_equal_arguments_draw_equal_files_and_another_seed_others(folder: Path, tmp_path: Path) -> None:
    draw_shapes(tmp_path / "again", seed=5, images=IMAGES)
    draw_shapes(tmp_path / "other", seed=6, images=IMAGES)
    assert digest(tmp_path / "again") == digest(folder)
    assert digest(tmp_path / "other") != digest(folder)


def test_a_smaller_set_is_the_beginning_of_a_larger_one(folder: Path, tmp_path: Path) -> None:
    draw_shapes(tmp_path / "small", seed=5, images={"train": 3, "val": 2})
    for file in (tmp_path / "small").glob("*2014/*.jpg"):
        assert file.read_bytes() == (folder / file.relative_to(tmp_path / "small")).read_bytes()


def test_what_is_drawn_already_is_kept_and_another_seed_replaces_it(tmp_path: Path) -> None:
    draw_shapes(tmp_path / "d", seed=1, images={"train": 1, "val": 1})
    (tmp_path / "d" / "train2014" / "000000.jpg").write_bytes(b"kept")
    draw_shapes(tmp_path / "d", seed=1, images={"train": 1, "val": 1})
    assert (tmp_path / "d" / "train2014" / "000000.jpg").read_bytes() == b"kept"
    draw_shapes(tmp_path / "d", seed=2, images={"train": 1, "val": 1})
    assert (tmp_path / "d" / "train2014" / "000000.jpg").read_bytes() != b"kept"


def test_a_folder_of_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="not a folder written by mlrec prepare shapes"):
        draw_shapes(tmp_path, seed=1, images={"train": 1})
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_the_reader_gives_what_pycocotools_reads(folder: Path) -> None:
    findings = ValidationReport()
    reading = read_shapes(folder, ReadOptions(seed=5), findings)
    assert (reading.name, reading.source["kind"]) == ("shapes", "shapes")
    assert not findings.errors
    assert [(m.split, len(m)) for m in reading.manifests] == [("train", 12), ("val", 6)]
    for manifest in reading.manifests:
        truth = coco(folder, manifest.split)
        assert manifest.labels == CLASSES
        for k, image in enumerate(truth.loadImgs(truth.getImgIds())):
            assert manifest.images[k] == f"{manifest.split}2014/{image['file_name']}"
            named = {a["category_id"] - 1 for a in truth.loadAnns(truth.getAnnIds(imgIds=[image["id"]]))}
            assert set(np.nonzero(manifest.targets[k])[0].tolist()) == named
