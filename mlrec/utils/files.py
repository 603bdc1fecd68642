"""Atomic writing and safe reading of files.

Content is written to a hidden temporary file in the same folder, flushed to disk, and renamed when it is complete. If
the process is killed, either the old or the new file remains, never a partial file. At most one temporary file remains;
the next process that writes to the folder removes this file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import threading
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from mlrec.utils.errors import DataError, MlrecError, UsageError

MODEL_FILE = "model.safetensors"  # in runs, imported models and exported bundles
T = TypeVar("T")
_TEMPORARY = re.compile(r"^\..+\.tmp-(\d+)$")
_SHARED_TEMPORARY = re.compile(r"^\..+\.shared-.*-\d+-\d+$")


@contextlib.contextmanager
def atomic_write(path: Path, needed: int = 0, *, shared: bool = False) -> Iterator[IO[bytes]]:
    """Open `path` for binary writing; the file is replaced when the block ends without an error.

    Args:
        path: File to write.
        needed: Number of bytes to write, if known. The error message contains this number, or the number of bytes
            written so far if it is larger.
        shared: Whether other machines write to the same folder at the same time. If so, temporary files of killed
            processes are removed only by `remove_shared_temporary`, because processes on other machines are not
            visible.

    Raises:
        MlrecError: The file cannot be written, for example because the disk is full. The message states the needed and
            the free bytes.

    Example:
        >>> with atomic_write(Path("numbers.bin")) as stream:
        ...     _ = stream.write(bytes(3))
        >>> Path("numbers.bin").stat().st_size
        3
    """
    path = Path(path)
    temporary = _shared_temporary(path) if shared else _temporary(path)
    written = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not shared:
            remove_stale(path.parent)
        with temporary.open("wb") as stream:
            try:
                yield stream
            finally:
                with contextlib.suppress(OSError, ValueError):
                    written = stream.tell()
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # must happen before the free space is measured
        raise MlrecError(_cannot_write(path, error, max(needed, written))) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_ending(path: Path, endings: Collection[str], flag: str) -> str:
    """Return the lower-case extension of an output file, which must be one of `endings`.

    Raises:
        UsageError: The extension is not in `endings`.

    Example:
        >>> check_ending(Path("roc.PNG"), (".png", ".pdf"), "--figure")
        '.png'
    """
    ending = path.suffix.lower()
    if ending not in endings:
        raise UsageError(f"{flag} {path}: unknown extension; expected {', '.join(endings)}")
    return ending


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` atomically."""
    with atomic_write(path, len(content)) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8 with unchanged line endings."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` atomically as indented JSON.

    NaN and infinity raise ValueError; undefined numbers must be None.

    Invalid text, such as a path that is not valid UTF-8, is replaced by question marks to keep the file readable.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode("utf-8", "replace"))


@contextlib.contextmanager
def writing(path: Path, needed: int = 0) -> Iterator[None]:
    """Context manager that converts each `OSError` from writing to `path` into an `MlrecError`.

    Raises:
        MlrecError: See `atomic_write`.
    """
    try:
        yield
    except OSError as error:
        raise MlrecError(_cannot_write(path, error, needed)) from error


@contextlib.contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder, which replaces `path` when the block ends without an error.

    Raises:
        MlrecError: An `OSError` was raised, for example because the disk is full; `path` is unchanged.
    """
    path = Path(path)
    temporary = _temporary(path)
    retired = path.with_name(f".{path.name}.old.tmp-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path.parent)
        temporary.mkdir()
        yield temporary
        if path.exists():
            path.rename(retired)
        temporary.rename(path)
        _sync_folder(path.parent)
    except OSError as error:
        if retired.exists() and not path.exists():
            retired.rename(path)
        raise MlrecError(_cannot_write(path, error, 0)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if path.exists():
            shutil.rmtree(retired, ignore_errors=True)


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder next to `path`; the folder is removed when the block ends.

    The folder is not removed if the block has moved it elsewhere.
    """
    temporary = _temporary(Path(path))
    try:
        temporary.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(temporary.parent)
        temporary.mkdir()
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def changed_folder(path: Path) -> Iterator[Path]:
    """Yield a copy of the folder `path`; the copy replaces `path` when the block ends without an error.

    The files in the copy are hard links: they may be replaced or removed, but must not be modified in place.
    """
    path = Path(path).resolve()  # if the path is a link, replace the target folder instead of the link
    with replace_folder(path) as folder:
        shutil.copytree(path, folder, symlinks=True, copy_function=link_or_copy, dirs_exist_ok=True)
        yield folder


def remove_folder(path: Path) -> None:
    """Remove a folder. If the process is killed, no partial folder remains at `path`."""
    retired = _temporary(path)
    path.rename(retired)
    shutil.rmtree(retired)


