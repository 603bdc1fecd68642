"""JSON of strangers: read, or told with its place."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from mlrec.datasets.readers import json_file
from mlrec.datasets.readers.json_file import read_json
from mlrec.utils.errors import DataError, ValidationReport


class Box(msgspec.Struct):
    id: int
    name: str = ""
    bbox: list[float] | None = None


class Boxes(msgspec.Struct):
    boxes: list[Box]


def read(path: Path, content: str | bytes) -> tuple[Boxes, ValidationReport]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    findings = ValidationReport()
    return read_json(path, Boxes, findings, forgiven=("bbox",)), findings


@pytest.mark.parametrize(
    "content",
    [
        '{"boxes": [{"id": 1, "name": "\\u00fc", "bbox": [1, 2.5], "other": [[[]]]}], "info": {"boxes": 0, "a": 1}}',
        b"\xef\xbb\xbf" + '{"boxes": [{"id": 1, "name": "ü", "bbox": [1, 2.5]}]}'.encode(),
        '{"info": "the word \\"boxes\\" in a text", "boxes": [{"id": 1, "name": "ü", "bbox": [1, 2.5]}]}',
    ],
)
def test_a_good_file_is_read(tmp_path: Path, content: str | bytes) -> None:
    value, findings = read(tmp_path / "a.json", content)
    assert value == Boxes([Box(1, "ü", [1, 2.5])])
    assert not findings.warnings


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", r"is empty \(0 bytes\)"),
        (" \n", "is empty"),
        ("<!doctype html><html>", "is an HTML page"),
        ("version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        ('{"boxes": [\n{"id": 1}', r"invalid JSON at line 2, column 10: .*\(the file ends too early\)"),
        ('{"boxes": []}\n{"boxes": []}', "invalid JSON at line 2, column 1: Extra data"),
        ('{"boxes": [], "boxes": []}', "key 'boxes' occurs twice in one object"),
        ('{"boxes": [{"id": 1, "name": "a", "name": "b"}]}', "key 'name' occurs twice in one object"),
        ('{"boxes": [], "b\\u006fxes": []}', "key 'boxes' occurs twice in one object"),
        (b"\x1f\x8b\x08", "is a compressed archive"),
        ('{"boxes": [{"id": 1, "name": NaN}]}', "record with id 1: name contains NaN"),
        ('{"boxes": [{"id": Infinity}]}', "id contains NaN or an infinite number"),
        ('{"boxes": [{"id": true}]}', r"boxes\[0\]\.id: Expected `int`, got `bool`"),
        ('{"boxes": [{"id": 1}, {"id": "2"}]}', r"boxes\[1\]\.id: Expected `int`, got `str`"),
        ('{"boxes": [{"id": null}]}', r"boxes\[0\]\.id: Expected `int`, got `null`"),
        ('{"boxes": [{"name": "a"}]}', r"boxes\[0\]: Object missing required field `id`"),
        ('{"boxes": {}}', "boxes: Expected `array`, got `object`"),
        ("{}", "Object missing required field `boxes`"),
        ("[]", "Expected `object`, got `array`"),
        ('{"boxes": [{"id": ' + "9" * 5000 + "}]}", "number that is too long"),
        ('{"boxes": ' + "[" * 200_000, "nested too deeply"),
        (b'{"boxes": [{"id": 1,\n"name": "caf\xe9"}]}', r"not UTF-8 \(byte 0xE9 at offset 33, line 2\)"),
        ('{"boxes": [{"id": 1, "name": "\\ud800"}]}', "record with id 1: name contains a lone surrogate"),
    ],
)
def test_a_bad_file_is_told_in_one_line_with_its_place(tmp_path: Path, content: str | bytes, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path / "a.json", content)
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'}: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_nan_is_forgiven_where_it_does_no_harm(tmp_path: Path, value: str) -> None:
    content = f'{{"boxes": [{{"id": 7, "bbox": [1, {value}]}}, {{"id": 8, "bbox": [1, 2]}}]}}'
    boxes, findings = read(tmp_path / "a.json", content)
    assert boxes == Boxes([Box(7), Box(8, "", [1, 2])])
    (warning,) = findings.warnings
    assert warning.startswith("bbox contains NaN")
    assert warning.endswith("record with id 7: bbox")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"boxes": [\n{"id": 1}', r"invalid JSON at line 2, column 10: the file ends too early .*; download"),
        ('{"boxes": [\n{"id": 1,]', "invalid JSON at line 2, column 10: unexpected character"),
        (b'\xef\xbb\xbf{"boxes": [}', "invalid JSON at line 1, column 12"),
        ('{"boxes": []}\n{"boxes": 1}', "key 'boxes' occurs twice|line 2, column 1"),
        ('{"boxes": [], "boxes": []}', "key 'boxes' occurs twice in one object"),
        ('{"boxes": [{"id": true}]}', r"boxes\[0\]\.id: Expected `int`, got `bool`; correct"),
        ('{"boxes": [{"id": -Infinity}]}', "id contains NaN or an infinite number"),
        ('{"info": ' + "[" * 200_000, "nested too deeply"),
        (b'{"boxes": [{"id": 1,\n"name": "caf\xe9"}]}', "not UTF-8|line 2"),
    ],
)
def test_a_large_file_is_told_without_reading_it_twice(
    content: str | bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_file, "SMALL", 0)
    test_a_bad_file_is_told_in_one_line_with_its_place(tmp_path, content, said)
    test_nan_is_forgiven_where_it_does_no_harm(tmp_path, "NaN")


def test_many_keys_of_which_one_stands_twice_are_told_soon(tmp_path: Path) -> None:
    keys = ", ".join(f'"k{k}": 1' for k in range(100_000))
    with pytest.raises(DataError, match="key 'last' occurs twice"):
        read(tmp_path / "a.json", f'{{"boxes": [], {keys}, "last": 1, "last": 2}}')
