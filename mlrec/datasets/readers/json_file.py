"""Reader for third-party JSON files, with detailed error messages for invalid files.

Files are parsed with msgspec, which reads and validates 335 MB per second. If a key is repeated, msgspec silently keeps
only the last value. The error messages of msgspec contain few details. If msgspec cannot locate an error, the standard
library reads the file again, which is slower but reports the position of the error. Files of up to 20 MB are always
read by both parsers, so that repeated keys are found in every record. In files of more than 20 MB, only repeated keys
at the top level are found.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.files import read_bytes
from mlrec.utils.names import duplicates_in

T = TypeVar("T")

SMALL = 20_000_000  # bytes
_BOM = b"\xef\xbb\xbf"
_BYTE = re.compile(r"\(byte (\d+)\)")
_PLACE = re.compile(r"^(.*?) - at `\$\.?(.*)`$", re.DOTALL)


def read_json(path: Path, kind: type[T], findings: ValidationReport, *, forgiven: Collection[str] = ()) -> T:
    """Read the JSON file `path` as an instance of `kind`.

    Args:
        path: File in UTF-8, with or without a byte order mark.
        kind: Type that msgspec decodes, such as a `msgspec.Struct`; unknown fields in the file are ignored.
        findings: Report that receives warnings.
        forgiven: Keys that may contain NaN or an infinite number. Such a key is ignored with a warning, so `kind`
            must have a default for it.

    Raises:
        DataError: The file cannot be read or is invalid; the message states the file, and the line and column or the
            record.
    """
    data = read_bytes(path).removeprefix(_BOM)
    try:
        if len(data) > SMALL and not _repeats_a_key(data, kind):
            return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        raise DataError(f"{path}: {_told(str(error))}; correct the record") from error
    except msgspec.DecodeError as error:
        if (place := _place_of(str(error), data)) is not None:
            raise _broken(path, data, *place) from error
    except (UnicodeDecodeError, RecursionError):
        pass  # reported below
    value = _read_slowly(path, data, findings, forgiven)
    try:
        return msgspec.json.decode(msgspec.json.encode(value), type=kind)
    except (msgspec.ValidationError, RecursionError, OverflowError, UnicodeEncodeError) as error:
        raise DataError(f"{path}: {_told(str(error))}; correct the record") from error


def _repeats_a_key(data: bytes, kind: type[Any]) -> bool:
    """Return whether a key of the outermost object may occur twice; if False, no key occurs twice."""
    names: tuple[str, ...] = getattr(kind, "__struct_encode_fields__", ())
    return any(data.count(b'"%s"' % name.encode()) > 1 for name in names)


def _place_of(told: str, data: bytes) -> tuple[int, int, str] | None:
    """Return line, column and fault of invalid JSON from the msgspec error.

    The result is None if the cause may be a NaN.
    """
    match = _BYTE.search(told)
    at = int(match[1]) if match else len(data)
    if data[at : at + 1] in (b"N", b"I"):
        return None
    fault = "unexpected character"
    if at >= len(data.rstrip()):
        fault = "the file ends too early"
    return data.count(b"\n", 0, at) + 1, at - data.rfind(b"\n", 0, at), fault


def _broken(path: Path, data: bytes, line: int, column: int, fault: str) -> DataError:
    return DataError(
        f"{path}: invalid JSON at line {line}, column {column}: {fault} (file size: {len(data):,} bytes); download "
        "the file again"
    )


def _read_slowly(path: Path, data: bytes, findings: ValidationReport, forgiven: Collection[str]) -> Any:
    """Return the value without the `forgiven` keys that contain NaN.

    A fault is reported with its position.
    """
    _refuse_other_files(path, data)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: the file is not UTF-8 (byte 0x{data[error.start]:02X} at offset {error.start}, line {line}); "
            "save it as UTF-8"
        ) from error

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            twice = duplicates_in(key for key, _ in pairs)[0]
            raise DataError(f"{path}: key '{twice}' occurs twice in one object; remove the duplicate")
        for key, value in pairs:
            text = isinstance(value, str) and not _encodable(value)
            if not text and not _undefined(value):
                continue
            where = f"{path}: {_named(record)}{key}"
            if text:
                raise DataError(f"{where} contains a lone surrogate, which is not valid text; correct the text")
            if key not in forgiven:
                raise DataError(f"{where} contains NaN or an infinite number; write a finite number")
            findings.warn(f"{key} contains NaN or an infinite number and was ignored", where)
            del record[key]
        return record

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        fault = error.msg
        if error.pos >= len(text.rstrip()):
            fault += " (the file ends too early)"
        raise _broken(path, data, error.lineno, error.colno, fault) from error
    except RecursionError as error:
        raise DataError(f"{path}: the JSON is nested too deeply for an annotation file; check the path") from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: the file contains a number that is too long; correct the number") from error


def _refuse_other_files(path: Path, data: bytes) -> None:
    head = data[:512].lstrip().lower()
    if not head:
        raise DataError(f"{path}: the file is empty ({len(data)} bytes); download it again")
    if head.startswith((b"<!doctype html", b"<html")):
        raise DataError(
            f"{path}: the file is an HTML page (probably a login or error page), not JSON; download it again"
        )
    if head.startswith(b"version https://git-lfs"):
        raise DataError(f"{path}: the file is a Git LFS pointer, not JSON; run 'git lfs pull'")
    if data.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        raise DataError(f"{path}: the file is a compressed archive, not JSON; unpack it")


def _undefined(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    return isinstance(value, list) and any(_undefined(item) for item in value)


def _encodable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)


def _named(record: dict[str, Any]) -> str:
    """Return the name of a record for messages."""
    for key in ("id", "file_name", "name"):
        if isinstance(record.get(key), (int, str)):
            return f"record with {key} {record[key]}: "
    return ""


def _told(text: str) -> str:
    """Move the position in a msgspec error to the front.

    An example of an error is "Expected `int`, got `bool` - at `$.images[3].id`".
    """
    place = _PLACE.match(text)
    return f"{place[2]}: {place[1]}" if place and place[2] else text
