"""Layouts as other programs and people write them: each is read correctly, or the error states what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlrec.datasets.image_paths import ImageIndex
from mlrec.datasets.readers.detect import detect
from mlrec.datasets.readers.registry import Reading, ReadOptions, reader_of
from mlrec.utils.errors import DataError, ValidationReport


def tree(root: Path, images: str, **files: str) -> Path:
    """Write empty images and the text files; `__` in a name is a slash."""
    for name in images.split():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    for name, text in files.items():
        file = root / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def read(path: Path, **options: object) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    reader = reader_of(detect(path).kind)
    return reader(path, ReadOptions(**options), findings), findings  # type: ignore[arg-type]


def positives(reading: Reading) -> dict[str, dict[str, list[str]]]:
    return {
        manifest.split: {
            Path(image).name: [label for label, value in zip(manifest.labels, row, strict=True) if value == 1]
            for image, row in zip(manifest.images, manifest.targets.tolist(), strict=True)
        }
        for manifest in reading.manifests
    }


VECTORS = 'image,target\na.jpg,"[1, 0, 1]"\nb.jpg,"[0, 1, 0]"\n'


def test_lists_of_values_are_not_read_as_label_names(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg b.jpg", labels_dot_csv=VECTORS)
    with pytest.raises(DataError, match=r"one value per label, such as .1, 0, 1.; name the 3 labels .* --labels"):
        read(tmp_path)
    reading, _ = read(tmp_path, labels=("cat", "dog", "bus"))
    assert reading.manifests[0].labels == ("cat", "dog", "bus")
    assert positives(reading) == {"all": {"a.jpg": ["cat", "bus"], "b.jpg": ["dog"]}}
    tree(tmp_path, "", labels_dot_csv=VECTORS.replace("0, 1, 0", "0, 1, -1"))
    with pytest.raises(DataError, match="unknown values"):
        read(tmp_path, labels=("cat", "dog", "bus"))


def test_two_values_per_cell_are_recognized_by_their_order(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg b.jpg", labels_dot_csv='image,target\na.jpg,"[1, 0]"\nb.jpg,"[0, 1]"\n')
    with pytest.raises(DataError, match="one value per label"):
        read(tmp_path)


def test_class_numbers_are_named_by_labels(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg b.jpg", labels_dot_csv='image,label\na.jpg,"[0, 2]"\nb.jpg,[0]\n')
    reading, _ = read(tmp_path, labels=("cat", "dog", "bus"))
    assert reading.manifests[0].labels == ("cat", "dog", "bus")
    assert positives(reading) == {"all": {"a.jpg": ["cat", "bus"], "b.jpg": ["cat"]}}
    with pytest.raises(DataError, match="class number 2 has no name; --labels names the numbers 0 to 1"):
        read(tmp_path, labels=("cat", "dog"))


def test_class_numbers_that_may_start_from_1_cause_a_warning(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg b.jpg", labels_dot_csv="image,label\na.jpg,1|2\nb.jpg,1\n")
    reading, findings = read(tmp_path, labels=("cat", "dog", "bus"))
    assert positives(reading) == {"all": {"a.jpg": ["dog", "bus"], "b.jpg": ["dog"]}}
    assert any("number 0 does not occur" in warning and "1 = dog" in warning for warning in findings.warnings)


def test_a_column_of_single_class_numbers_is_read_on_request(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg b.jpg c.jpg", labels_dot_csv="image,label\na.jpg,0\nb.jpg,1\nc.jpg,2\n")
    assert "if it contains class numbers, use --label-column 'label'" in read(tmp_path)[1].errors[0]
    reading, _ = read(tmp_path, label_column="label")
    assert positives(reading) == {"all": {"a.jpg": ["0"], "b.jpg": ["1"], "c.jpg": ["2"]}}


@pytest.mark.parametrize("blank", ["NaN", "nan", "NA", "null", "<NA>"])
def test_words_for_a_missing_value_are_blank_cells(tmp_path: Path, blank: str) -> None:
    tree(tmp_path, "a.jpg b.jpg", labels_dot_csv=f"image,cat,dog\na.jpg,1,{blank}\nb.jpg,0,1\n")
    assert "--empty negative or --empty unknown" in read(tmp_path)[1].errors[0]
    reading, findings = read(tmp_path, empty="unknown")
    assert reading.manifests[0].targets.tolist() == [[1, -1], [0, 1]]
    assert not findings.errors
    assert read(tmp_path, unknown=blank)[0].manifests[0].targets.tolist() == [[1, -1], [0, 1]]


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nimage;cat;dog\na.jpg;1;0\nb.jpg;0;1\n",  # Excel
        "image;cat;dog\na.jpg;1,0;0,0\nb.jpg;0,0;1,0\n",  # a decimal comma
        "image,cat,dog,\na.jpg,1,0,\nb.jpg,0,1,\n,,,\n,,,\n",  # blank rows and columns at the end
    ],
)
def test_tables_of_spreadsheets(tmp_path: Path, text: str) -> None:
    reading, findings = read(tree(tmp_path, "a.jpg b.jpg", labels_dot_csv=text))
    assert not findings.errors
    assert positives(reading) == {"all": {"a.jpg": ["cat"], "b.jpg": ["dog"]}}


@pytest.mark.parametrize("name", ["labels.csv", "labels.txt"])
def test_a_table_in_utf_16(tmp_path: Path, name: str) -> None:
    tree(tmp_path, "a.jpg b.jpg")
    (tmp_path / name).write_bytes("image\tKöter\na.jpg\t1\nb.jpg\t0\n".encode("utf-16"))
    reading, findings = read(tmp_path / name)
    assert not findings.errors
    assert positives(reading) == {"all": {"a.jpg": ["Köter"], "b.jpg": []}}
    (tmp_path / name).write_bytes("image\tcat\na.jpg\t1\n".encode("utf-16") + b"\x00\xd8")
    with pytest.raises(DataError, match="not valid UTF-16; save it as UTF-8"):
        read(tmp_path / name)


def test_class_numbers_with_commas_are_not_decimals(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg b.jpg", labels_dot_csv='image,label\na.jpg,"1,0"\nb.jpg,"1,2"\n')
    assert positives(read(tmp_path)[0]) == {"all": {"a.jpg": ["0", "1"], "b.jpg": ["1", "2"]}}


def test_split_names_in_file_names_and_image_folders_with_equal_names(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "train/a.jpg train/b.jpg test/images/a.jpg test/images/b.jpg",
        train_labels_dot_csv="image,cat\na.jpg,1\nb.jpg,0\n",
        test_labels_dot_csv="image,cat\na.jpg,0\nb.jpg,1\n",
    )
    reading, findings = read(tmp_path)
    assert not findings.errors
    assert positives(reading) == {"train": {"a.jpg": ["cat"], "b.jpg": []}, "test": {"a.jpg": [], "b.jpg": ["cat"]}}
    assert [manifest.images[0] for manifest in reading.manifests] == ["train/a.jpg", "test/images/a.jpg"]


def test_a_table_of_the_classes_is_skipped(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "train/a.png train/b.png",
        train_dot_csv="id,attribute_ids\na,147 616\nb,147\n",
        classes_dot_csv="attribute_id,attribute_name\n147,red\n616,blue\n",
    )
    reading, findings = read(tmp_path, separator=" ")
    assert positives(reading) == {"train": {"a": ["147", "616"], "b": ["147"]}}
    assert any("tables without an image column were not used" in warning for warning in findings.warnings)
    tree(tmp_path, "", train_dot_csv="x,y\n1,2\n", test_dot_csv="x,y\n1,2\n")
    assert len([error for error in read(tmp_path)[1].errors if "no image column found" in error]) == 3


@pytest.mark.parametrize(
    "value",
    [{"a.jpg": ["cat", "dog"], "b.jpg": []}, [{"img": "a.jpg", "tags": ["cat", "dog"]}, {"img": "b.jpg", "tags": []}]],
)
def test_json_with_one_record_per_image(tmp_path: Path, value: object) -> None:
    tree(tmp_path, "images/a.jpg images/b.jpg", labels_dot_json=json.dumps(value))
    for path in (tmp_path, tmp_path / "labels.json"):
        reading, findings = read(path)
        assert not findings.errors
        assert positives(reading) == {"all": {"a.jpg": ["cat", "dog"], "b.jpg": []}}


@pytest.mark.parametrize("text", ['{"a.jpg": [', '[{"file": "a.jpg"}, 1]', '[{"file": "a.jpg", "file": "b.jpg"}]'])
def test_faults_in_json_records(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="expected a JSON array"):
        read(tree(tmp_path, "a.jpg", labels_dot_json=text) / "labels.json")


def test_objects_of_hugging_face(tmp_path: Path) -> None:
    lines = '{"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "categories": ["cat"]}}\n'
    lines += '{"file_name": "b.jpg", "objects": {"bbox": [], "categories": []}}\n'
    reading, findings = read(tree(tmp_path, "train/a.jpg train/b.jpg", train__metadata_dot_jsonl=lines))
    assert not findings.errors
    assert positives(reading) == {"train": {"a.jpg": ["cat"], "b.jpg": []}}


def test_the_case_of_an_extension_does_not_matter_if_no_file_has_the_exact_name(tmp_path: Path) -> None:
    tree(tmp_path, "x/a.JPG y/b.jpg y/b.JPG", labels_dot_csv="image,cat\na.jpg,1\ny/b.jpg,0\n")
    reading, findings = read(tmp_path)
    assert not findings.errors
    assert ImageIndex(tmp_path).find("a.jpg") == ["x/a.JPG"]
    assert ImageIndex(tmp_path).find("b.jpg") == ["y/b.jpg"]
    assert positives(reading)["all"]["a.jpg"] == ["cat"]


def test_yolo_paths_of_another_machine(tmp_path: Path) -> None:
    yaml = "train: /content/pets/images/train\nval: ../pets/images/val\nnames: [cat, dog]\n"
    box = " .5 .5 .1 .1\n"
    tree(
        tmp_path,
        "images/train/a.jpg images/val/b.jpg",
        data_dot_yaml=yaml,
        labels__train__a_dot_txt=f"1{box}",
        labels__val__b_dot_txt=f"0{box}",
    )
    reading, findings = read(tmp_path)
    assert not findings.errors
    assert positives(reading) == {"train": {"a.jpg": ["dog"]}, "val": {"b.jpg": ["cat"]}}
    (tmp_path / "data.yaml").write_text(yaml + "test: /content/pets/test/images\n")  # not all images
    assert "neither a folder nor an image list" in read(tmp_path)[1].errors[0]


def test_yolo_labels_next_to_the_images(tmp_path: Path) -> None:
    tree(tmp_path, "a.jpg b.jpg", classes_dot_txt="cat\ndog\n", a_dot_txt="1 .5 .5 .1 .1\n", b_dot_txt="")
    assert detect(tmp_path).kind == "yolo"
    assert positives(read(tmp_path)[0]) == {"all": {"a.jpg": ["dog"], "b.jpg": []}}


def test_voc_annotations_in_a_folder_of_each_split(tmp_path: Path) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    xml = f"<annotation><object><name>cat</name>{box}</object></annotation>"
    images = "train/images/a.png test/images/a.png"
    reading, findings = read(tree(tmp_path, images, train__xmls__a_dot_xml=xml, test__xmls__a_dot_xml=xml))
    assert not findings.errors
    assert [manifest.images for manifest in reading.manifests] == [("train/images/a.png",), ("test/images/a.png",)]


def test_coco_ids_in_quotes_are_an_error(tmp_path: Path) -> None:
    value = {
        "images": [{"id": "7", "file_name": "a.jpg"}],
        "annotations": [{"id": "1", "image_id": "7", "category_id": "0"}],
        "categories": [{"id": "0", "name": "cat"}],
    }
    _, findings = read(tree(tmp_path, "images/a.jpg", annotations_dot_json=json.dumps(value)))
    assert any("id" in error and "int" in error for error in findings.errors), findings.errors


def test_open_images_v7(tmp_path: Path) -> None:
    rows = "ImageID,Source,LabelName,Confidence\na,verification,/m/1,1\n"
    tree(tmp_path, "train/a.jpg", **{"oidv7-train-annotations-human-imagelabels_dot_csv": rows})
    assert detect(tmp_path).kind == "openimages"
    assert positives(read(tmp_path)[0]) == {"train": {"a.jpg": ["/m/1"]}}


def test_names_with_joined_labels_cause_a_warning_and_can_be_split(tmp_path: Path) -> None:
    images = tree(tmp_path / "photos", "", beach__a_dot_jpg="one", **{"beach+sunset__b_dot_jpg": "two"})
    table = tree(tmp_path, "", labels_dot_csv="image,tags\na.jpg,beach\nb.jpg,beach+sunset\n") / "labels.csv"
    for path in (images, table):
        assert any("beach+sunset (set --separator '+')" in warning for warning in read(path)[1].warnings)
        reading, findings = read(path, separator="+")
        assert not findings.warnings
        assert positives(reading) == {"all": {"a.jpg": ["beach"], "b.jpg": ["beach", "sunset"]}}


def test_a_license_next_to_class_folders(tmp_path: Path) -> None:
    assert detect(tree(tmp_path, "cat/a.jpg dog/b.jpg", LICENSE_dot_txt="free")).kind == "folders"


def test_an_unknown_layout_names_the_conversion_to_csv(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="CSV file with the columns filename,label and one row per image and label"):
        detect(tree(tmp_path, "a.jpg", a_dot_json='{"shapes": []}'))
