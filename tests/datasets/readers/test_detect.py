"""Which kind is recognized, and what is said of a source of none."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets.readers.detect import Detection, describe, detect
from mlrec.datasets.readers.registry import READERS, RECOGNIZERS, reader_of, recognizer_of
from mlrec.utils.errors import DataError, UsageError
from mlrec.workflows.data.prepare import prepare


def always(path: Path) -> str:
    return "it is always that"


def test_every_recognizer_belongs_to_a_reader_and_refuses_an_empty_folder(tmp_path: Path) -> None:
    assert set(RECOGNIZERS) <= set(READERS)
    for kind in RECOGNIZERS:
        assert recognizer_of(kind)(tmp_path) is None
        assert callable(reader_of(kind))


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("labels.csv", "filename,cat\na.jpg,1\n", "a table"),
        ("labels.txt", "image cat\na.jpg 1\n", "image names"),
        ("labels.jsonl", '{"file_name": "a.jpg", "labels": ["cat"]}\n', "JSON Lines"),
        ("train/metadata.csv", "file_name,labels\na.jpg,cat\n", "train/metadata.csv"),
        ("train.csv", "filename,cat\na.jpg,1\n", "a table"),
    ],
)
def test_tables_are_recognized(tmp_path: Path, name: str, text: str, reason: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    detection = detect(tmp_path if "/" in name else file)
    assert detection.kind == "csv"
    assert reason in detection.reason


def test_a_special_kind_goes_before_tables_and_two_special_kinds_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("filename,cat\na.jpg,1\n")
    place = f"{__name__}:always"
    for kind in list(RECOGNIZERS):
        monkeypatch.delitem(RECOGNIZERS, kind)
    monkeypatch.setitem(RECOGNIZERS, "csv", "mlrec.datasets.readers.table_folder:recognizes")
    monkeypatch.setitem(RECOGNIZERS, "yolo", place)
    assert detect(file) == Detection("yolo", "it is always that")
    monkeypatch.setitem(RECOGNIZERS, "coco", place)
    with pytest.raises(UsageError, match="the kind is ambiguous") as caught:
        detect(file)
    for kind in ("yolo", "coco"):
        assert f"mlrec prepare {kind} {file} (it is always that)" in str(caught.value)


def test_what_is_not_a_source_is_named_for_what_it_is(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "book.zip", "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    contents = {
        "manifest.bin": (b"PAR1", "Parquet"),
        "tags.xml": (b"<?xml version='1.0'?>\n<annotations><image/></annotations>", "CVAT XML"),
        "voc.xml": (b"<annotation></annotation>", "VOC XML"),
        "nothing": (b"", "an empty file"),
        "words.md": (b"hello", "a text file (.md) that is not a table"),
        "data.mat": (b"MATLAB 5.0", "a MATLAB file"),
    }
    for name, (content, what) in contents.items():
        (tmp_path / name).write_bytes(content)
        assert describe(tmp_path / name) == what
    assert describe(tmp_path / "book.zip") == "an Excel file"
    photos = tmp_path / "photos"
    photos.mkdir()
    for k in range(12):
        (photos / f"{k}.heic").write_bytes(b"")
    assert describe(photos) == "a folder of 12 .heic files"
    with pytest.raises(
        DataError, match=r"a folder of 12 \.heic files; the kind of dataset was not.*voc2007, voc2012, voc, coco"
    ):
        detect(photos)


def test_the_command_takes_a_kind_a_path_or_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("labels.csv").write_text("filename,cat\na.jpg,1\nb.jpg,0\n")
    for words in (["labels.csv"], ["csv", "labels.csv"]):
        result = CliRunner().invoke(app, ["prepare", *words, "--no-verify"])
        assert result.exit_code == 0, result.output
        assert ("kind csv: a table" in result.output) == (len(words) == 1)
    for words, told in ((["csv"], "PATH is missing"), (["label.csv"], "no such file or folder")):
        result = CliRunner().invoke(app, ["prepare", *words])
        assert isinstance(result.exception, UsageError)
        assert told in str(result.exception)
    Path("csv").mkdir()
    Path("labels.csv").rename("csv/labels.csv")
    result = CliRunner().invoke(app, ["prepare", "csv", "--no-verify"])  # a folder of that name is the PATH
    assert result.exit_code == 0, result.output


def test_images_without_annotations_are_kept_if_the_kind_was_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(RECOGNIZERS, "coco", f"{__name__}:always")
    images = [{"id": k, "file_name": f"{k}.jpg", "width": 8, "height": 8} for k in (1, 2)]
    annotations = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0}]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    (tmp_path / "val2017").mkdir()
    for kind, count in ((None, 2), ("coco", 1)):
        dataset = prepare(kind, tmp_path, out=tmp_path / "data", verify=False)
        assert dataset.info.splits == {"val": count}
