"""Tables of every form that people keep labels in, against rows written by hand or by pandas."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mlrec.datasets.readers.csv_labels import read_csv_labels
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.table_cells import detect_separator
from mlrec.datasets.readers.table_dialect import detect_dialect
from mlrec.utils.errors import DataError, UsageError, ValidationReport
from mlrec.workflows.data.prepare import prepare, preview

ROWS = {"a.jpg": ["cat", "dog"], "b.jpg": ["dog"], "c.jpg": []}
WIDE = pd.DataFrame({"image": list(ROWS), "cat": [1, 0, 0], "dog": [1, 1, 0]})
TARGETS = [[1, 1], [0, 1], [0, 0]]


def read(path: Path, **options: object) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    return read_csv_labels(path, ReadOptions(**options), findings), findings  # type: ignore[arg-type]


def write(folder: Path, text: str, name: str = "labels.csv") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def photograph(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, path.name))
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="JPEG" if path.suffix == ".jpg" else "PNG")
    return path


def check(reading: Reading, findings: ValidationReport) -> None:
    """The three rows of `ROWS`, whatever form they were read from."""
    assert not findings.errors
    (manifest,) = reading.manifests
    assert (manifest.labels, manifest.images) == (("cat", "dog"), tuple(ROWS))
    assert manifest.targets.tolist() == TARGETS


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_any_delimiter(tmp_path: Path, delimiter: str) -> None:
    WIDE.to_csv(tmp_path / "labels.csv", sep=delimiter, index=False)
    check(*read(tmp_path / "labels.csv"))


def test_columns_aligned_with_blanks_a_line_of_the_count_and_a_header_without_its_first_name(tmp_path: Path) -> None:
    check(*read(write(tmp_path, "3\ncat  dog\na.jpg  1  1\nb.jpg 0  1\nc.jpg 0 0\n", "list.txt")))
    check(*read(write(tmp_path, "image cat  dog\na.jpg  1  1\nb.jpg 0  1\nc.jpg 0 0\n", "other.txt")))


def test_a_cell_with_other_delimiters_does_not_hide_that_of_the_header() -> None:
    dialect = detect_dialect("image;labels\na.jpg;x,y\nb.jpg;x\n")
    assert dialect is not None
    assert dialect.delimiter == ";"
    assert detect_dialect("image\na.jpg\n") is None


def test_excel_parquet_and_json_lines(tmp_path: Path) -> None:
    lists = pd.DataFrame({"image": list(ROWS), "labels": list(ROWS.values())})
    WIDE.to_excel(tmp_path / "wide.xlsx", index=False)
    WIDE.to_parquet(tmp_path / "wide.parquet")
    WIDE.astype({"cat": bool, "dog": float}).to_parquet(tmp_path / "types.parquet")
    lists.to_parquet(tmp_path / "lists.parquet")
    lists.to_json(tmp_path / "lists.jsonl", orient="records", lines=True)
    lists.assign(labels=lists.labels.map(", ".join)).to_excel(tmp_path / "lists.xlsx")
    for file in sorted(tmp_path.iterdir()):
        check(*read(file))


@pytest.mark.parametrize(
    "cells",
    [
        ["cat|dog", "dog", ""],
        ["cat; dog", "dog", ""],
        ['"cat,dog"', "dog", ""],
        ["\"['cat', 'dog']\"", "['dog']", "[]"],
        ["['cat' 'dog']", "['dog']", "[]"],  # NumPy's form; Python would read one text, catdog
        ['"[""cat"", ""dog""]"', '"[""dog""]"', "[]"],
        ['"{""choices"": [""cat"", ""dog""]}"', "dog", ""],
    ],
)
def test_a_column_of_names_of_labels(tmp_path: Path, cells: list[str]) -> None:
    lines = [f"{image},{cell}" for image, cell in zip(ROWS, cells, strict=True)]
    check(*read(write(tmp_path, "\n".join(["image,tags", *lines]))))


def test_a_blank_separates_only_if_that_is_clear() -> None:
    assert detect_separator(["a b", "a", "b c", "c", "a c"], "tags") == " "
    assert detect_separator(["red bus", "blue car"], "tags") == ""
    for cells, told in ((["a b", "a"], "--separator ' '"), (["a|b", "c;d"], "--separator '|'")):
        with pytest.raises(DataError, match=r"may|ambiguous") as caught:
            detect_separator(cells, "tags")
        assert told.replace("\\", "") in str(caught.value)


def test_the_separator_that_is_given_is_used(tmp_path: Path) -> None:
    path = write(tmp_path, "image,tags\na.jpg,red bus+car\nb.jpg,car\n")
    assert read(path, separator="+")[0].manifests[0].labels == ("car", "red bus")
    assert read(path, separator=" ")[0].manifests[0].labels == ("bus+car", "car", "red")
    assert read(path, separator="")[0].manifests[0].labels == ("car", "red bus+car")


def test_the_separator_is_detected_in_all_tables_of_a_folder_together(tmp_path: Path) -> None:
    write(tmp_path, "image,tags\na.jpg,haze road\nb.jpg,haze\nc.jpg,road\n", "train.csv")
    write(tmp_path, "image,tags\nd.jpg,road haze\n", "test.csv")  # alone, this may be one label
    reading, findings = read(tmp_path)
    assert not findings.errors
    assert [manifest.labels for manifest in reading.manifests] == [("haze", "road")] * 2
    assert reading.manifests[1].targets.tolist() == [[1, 1]]


def test_example_answers_of_a_competition_are_not_labels(tmp_path: Path) -> None:
    write(tmp_path, "image_name,tags\na,haze road\nb,haze\nc,road\n", "train_v2.csv")
    write(tmp_path, "image_name,tags\nd,haze\n", "sample_submission_v2.csv")
    reading, findings = read(tmp_path)
    assert [(manifest.split, len(manifest)) for manifest in reading.manifests] == [("all", 3)]
    assert any(
        "sample submissions" in warning and "sample_submission_v2.csv" in warning for warning in findings.warnings
    )


def test_a_value_that_means_no_label(tmp_path: Path) -> None:
    path = write(tmp_path, "image,Finding Labels\na.jpg,Mass|Edema\nb.jpg,No Finding\n")
    reading, findings = read(path, no_label_value="No Finding")
    assert (reading.manifests[0].labels, reading.manifests[0].targets.tolist()) == (("Edema", "Mass"), [[1, 1], [0, 0]])
    assert not findings.warnings
    _, findings = read(path)
    assert any("may mean 'no label'" in warning for warning in findings.warnings)
    _, findings = read(path, no_label_value="No Findings")
    assert "did you mean" in findings.errors[0]


def test_blank_cells_of_names(tmp_path: Path) -> None:
    path = write(tmp_path, "image,tags\na.jpg,cat|dog\nb.jpg,\n")
    reading, findings = read(path)
    assert reading.manifests[0].targets.tolist() == [[1, 1], [0, 0]]
    assert any("--empty" in warning for warning in findings.warnings)
    assert read(path, empty="unknown")[0].manifests[0].targets.tolist() == [[1, 1], [-1, -1]]


def test_blank_cells_of_values_are_one_error_until_empty_is_given(tmp_path: Path) -> None:
    path = write(tmp_path, "image,cat,dog\na.jpg,1,\nb.jpg,,0\n")
    (error,) = read(path)[1].errors
    assert "line 2, column 'dog'" in error
    assert "one of 2 blank cells" in error
    assert "--empty" in error
    assert read(path, empty="negative")[0].manifests[0].targets.tolist() == [[1, 0], [0, 0]]
    assert read(path, empty="unknown")[0].manifests[0].targets.tolist() == [[1, -1], [-1, 0]]
    with pytest.raises(UsageError, match="--empty"):
        read(path, empty="zero")


def test_one_row_per_image_and_label(tmp_path: Path) -> None:
    path = write(tmp_path, "image,label\na.jpg,cat\na.jpg,dog\nb.jpg,dog\n")
    reading, findings = read(path)
    assert not findings.errors
    assert reading.manifests[0].images == ("a.jpg", "b.jpg")
    assert reading.manifests[0].targets.tolist() == [[1, 1], [0, 1]]
    assert any("one row per image and label" in line for line in reading.footnotes)


def test_verified_negatives_make_what_was_not_verified_unknown(tmp_path: Path) -> None:
    text = "ImageID,Source,LabelName,Confidence\na,human,cat,1\na,human,dog,0\nb,human,dog,1\n"
    reading, findings = read(write(tmp_path, text))
    assert not findings.errors
    assert reading.manifests[0].targets.tolist() == [[1, 0], [-1, 1]]
    reading, _ = read(write(tmp_path, text.replace(",0\n", ",1\n")))
    assert reading.manifests[0].targets.tolist() == [[1, 1], [0, 1]]
    (error,) = read(write(tmp_path, text + "b,human,dog,0\n"))[1].errors
    assert "'dog' has different values on lines 4 and 5" in error
    (error,) = read(write(tmp_path, text + "b,machine,cat,0.6\n"))[1].errors
    assert "line 5, column 'Confidence': '0.6' is not 0, 1 or -1" in error


@pytest.mark.parametrize("header", ["Image", "image_id", "File Name", "Path", "photo", "id"])
def test_the_column_of_images_has_any_usual_name_and_place(tmp_path: Path, header: str) -> None:
    lines = [f"{cat},{name},{dog}" for name, (cat, dog) in zip(ROWS, TARGETS, strict=True)]
    check(*read(write(tmp_path, "\n".join([f"cat,{header},dog", *lines]))))
    without = [line.replace(".jpg", "") for line in lines]
    reading, _ = read(write(tmp_path, "\n".join([f"cat,{header},dog", *without])))
    assert reading.manifests[0].images == ("a", "b", "c")


def test_of_two_columns_of_images_the_one_whose_files_are_there(tmp_path: Path) -> None:
    path = write(tmp_path, "mask,photograph,cat\nm.png,a.jpg,1\nn.png,b.jpg,0\n")
    with pytest.raises(
        DataError,
        match="multiple columns may contain the image names; choose one of 'mask', 'photograph' with --image-column",
    ):
        read(path)
    photograph(tmp_path / "in" / "a.jpg")
    photograph(tmp_path / "in" / "b.jpg")
    reading, findings = read(path, ignore_columns=("mask",))
    assert not findings.errors
    assert reading.manifests[0].images == ("a.jpg", "b.jpg")
    reading, _ = read(path, image_column="MASK", ignore_columns=("photograph",))
    assert reading.manifests[0].images == ("m.png", "n.png")


def test_a_column_of_texts_among_labels_is_one_error_that_names_the_options(tmp_path: Path) -> None:
    path = write(tmp_path, "filename,site,cat\na.jpg,north,1\nb.jpg,south,0\n")
    (error,) = read(path)[1].errors
    assert "line 2, column 'site': 'north' is not 0, 1 or -1" in error
    assert "--ignore-columns 'site'" in error
    assert "--label-column 'site'" in error
    assert read(path, ignore_columns=("site",))[0].manifests[0].labels == ("cat",)
    assert read(path, label_column="site")[0].manifests[0].labels == ("north", "south")
    with pytest.raises(DataError, match="--ignore-columns: no column 'sit'; did you mean 'site'"):
        read(path, ignore_columns=("sit",))


def test_numbers_of_classes_in_one_column_are_labels_in_the_order_of_their_values(tmp_path: Path) -> None:
    reading, findings = read(write(tmp_path, "Id,Target\na,10 0\nb,2\nc,0 2\nd,0\n"))
    assert not findings.errors
    assert reading.manifests[0].labels == ("0", "2", "10")
    assert reading.manifests[0].targets.tolist() == [[1, 0, 1], [0, 1, 0], [1, 1, 0], [1, 0, 0]]


def test_a_column_of_other_numbers_among_labels_is_one_error(tmp_path: Path) -> None:
    path = write(tmp_path, "filename,age,cat,mask\na.jpg,30,1,m.png\nb.jpg,41,0,n.png\n")
    reading, findings = read(path, image_column="filename", ignore_columns=("age",))
    assert reading.manifests[0].labels == ("cat",)
    assert any("additional image columns were not used" in warning for warning in findings.warnings)
    (error,) = read(path, image_column="filename")[1].errors
    assert "line 2, column 'age': '30'" in error


def test_a_url_means_the_image_that_ends_like_its_path(tmp_path: Path) -> None:
    photograph(tmp_path / "images" / "a b.jpg")
    reading, findings = read(write(tmp_path, "url,cat\nhttps://host/x/a%20b.jpg?width=3,1\n"))
    assert not findings.errors
    assert reading.manifests[0].images == ("images/a b.jpg",)


def test_answers_in_words_are_not_names_of_labels(tmp_path: Path) -> None:
    _, findings = read(write(tmp_path, "filename,cat\na.jpg,yes\nb.jpg,no\n"))
    assert ["is not 0, 1 or -1" in error for error in findings.errors] == [True, True]
    assert "--positive, --negative or --unknown yes" in findings.errors[0]


def test_a_column_of_texts_beside_columns_of_answers_is_not_taken_for_the_labels(tmp_path: Path) -> None:
    path = write(tmp_path, "filename,observer,cat,dog\na.jpg,AB,Yes,No\nb.jpg,CD,no,yes\nc.jpg,AB,No,\n")
    _, findings = read(path)
    assert "--ignore-columns 'observer'" in findings.errors[0]
    words = {"positive": "Yes", "negative": "No", "empty": "unknown"}
    reading, findings = read(path, ignore_columns=("observer",), **words)
    assert not findings.errors
    assert reading.manifests[0].labels == ("cat", "dog")
    assert reading.manifests[0].targets.tolist() == [[1, 0], [0, 1], [0, -1]]


def test_absolute_paths_mean_the_image_that_ends_so(tmp_path: Path) -> None:
    photograph(tmp_path / "images" / "x" / "a.jpg")
    photograph(tmp_path / "images" / "pic.jpg")
    names = ["/content/drive/x/a.jpg", "/data/upload/1/9e3779b1-pic.jpg"]
    reading, findings = read(write(tmp_path, "\n".join(["image,cat", *(f"{name},1" for name in names)])))
    assert not findings.errors
    assert reading.manifests[0].images == ("images/x/a.jpg", "images/pic.jpg")
    reading, _ = read(write(tmp_path, "image,cat\nC:\\photos\\x\\a.jpg,1\n"))
    assert reading.manifests[0].images == ("images/x/a.jpg",)
    reading, _ = read(write(tmp_path, "image,cat\n/data/local-files/?d=images%2Fpic.jpg,1\n"))
    assert reading.manifests[0].images == ("images/pic.jpg",)
    photograph(tmp_path / "images" / "y" / "a.jpg")
    _, findings = read(write(tmp_path, "image,cat\n/content/a.jpg,1\n/nowhere/z.jpg,1\n/../etc/passwd,0\n"))
    assert ["matches 2 images" in error for error in findings.errors] == [True, False, False]


def test_two_absolute_paths_of_one_file_are_an_error(tmp_path: Path) -> None:
    photograph(tmp_path / "a.jpg")
    _, findings = read(write(tmp_path, "image,cat\n/one/a.jpg,1\n/two/a.jpg,1\n"))
    assert any("both refer to the file a.jpg" in error for error in findings.errors)


def test_tables_in_folders_of_splits_name_images_beside_them(tmp_path: Path) -> None:
    for split, name in (("train", "a.jpg"), ("validation", "b.jpg")):
        photograph(tmp_path / split / name)
        (tmp_path / split / "metadata.jsonl").write_text(json.dumps({"file_name": name, "labels": ["cat"]}))
    reading, findings = read(tmp_path)
    assert not findings.errors
    assert {m.split: m.images for m in reading.manifests} == {"train": ("train/a.jpg",), "val": ("validation/b.jpg",)}


def hub_parquet(file: Path, names: list[str | None], labels: list[list[int]]) -> None:
    """A Parquet file as `datasets` writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    for k, name in enumerate(names):
        stream = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), 20 * k + len(file.name), dtype=np.uint8)).save(stream, format="PNG")
        rows.append({"bytes": stream.getvalue(), "path": name})
    features = {
        "image": {"_type": "Image"},
        "labels": {"_type": "Sequence", "feature": {"_type": "ClassLabel", "names": ["dog", "cat", "owl"]}},
    }
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(rows, kind), "labels": pa.array(labels, pa.list_(pa.int64()))})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), file)


