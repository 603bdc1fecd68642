"""Own CSV labels: the form, the splits, and one message for each way to get it wrong."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from mlrec.datasets.readers.csv_labels import read_csv_labels
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.utils.errors import DataError, UsageError, ValidationReport

PLAIN = """\
filename,cat,dog,person
a.jpg,1,0,-1
sub/b.jpg,0,1.0,0
c.jpg,0,0,0
"""


def read(path: Path, **options: object) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_csv_labels(path, ReadOptions(**options), findings), findings  # type: ignore[arg-type]


def write(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode())
    return path


def errors(folder: Path, text: str) -> list[str]:
    return read(write(folder, text))[1].errors


def test_the_plain_form_gives_one_split_and_keeps_images_without_a_positive(tmp_path: Path) -> None:
    reading, findings = read(write(tmp_path, PLAIN))
    (manifest,) = reading.manifests
    assert not findings.errors
    assert not findings.warnings
    assert (reading.name, manifest.name, manifest.split, manifest.root) == ("labels", "labels", "all", tmp_path)
    assert manifest.labels == ("cat", "dog", "person")
    assert manifest.images == ("a.jpg", "sub/b.jpg", "c.jpg")
    assert manifest.targets.tolist() == [[1, 0, -1], [0, 1, 0], [0, 0, 0]]


def test_the_column_split_makes_splits_in_the_usual_order(tmp_path: Path) -> None:
    text = "filename,split,cat\na.jpg,test,1\nb.jpg,train,0\nc.jpg,val,1\nd.jpg,train,1\n"
    reading, _ = read(write(tmp_path, text))
    assert {m.split: m.images for m in reading.manifests} == {
        "train": ("b.jpg", "d.jpg"),
        "val": ("c.jpg",),
        "test": ("a.jpg",),
    }
    assert [m.split for m in reading.manifests] == ["train", "val", "test"]
    assert reading.manifests[0].labels == ("cat",)


def test_in_a_folder_each_file_is_a_split(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    folder.mkdir()
    write(folder, "filename,cat,dog\na.jpg,1,0\n", "train.csv")
    write(folder, "filename,dog,cat\nb.jpg,1,0\n", "test.csv")
    write(folder, "what another system keeps about a file", "._train.csv")
    reading, _ = read(folder)
    train, test = reading.manifests
    assert (reading.name, train.split, test.split) == ("pets", "train", "test")
    assert train.root == folder
    assert (train.labels, train.targets.tolist()) == (("cat", "dog"), [[1, 0]])
    assert (test.labels, test.targets.tolist()) == (("dog", "cat"), [[1, 0]])


def test_byte_order_mark_crlf_and_blank_lines_change_nothing(tmp_path: Path) -> None:
    plain, _ = read(write(tmp_path, PLAIN))
    odd, findings = read(write(tmp_path, "\ufeff" + PLAIN.replace("\n", "\r\n") + "\r\n\r\n"))
    assert not findings.errors
    assert odd.manifests[0].digest == plain.manifests[0].digest


def test_the_images_folder_is_the_root(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    reading, _ = read(write(tmp_path, PLAIN), images=tmp_path / "pictures")
    assert reading.manifests[0].root == tmp_path / "pictures"
    with pytest.raises(DataError, match="--images"):
        read(write(tmp_path, PLAIN), images=tmp_path / "none")


def test_chosen_labels_leave_other_columns_alone(tmp_path: Path) -> None:
    path = write(tmp_path, "filename,patient,dog,cat\na.jpg,P-7,1,0\n")
    reading, findings = read(path, labels=("cat", "dog"))
    assert not findings.errors
    assert reading.manifests[0].labels == ("cat", "dog")
    assert reading.manifests[0].targets.tolist() == [[0, 1]]
    with pytest.raises(DataError, match="no column 'dgo'; did you mean 'dog'"):
        read(path, labels=("dgo",))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.jpg,yes,0", "line 3, column 'cat': 'yes' is not 0, 1 or -1"),
        ("b.jpg,0,0.5", "line 3, column 'dog': '0.5' is not 0, 1 or -1"),
        ("b.jpg,nan,0", "'nan' means that the cell is empty"),
        ("b.jpg,2,0", "'2' is not 0, 1 or -1"),
        ("b.jpg,,0", "line 3, column 'cat': the cell is empty; write 0, 1 or -1"),
        (",1,0", "line 3, column 'filename'"),
        ("/etc/hostname,1,0", "'/etc/hostname' is an absolute path"),
        ("../b.jpg,1,0", "is outside the image directory"),
        ("https://host/b.jpg,1,0", "is an absolute path"),
        ("b.jpg,1", "line 3: 2 fields, expected 3"),
    ],
)
def test_a_bad_record_is_named_by_line_and_column(tmp_path: Path, row: str, message: str) -> None:
    (error,) = errors(tmp_path, f"filename,cat,dog\na.jpg,1,0\n{row}\nc.jpg,0,0\n")
    assert message in error


def test_all_faults_are_found_in_one_reading(tmp_path: Path) -> None:
    assert len(errors(tmp_path, "filename,cat\na.jpg,x\nb.jpg,y\n../c.jpg,1\n")) == 3


def test_identical_records_are_taken_once_with_a_warning(tmp_path: Path) -> None:
    reading, findings = read(write(tmp_path, "filename,cat\na.jpg,1\nb.jpg,0\n./a.jpg,1.0\n"))
    assert reading.manifests[0].images == ("a.jpg", "b.jpg")
    assert findings.warnings == [f"duplicate records were merged: {tmp_path}/labels.csv: line 4: a.jpg"]


def test_contradicting_records_are_an_error_that_names_both_lines(tmp_path: Path) -> None:
    (error,) = errors(tmp_path, "filename,split,cat\na.jpg,train,1\nb.jpg,train,0\na.jpg,test,0\n")
    assert "a.jpg has different labels on lines 2 and 4; keep only one of them" in error


def test_an_odd_split_name_is_refused(tmp_path: Path) -> None:
    (error,) = errors(tmp_path, "filename,split,cat\na.jpg,../train,1\n")
    assert "line 2, column 'split': '../train' is not a valid split name" in error


def test_a_table_without_a_column_of_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image column found; choose one of 'cat', 'dog' with --image-column"):
        read(write(tmp_path, "cat,dog\n1,0\n0,1\n"))


def test_a_table_without_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no label column"):
        read(write(tmp_path, "filename,split\na.jpg,train\n"))


def test_a_column_split_in_a_folder_of_splits_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "filename,split,cat\na.jpg,val,1\n", "train.csv")
    with pytest.raises(DataError, match="each file in this folder is a split"):
        read(tmp_path)


def test_an_empty_folder_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"<split>\.csv"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["coco2014_train_8208", "voc2007_test", "voc2007_trainval"])
def test_complete_label_tables_are_read_as_they_stand(realdata: Path, name: str) -> None:
    path = realdata / "labels" / f"{name}_labels.csv"
    reading, findings = read(path)
    with path.open() as stream:
        header, *rows = csv.reader(stream)
    (manifest,) = reading.manifests
    assert not findings.errors
    assert list(manifest.labels) == header[1:]
    assert list(manifest.images) == [row[0] for row in rows]
    assert np.array_equal(manifest.targets, np.array([row[1:] for row in rows], dtype=int))


def read_text_of(folder: Path, text: str, **options: object) -> tuple[Reading, ValidationReport]:
    return read(write(folder, text), **options)


MINUS_ONE = "filename,bus,car\n1.jpg,1,-1\n2.jpg,-1,1\n"


def test_a_table_of_1_and_minus_1_is_an_error_that_names_both_ways_out(tmp_path: Path) -> None:
    (error,) = errors(tmp_path, MINUS_ONE)
    assert error.startswith(f"{tmp_path}/labels.csv: ")
    assert "--negative -1 or --unknown -1" in error
    assert len(errors(tmp_path, MINUS_ONE.replace("-1", "-1.0"))) == 1


@pytest.mark.parametrize(
    ("options", "targets"),
    [({"negative": "-1"}, [[1, 0], [0, 1]]), ({"unknown": "-1"}, [[1, -1], [-1, 1]])],
)
def test_a_table_of_1_and_minus_1_is_read_as_the_option_says(
    tmp_path: Path, options: dict[str, str], targets: list[list[int]]
) -> None:
    for text in (MINUS_ONE, MINUS_ONE.replace("-1", "-1.0")):
        reading, findings = read_text_of(tmp_path, text, **options)
        assert not findings.errors
        assert reading.manifests[0].targets.tolist() == targets


def test_one_0_anywhere_in_the_tables_makes_minus_1_unknown(tmp_path: Path) -> None:
    write(tmp_path, "filename,bus,car\n1.jpg,1,0\n", "train.csv")
    write(tmp_path, "filename,bus,car\n2.jpg,1,-1\n", "test.csv")
    reading, findings = read(tmp_path)
    assert not findings.errors
    assert reading.manifests[1].targets.tolist() == [[1, -1]]


def test_other_values_mean_what_the_options_say(tmp_path: Path) -> None:
    text = "filename,bus,car,cat\n1.jpg,True,9,no\n2.jpg,FALSE,1,-1\n"
    reading, findings = read_text_of(tmp_path, text, unknown="9.0", negative="No")
    assert not findings.errors
    assert reading.manifests[0].targets.tolist() == [[1, -1, 0], [0, 1, -1]]
    wrong = (
        ({"negative": "9", "unknown": "9.0"}, "choose a different value for one of them"),
        ({"unknown": "1"}, "means positive"),
        ({"positive": "0"}, "always means negative"),
    )
    for one, other in wrong:
        with pytest.raises(UsageError, match=other):
            read_text_of(tmp_path, text, **one)


def test_0_beside_a_negative_minus_1_is_a_warning(tmp_path: Path) -> None:
    text = MINUS_ONE + "3.jpg,0,1\n"
    _, findings = read_text_of(tmp_path, text, negative="-1")
    assert [warning for warning in findings.warnings if "--unknown 0" in warning]
    reading, findings = read_text_of(tmp_path, text, negative="-1", unknown="0")
    assert not findings.warnings
    assert reading.manifests[0].targets.tolist() == [[1, 0], [0, 1], [-1, 1]]


def test_columns_named_like_metadata_are_left_out_with_a_warning_that_names_them(tmp_path: Path) -> None:
    text = "filename,is_night,fold,bus,Width,patient_id,car\n1.jpg,1,0,1,640,7,0\n2.jpg,0,1,0,480,8,1\n"
    reading, findings = read_text_of(tmp_path, text)
    assert reading.manifests[0].labels == ("bus", "car")
    assert reading.manifests[0].targets.tolist() == [[1, 0], [0, 1]]
    (warning,) = findings.warnings
    assert warning.endswith(": is_night, fold, Width, patient_id")
    reading, findings = read_text_of(tmp_path, text, labels=("fold", "is_night", "bus"))
    assert reading.manifests[0].targets.tolist() == [[0, 1, 1], [1, 0, 0]]
    assert not findings.warnings


@pytest.mark.parametrize(
    "name",
    ["Patient ID", "patientId", "Image Index", "img_width", "Original-Height", "imageid", "isLabelled", "IS_DAY"],
)
def test_metadata_is_known_in_any_case_and_with_any_separator(tmp_path: Path, name: str) -> None:
    reading, findings = read_text_of(tmp_path, f"filename,{name},bus,island,candid\n1.jpg,1,1,0,1\n2.jpg,0,0,1,1\n")
    assert reading.manifests[0].labels == ("bus", "island", "candid")
    (warning,) = findings.warnings
    assert warning.endswith(f": {name}")


def test_flags_are_labels_if_there_are_no_others(tmp_path: Path) -> None:
    reading, _ = read_text_of(tmp_path, "filename,is_cat,is_dog,id\na.jpg,1,0,1\nb.jpg,0,1,0\n")
    assert reading.manifests[0].labels == ("is_cat", "is_dog")
    with pytest.raises(DataError, match=r"no label column.*--labels accepts columns named like metadata: id"):
        read_text_of(tmp_path, "filename,id\na.jpg,1\n")


def test_a_column_split_of_numbers_names_no_splits_unless_they_are_mapped(tmp_path: Path) -> None:
    text = "filename,split,cat\na.jpg,0,1\nb.jpg,0,0\nc.jpg,1,1\n"
    reading, findings = read_text_of(tmp_path, text)
    assert [(m.split, m.labels, len(m)) for m in reading.manifests] == [("all", ("cat",), 3)]
    (warning,) = findings.warnings
    assert "numeric column 'split' was not used" in warning
    assert "--splits 0=train" in warning
    reading, findings = read_text_of(tmp_path, text, split_names={"0": "train", "1": "test"})
    assert {m.split: m.images for m in reading.manifests} == {"train": ("a.jpg", "b.jpg"), "test": ("c.jpg",)}
    assert not findings.warnings
    reading, findings = read_text_of(tmp_path, text, labels=("split", "cat"))
    assert reading.manifests[0].targets.tolist() == [[0, 1], [0, 0], [1, 1]]


@pytest.mark.parametrize("header", ["", "Unnamed: 0"])
@pytest.mark.parametrize(("numbers", "index"), [("012", True), ("203", True), ("010", False)])
def test_the_index_of_pandas_is_left_out(tmp_path: Path, header: str, numbers: str, index: bool) -> None:
    rows = [f"{number},{name}.jpg,{k % 2}" for k, (number, name) in enumerate(zip(numbers, "abc", strict=True))]
    path = write(tmp_path, "\n".join([f"{header},filename,cat", *rows]))
    if not index:
        _, findings = read(path)
        assert [
            "column 1: the column has no name and does not contain row numbers" in error for error in findings.errors
        ] == [True]
        return
    reading, findings = read(path)
    assert reading.manifests[0].labels == ("cat",)
    assert reading.manifests[0].images == ("a.jpg", "b.jpg", "c.jpg")
    assert ["column of row numbers was skipped" in warning for warning in findings.warnings] == [True]


def test_what_pandas_writes_with_its_index_is_read_as_without(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"filename": ["a.jpg", "b.jpg", "c.jpg"], "cat": [1, 0, 1], "dog": [True, False, True]})
    table.to_csv(tmp_path / "plain.csv", index=False)
    table.to_csv(tmp_path / "labels.csv")
    table.sample(frac=1, random_state=0).sort_values("filename").to_csv(tmp_path / "shuffled.csv")
    digests = {read(tmp_path / f"{name}.csv")[0].manifests[0].digest for name in ("plain", "labels", "shuffled")}
    assert len(digests) == 1