def check_name(name: str) -> None:
    """Check that `name` is a valid folder name.

    Raises:
        UsageError: The name is empty or hidden, is a path, or contains unprintable characters.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
        raise UsageError(f"'{name}' is not a valid folder name; set a name such as voc2007 with --name")


def is_temporary(path: Path) -> bool:
    """Return whether a file or folder has a temporary name from this module, except from `shared` writes."""
    return _TEMPORARY.match(path.name) is not None


def remove_stale(folder: Path) -> None:
    """Remove the temporary files and folders of killed processes in `folder`.

    A folder that `replace_folder` had moved away, but not yet replaced, is restored.
    """
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        match = _TEMPORARY.match(entry.name)
        if match is None or _alive(int(match[1])):
            continue
        name, retired, _ = entry.name[1:].rpartition(".old.tmp-")
        if retired and not entry.with_name(name).exists():
            with contextlib.suppress(OSError):
                entry.rename(entry.with_name(name))
                continue
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def remove_shared_temporary(folder: Path) -> None:
    """Remove the temporary files of `atomic_write(..., shared=True)`, after all machines have finished."""
    for entry in folder.iterdir():
        if _SHARED_TEMPORARY.match(entry.name):
            entry.unlink(missing_ok=True)


def file_in(path: Path, name: str) -> Path:
    """Return the path of the file `name` in `path` if `path` is a folder.

    If `path` is not a folder, `path` is returned unchanged.

    Example:
        >>> file_in(Path("."), "labels.json").name, file_in(Path("own.json"), "labels.json").name
        ('labels.json', 'own.json')
    """
    if path.is_dir():
        return path / name
    return path


def folder_of(path: Path) -> Path:
    """Return `path` if `path` is a folder, otherwise the parent folder."""
    if path.is_dir():
        return path
    return path.parent


def read_bytes(path: Path, kind: type[MlrecError] = DataError) -> bytes:
    """Read the regular file `path`; raises an error of class `kind` if the file cannot be read."""
    path = Path(path)
    check_regular(path, kind)
    try:
        return path.read_bytes()
    except OSError as error:
        raise kind(f"{path}: cannot read the file ({error.strerror or error}); check the path") from error


@contextlib.contextmanager
def open_bytes(path: Path, kind: type[MlrecError] = DataError) -> Iterator[IO[bytes]]:
    """Open the regular file `path` for reading in chunks.

    If the file cannot be opened, an error of class `kind` with a one-line message is raised.
    """
    path = Path(path)
    check_regular(path, kind)
    try:
        with path.open("rb") as stream:
            yield stream
    except OSError as error:
        raise kind(f"{path}: cannot read the file ({error.strerror or error}); check the path") from error


def check_regular(path: Path, kind: type[MlrecError] = DataError) -> None:
    """Raise an error of class `kind` if `path` is a folder, a device or a pipe instead of a regular file.

    A missing file is accepted.
    """
    try:
        other = path.exists() and not path.is_file()
    except (OSError, ValueError) as error:
        raise kind(f"{path}: cannot read the file ({error}); check the path") from error
    if other:
        raise kind(f"{path}: not a regular file; pass the path of a file")


def read_text(path: Path, kind: type[MlrecError] = DataError) -> str:
    """Read UTF-8 text, with or without a byte order mark; all line endings become newlines."""
    raw = read_bytes(path, kind)
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise kind(
            f"{path}: not UTF-8 (byte 0x{raw[error.start]:02X} at offset {error.start}, line {line}); save it as UTF-8"
        ) from error


def read_own_json(path: Path, form: type[T], kind: type[MlrecError], remedy: str) -> T:
    """Read a JSON file that mlrec wrote (not for third-party annotations).

    Args:
        path: File to read.
        form: Expected type of the content.
        kind: Class of the error to raise.
        remedy: Last part of the error message, which explains how to fix the problem.

    Raises:
        MlrecError: The file cannot be read, or the content does not match `form`; the error is of class `kind`.
    """
    try:
        return msgspec.json.decode(read_bytes(path, kind), type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise kind(f"{path}: {error}; {remedy}") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def _shared_temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.shared-{platform.node()}-{os.getpid()}-{threading.get_native_id()}")


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Create a hard link to a file, or copy it if the file system does not support hard links."""
    try:
        os.link(source, target)
    except OSError:  # the file system does not support hard links
        shutil.copy2(source, target)


def _alive(pid: int) -> bool:
    return pid == os.getpid() or Path(f"/proc/{pid}").exists()


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system can sync a folder; the file itself is synced
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _cannot_write(path: Path, error: OSError, needed: int) -> str:
    reason = error.strerror or str(error)
    parent = next((folder for folder in path.absolute().parents if folder.exists()), Path("/"))
    try:
        space = f", {needed:,} bytes needed, {shutil.disk_usage(parent).free:,} bytes free"
    except OSError:
        space = ""
    return f"cannot write {path}: {reason}{space}; the previous file, if any, is intact"