def test_images_inside_parquet_are_written_beside_the_manifests(tmp_path: Path) -> None:
    source = tmp_path / "pets"
    hub_parquet(source / "data" / "train-00000-of-00002.parquet", ["a.png", "b.png"], [[0], [0, 1]])
    hub_parquet(source / "data" / "train-00001-of-00002.parquet", ["a.png", "c.png"], [[], [1]])
    hub_parquet(source / "data" / "test-00000-of-00001.parquet", [None, None], [[1], [0]])
    for _ in range(2):  # a second prepare replaces the images of the first
        dataset = prepare(None, source, out=tmp_path / "data")
    train, test = dataset.manifest("train"), dataset.manifest("test")
    assert train.labels == ("dog", "cat", "owl")
    assert train.targets.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 0]]
    assert [Path(image).name for image in train.images] == ["a.png", "b.png", "a.png", "c.png"]
    assert len(test) == 2
    for manifest in (train, test):
        assert manifest.root == tmp_path / "data" / "pets" / "images"
        assert all(manifest.path_of(k).is_file() for k in range(len(manifest)))


def test_a_dry_run_shows_labels_and_samples_and_writes_nothing(tmp_path: Path) -> None:
    for name in ROWS:
        photograph(tmp_path / name)
    WIDE.to_csv(tmp_path / "pets.csv", index=False)
    before = sorted(tmp_path.iterdir())
    dataset = prepare(None, tmp_path / "pets.csv", out=tmp_path / "data", dry_run=True)
    labels, samples = preview(dataset)
    assert [row.cells for row in labels.rows] == [("cat", 1, 2, 0), ("dog", 2, 1, 0)]
    assert [row.cells[:3] for row in samples.rows] == [
        ("all", "a.jpg", "cat, dog"),
        ("all", "b.jpg", "dog"),
        ("all", "c.jpg", "none"),
    ]
    (tmp_path / "a.jpg").unlink()
    dataset = prepare(None, tmp_path / "pets.csv", out=tmp_path / "data", dry_run=True)
    assert any("images are missing" in warning for warning in dataset.info.warnings)
    write(tmp_path, "filename,cat\na.jpg,x\nb.jpg,2\nc.jpg,1\n", "pets.csv")
    with pytest.raises(DataError, match="2 errors"):
        prepare(None, tmp_path / "pets.csv", out=tmp_path / "data", dry_run=True)
    assert sorted(tmp_path.iterdir()) == [file for file in before if file.name != "a.jpg"]


def test_a_missing_package_is_an_error_that_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    WIDE.to_parquet(tmp_path / "labels.parquet")
    WIDE.to_excel(tmp_path / "labels.xlsx")
    for package in ("pyarrow", "pyarrow.parquet", "openpyxl"):
        monkeypatch.setitem(sys.modules, package, None)
    for name in ("labels.parquet", "labels.xlsx"):
        with pytest.raises(DataError, match=r"pip install 'mlrec\[tables\]'"):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.xlsx", "a.parquet"])
def test_a_damaged_file_is_an_error_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04 PAR1 and nothing more")
    with pytest.raises(DataError, match=name) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)
