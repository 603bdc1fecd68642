"""CSV files of strangers: what is wrong is told with its line."""

from pathlib import Path

import pytest

from mlrec.datasets.readers.csv_file import read_csv
from mlrec.utils.errors import DataError, ValidationReport


def write(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "labels.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"filename,cat,dog\na.jpg,1,0\nb.jpg,0,-1\n",
        b"\xef\xbb\xbffilename,cat,dog\r\na.jpg,1,0\r\nb.jpg,0,-1\r\n",
        b"filename,cat,dog\ra.jpg,1,0\rb.jpg,0,-1",
        b'"filename","cat","dog"\n"a.jpg","1","0"\n"b.jpg","0","-1"\n',
    ],
)
def test_encodings_line_ends_and_quotes(tmp_path: Path, content: bytes) -> None:
    findings = ValidationReport()
    table = read_csv(write(tmp_path, content), findings)
    assert table.columns == ("filename", "cat", "dog")
    assert table.rows == (["a.jpg", "1", "0"], ["b.jpg", "0", "-1"])
    assert list(table.lines) == [2, 3]
    assert not findings.errors
    assert not findings.warnings


def test_lines_are_those_of_the_file(tmp_path: Path) -> None:
    table = read_csv(write(tmp_path, b'filename,cat\n\n"a\nb.jpg",1\n  \nc.jpg,0\n'), ValidationReport())
    assert table.rows == (["a\nb.jpg", "1"], ["c.jpg", "0"])
    assert list(table.lines) == [3, 6]
    assert table.where(1, 1) == f"{tmp_path}/labels.csv: line 6, column 'cat'"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"filename,cat\n", "no records"),
        (b"filename;cat\na.jpg;1\n", "delimiter seems to be ';'"),
        (b"filename\tcat\na.jpg\t1\n", "a tab"),
        (b"filename\na.jpg\n", "one column"),
        (b"a.jpg,1,0\nb.jpg,0,1\n", "contains data"),
        (b"filename,cat\na.jpg,1\nb\0.jpg,0\n", "line 3: a NUL byte"),
        (b"filename,caf\xe9\na.jpg,1\n", "not UTF-8 (byte 0xE9 at offset 12, line 1)"),
        (b"filename,cat\na.jpg,1\nb.jpg," + b"1" * 200_000, "line 3: field larger than"),
        (b'filename,cat\na.jpg,1\n"b.jpg,0\nc.jpg,1\n', "line 3: unexpected end of data"),
    ],
)
def test_what_makes_the_whole_file_unreadable(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(DataError, match=r"labels\.csv") as caught:
        read_csv(write(tmp_path, content), ValidationReport())
    assert told in str(caught.value)


def test_labels_may_be_numbers_under_a_named_first_column(tmp_path: Path) -> None:
    assert read_csv(write(tmp_path, b"filename,0,1\na.jpg,1,0\n"), ValidationReport()).columns == ("filename", "0", "1")


def test_ragged_records_and_columns_named_twice_are_all_collected(tmp_path: Path) -> None:
    findings = ValidationReport()
    content = b"filename,cat, cat\na.jpg,1\nb.jpg,0,1\nc,jpg,0,5,0,25\n"
    table = read_csv(write(tmp_path, content), findings)
    assert [row[0] for row in table.rows] == ["b.jpg"]
    assert [error.partition("labels.csv")[2] for error in findings.errors] == [
        ": column 'cat' occurs twice; remove or rename one of them",
        ": line 2: 2 fields, expected 3; check the commas in this line",
        ": line 4: 6 fields, expected 3; are decimals written with a comma? use 0.5",
    ]
    assert len(findings.warnings) == 1
