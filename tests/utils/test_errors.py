"""Errors, names made safe to print, and the collector of findings."""

from __future__ import annotations

import pickle

import pytest

from mlrec.utils import errors
from mlrec.utils.errors import ConfigError, DataError, MlrecError, ValidationReport, counted, nearest, printable


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.MlrecError, 1),
        (errors.DataError, 1),
        (errors.PredictionsError, 1),
        (errors.ModelError, 1),
        (errors.RunError, 1),
        (errors.UsageError, 2),
        (errors.ConfigError, 2),
    ],
)
def test_every_error_is_a_value_error_with_its_exit_code(kind: type[MlrecError], code: int) -> None:
    assert issubclass(kind, ValueError)
    assert kind.exit_code == code


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ü 名.jpg", "plain ü 名.jpg"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("half \ud800", "half \\ud800"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("/" + "x" * 300 + "/name", "/" + "x" * 99 + "…" + "x" * 95 + "/name"),
    ],
)
def test_names_are_printed_on_one_safe_line(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(text).isprintable()


def test_an_error_is_one_safe_line_and_each_further_argument_another_line() -> None:
    error = DataError("a\x1b[31m\nb.jpg: '\u202egpj' \ud800", "  c\r.jpg")
    assert str(error) == "a\\x1b[31m\\nb.jpg: '\\u202egpj' \\ud800\n  c\\r.jpg"
    assert str(DataError(f"d.csv: {error}")).isprintable()
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_a_long_name_hides_neither_the_place_nor_the_fix() -> None:
    line = str(DataError(f"train.csv: line 3: '{'x' * 100_000}' is not 1, 0 or -1; correct the cell"))
    assert len(line) == errors.LONGEST_LINE + 1
    assert line.startswith("train.csv: line 3: 'xxx")
    assert line.endswith("xxx' is not 1, 0 or -1; correct the cell")


@pytest.mark.parametrize(
    ("name", "hint"), [("Dog", "; did you mean 'dog'?"), (" cat ", "; did you mean 'cat'?"), ("zebra", "")]
)
def test_the_nearest_known_name_is_offered(name: str, hint: str) -> None:
    assert nearest(name, ["dog", "cat", "person"]) == hint


def test_one_error_is_one_line() -> None:
    findings = ValidationReport()
    findings.raise_errors("nothing wrong", "log")
    findings.error("a\n.xml: object 1", "class 'Dog\x07' is unknown")
    with pytest.raises(DataError) as caught:
        findings.raise_errors("heading", "log")
    assert str(caught.value) == "a\\n.xml: object 1: class 'Dog\\x07' is unknown"


@pytest.mark.parametrize(("count", "last"), [(3, "  (list: X.log)"), (14, "  ... and 4 more (full list: X.log)")])
def test_several_errors_are_a_heading_and_up_to_ten_lines(count: int, last: str) -> None:
    findings = ValidationReport()
    for k in range(count):
        findings.error(f"line {k}", "wrong\nindeed"[:5])
    with pytest.raises(ConfigError) as caught:
        findings.raise_errors("file cannot be used", "X.log", ConfigError)
    heading, *lines = str(caught.value).splitlines()
    assert heading == f"file cannot be used: {count} errors"
    assert lines == [f"  line {k}: wrong" for k in range(min(count, 10))] + [last]


def test_errors_without_a_log_name_no_file() -> None:
    findings = ValidationReport()
    for k in range(12):
        findings.error("here", f"{k}")
    with pytest.raises(DataError) as caught:
        findings.raise_errors("heading", "")
    assert str(caught.value).splitlines()[-1] == "  ... and 2 more"


def test_warnings_are_one_line_a_kind_with_count_and_first_record() -> None:
    findings = ValidationReport()
    for name in ("b.jpg", "a.jpg", "c\n.jpg"):
        findings.warn("listed twice", name)
    findings.warn("no object", "d\x1b.xml")
    assert findings.warnings == ["listed twice: 3 times, first b.jpg", "no object: d\\x1b.xml"]
    assert not findings.errors


@pytest.mark.parametrize(
    ("number", "words"), [(0, "0 images"), (1, "1 image"), (2, "2 images"), (1000, "1,000 images"), (-1, "-1 images")]
)
def test_a_number_has_its_noun_in_the_right_form(number: int, words: str) -> None:
    assert counted(number, "image") == words
    assert counted(number, "loader process", "loader processes") == words.replace("image", "loader process").replace(
        "processs", "processes"
    )
