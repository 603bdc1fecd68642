"""Image names from files of strangers."""

from __future__ import annotations

import pytest

from mlrec.utils.errors import ValidationReport
from mlrec.utils.names import image_name


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a.jpg", "a.jpg"), ("./a//b.jpg", "a/b.jpg"), ("ü [red] x.jpg", "ü [red] x.jpg"), ("a..b/c.jpg", "a..b/c.jpg")],
)
def test_a_good_name_gets_its_one_spelling(name: str, plain: str) -> None:
    findings = ValidationReport()
    assert image_name(name, "f", findings) == plain
    assert not findings.errors


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "empty"),
        (" ", "empty"),
        ("./", "empty"),
        ("/etc/passwd", "absolute"),
        ("C:\\a.jpg", "absolute"),
        ("\\\\host\\a.jpg", "absolute"),
        ("file:///a.jpg", "absolute"),
        ("a/../../b.jpg", "is outside the image directory"),
        ("a\nb.jpg", "control character"),
        ("a\x1b[2J.jpg", "control character"),
        ("a\x00.jpg", "control character"),
        ("a\ud800.jpg", "control character"),
        ("a\u2028b.jpg", "control character"),
        ("é" * 128 + ".jpg", "too long"),
        ("a/" * 2100 + "b.jpg", "too long"),
    ],
)
def test_a_bad_name_is_an_error_that_can_be_printed(name: str, fault: str) -> None:
    findings = ValidationReport()
    image_name(name, "labels.csv: line 2", findings)
    (error,) = findings.errors
    assert fault in error
    assert error.isprintable()
