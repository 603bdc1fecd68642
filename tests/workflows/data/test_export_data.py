"""Round trips: what is exported and prepared again is the same dataset, to the digest."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets.dataset import Dataset, Info, write
from mlrec.datasets.export import as_coco, as_csv, as_fiftyone
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.utils.errors import DataError
from mlrec.workflows.data.export_data import export_data
from mlrec.workflows.data.prepare import prepare

LABELS = ("cat, tame", 'the "dog"', "=1+1", "ünïcode", "-1")


def dataset(root: Path, *, unknown: bool = False, boxes: bool = False) -> Path:
    rng = np.random.default_rng(0)
    manifests = []
    for split, size in (("train", 9), ("test", 4)):
        targets = rng.integers(-1 if unknown else 0, 2, (size, 5)).astype(np.int8)
        targets[0] = 0
        names = tuple(f"{split}/a, b {k}.jpg" for k in range(size))
        given = np.ones((size, 4)) if boxes else None
        ids = tuple(f"{name}#0" for name in names) if boxes else ()
        manifests.append(Manifest("odd", split, root, LABELS, names, targets, given, ids))
    path = root / "data/odd"
    path.mkdir(parents=True)
    write(path, Info("odd", {"kind": "csv"}, "paper", list(LABELS), {"train": 9, "test": 4}), manifests)
    return path


def test_csv_brings_back_everything(tmp_path: Path) -> None:
    path = dataset(tmp_path, unknown=True)
    folder, command = export_data(path, out=tmp_path / "out")
    assert command == f"mlrec prepare csv {folder} --images {tmp_path}"
    back = prepare("csv", folder, out=tmp_path / "again", options=ReadOptions(images=tmp_path), verify=False)
    for split in ("train", "test"):
        assert back.manifest(split).digest == Dataset.load(path).manifest(split).digest
        assert back.manifest(split).root == tmp_path


def test_coco_brings_back_everything_and_pycocotools_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = dataset(tmp_path)
    folder, command = export_data(path, format_="coco", out=tmp_path / "out")
    words = [*shlex.split(command)[1:], "--out", str(tmp_path / "again"), "--no-verify"]
    assert CliRunner().invoke(app, words, catch_exceptions=False).exit_code == 0
    back = Dataset.load(tmp_path / "again/out")
    for split in ("train", "test"):
        manifest = Dataset.load(path).manifest(split)
        assert back.manifest(split).root == manifest.root
        assert back.manifest(split).digest == manifest.digest
        coco = COCO(str(folder / f"{split}.json"))
        for k, label in enumerate(LABELS):
            (category,) = coco.getCatIds(catNms=[label])
            positive = {coco.imgs[i]["file_name"] for i in coco.getImgIds(catIds=[category])}
            assert positive == {name for name, t in zip(manifest.images, manifest.targets[:, k], strict=True) if t == 1}
    capsys.readouterr()


def test_a_real_data_set_comes_back(realdata: Path, tmp_path: Path) -> None:
    prepared = prepare("voc2007", realdata / "voc/VOCdevkit", out=tmp_path / "data", verify=False)
    folder, _ = export_data(prepared.path, out=tmp_path / "out")
    options = ReadOptions(images=prepared.manifest("test").root)
    back = prepare("csv", folder, out=tmp_path / "data", name="back", options=options, verify=False)
    assert back.info.splits == prepared.info.splits
    for split in prepared.info.splits:
        assert back.manifest(split).digest == prepared.manifest(split).digest


def test_coco_cannot_express_unknown_labels(tmp_path: Path) -> None:
    path = dataset(tmp_path, unknown=True)
    with pytest.raises(DataError, match=r"has 16 unknown labels, which COCO cannot represent.*--unknown negative"):
        export_data(path, format_="coco", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    folder, _ = export_data(path, format_="coco", out=tmp_path / "out", unknown_as_negative=True, splits=["test"])
    content = json.loads((folder / "test.json").read_text())
    assert len(content["annotations"]) == (Dataset.load(path).manifest("test").targets == 1).sum()
    assert [file.name for file in folder.iterdir()] == ["test.json"]


FORMATS = ["csv", "coco", "imagefolder", "labelstudio", "fiftyone"]


def with_images(root: Path, *, unknown: bool = False) -> Path:
    path = dataset(root, unknown=unknown)
    images = [image for split in ("train", "test") for image in Dataset.load(path).manifest(split).images]
    for number, image in enumerate(images):
        (root / image).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 6), (20 * number, 0, 0)).save(root / image)
    return path


@pytest.mark.parametrize("format_", ["labelstudio", "fiftyone"])
def test_label_studio_and_fiftyone_bring_back_everything(tmp_path: Path, format_: str) -> None:
    path = with_images(tmp_path)
    folder, command = export_data(path, format_=format_, out=tmp_path / "out")  # type: ignore[arg-type]
    assert command == f"mlrec prepare {format_} {folder} --images {tmp_path}"
    back = prepare(format_, folder, out=tmp_path / "again", options=ReadOptions(images=tmp_path))
    assert not [line for line in back.info.warnings if "spelled differently" in line]
    for split in ("train", "test"):
        assert back.manifest(split).digest == Dataset.load(path).manifest(split).digest
        assert back.manifest(split).root == tmp_path


def test_imagefolder_is_what_pandas_reads_with_the_images_next_to_it(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = with_images(tmp_path, unknown=True)
    folder, command = export_data(path, format_="imagefolder", out=tmp_path / "out")
    assert command == f"mlrec prepare csv {folder}"
    for split in ("train", "test"):
        manifest = Dataset.load(path).manifest(split)
        table = pandas.read_csv(folder / split / "metadata.csv")
        assert list(table.columns) == ["file_name", *LABELS]
        assert tuple(table["file_name"]) == manifest.images
        assert (table[list(LABELS)].to_numpy() == manifest.targets).all()
        for name in table["file_name"]:
            assert (folder / split / name).read_bytes() == (tmp_path / name).read_bytes()
    back = prepare("csv", folder, out=tmp_path / "again")
    for split in ("train", "test"):
        manifest, again = Dataset.load(path).manifest(split), back.manifest(split)
        assert again.labels == manifest.labels
        assert again.images == tuple(f"{split}/{image}" for image in manifest.images)
        assert again.targets.tolist() == manifest.targets.tolist()
    (tmp_path / "train" / "a, b 0.jpg").unlink()
    with pytest.raises(DataError, match=r"a, b 0\.jpg: could not copy the file"):
        export_data(path, format_="imagefolder", out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("format_", ["labelstudio", "fiftyone"])
def test_formats_without_unknown_refuse_it(tmp_path: Path, format_: str) -> None:
    with pytest.raises(DataError, match=r"has 16 unknown labels, which .* cannot represent"):
        export_data(dataset(tmp_path, unknown=True), format_=format_, out=tmp_path / "out")  # type: ignore[arg-type]


def test_fiftyone_cannot_tell_images_apart_that_differ_in_their_ending(tmp_path: Path) -> None:
    manifest = Manifest("x", "all", tmp_path, ("cat",), ("a.jpg", "a.png"), np.zeros((2, 1), np.int8))
    with pytest.raises(DataError, match="multiple images have the name 'a' with different extensions"):
        as_fiftyone(manifest)


@pytest.mark.parametrize("format_", FORMATS)
def test_boxes_are_refused(tmp_path: Path, format_: str) -> None:
    with pytest.raises(DataError, match="samples are boxes"):
        export_data(dataset(tmp_path, boxes=True), format_=format_, out=tmp_path / "out")  # type: ignore[arg-type]


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").touch()
    with pytest.raises(DataError, match="already exists"):
        export_data(dataset(tmp_path), out=tmp_path / "out")


def test_a_label_with_the_name_of_a_column_is_refused() -> None:
    manifest = Manifest("x", "all", Path("/x"), ("split",), ("a.jpg",), np.zeros((1, 1), np.int8))
    with pytest.raises(DataError, match="the label 'split' has the same name as a column"):
        as_csv(manifest)
    assert as_coco(manifest)["categories"] == [{"id": 1, "name": "split"}]


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(
        st.text("aZ ,;\"'\t=é中-1", min_size=1, max_size=5).map(str.strip).filter(bool),
        min_size=1,
        max_size=4,
        unique=True,
    ),
    data=st.data(),
)
def test_any_names_survive(tmp_path_factory: pytest.TempPathFactory, labels: list[str], data: st.DataObject) -> None:
    names = data.draw(
        st.lists(
            st.text("ab,\" é'", min_size=1, max_size=6).map(str.strip).filter(bool), min_size=1, max_size=4, unique=True
        )
    )
    targets = np.array(
        data.draw(
            st.lists(
                st.lists(st.sampled_from([1, 0]), min_size=len(labels), max_size=len(labels)),
                min_size=len(names),
                max_size=len(names),
            )
        ),
        np.int8,
    )
    root = tmp_path_factory.mktemp("x")
    (root / "d").mkdir()
    write(
        root / "d",
        Info("d", {}, "paper", labels, {"all": len(names)}),
        [Manifest("d", "all", root, tuple(labels), tuple(names), targets)],
    )
    export_data(root / "d", out=root / "csv")  # raises if it does not come back the same
    export_data(root / "d", out=root / "coco", format_="coco")
