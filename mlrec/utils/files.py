"""The one place that writes and reads files: whole or not at all.

A file appears under its name only when complete: written beside it under a hidden name, flushed to the disk, renamed.
A process killed at any moment leaves the old file or the new one, never half of one, and at most one stale
temporary, which the next writer of that folder removes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any, TypeVar

import msgspec

from mlrec.utils.errors import DataError, MlrecError, UsageError, printable

MODEL_FILE = "model.safetensors"  # in a run, an imported model and an exported bundle alike
T = TypeVar("T")
_TEMPORARY = re.compile(r"^\..+\.tmp-(\d+)$")


@contextlib.contextmanager
def atomic_write(path: Path, needed: int = 0) -> Iterator[IO[bytes]]:
    """Open `path` for writing in binary; it is replaced when the block ends without an error.

    Args:
        path: the file.
        needed: its bytes, as far as they are known beforehand; for the message alone.

    Raises:
        MlrecError: the disk is full or the folder is not writable; names path, bytes needed and bytes free.
    """
    path = Path(path)
    temporary = _temporary(path)
    written = 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
            temporary.unlink(missing_ok=True)  # before free bytes are counted
        raise MlrecError(_cannot_write(path, error, max(needed, written))) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def check_ending(path: Path, endings: Collection[str], flag: str) -> str:
    """Return the lower-case ending of a file to be written, one of `endings`.

    Raises:
        UsageError: another ending: the file would not hold what its name says. Names the endings that exist.
    """
    ending = path.suffix.lower()
    if ending not in endings:
        raise UsageError(f"{flag} {printable(path)}: unknown ending; write a {', '.join(endings)} file")
    return ending


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with atomic_write(path, len(content)) as stream:
        stream.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, its line ends as they are, whole or not at all."""
    write_bytes(path, text.encode("utf-8", "surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON. NaN is refused: an undefined number is `null`.

    What is no text, bytes of a path that is not UTF-8, becomes a question mark: the file must stay readable.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode("utf-8", "replace"))


@contextlib.contextmanager
def writing(path: Path, needed: int = 0) -> Iterator[None]:
    """Have a write to `path` that fails in the block say so, for files that grow where they stand.

    Raises:
        MlrecError: as `atomic_write`.
    """
    try:
        yield
    except OSError as error:
        raise MlrecError(_cannot_write(path, error, needed)) from error


@contextlib.contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder beside `path` to fill; it takes the place of `path` when the block ends without an error."""
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
    """Give an empty folder next to `path` that is removed when the block ends, unless it was moved elsewhere."""
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
    """Give a copy of the folder `path` to change; it takes the place of `path` when the block ends without an error.

    The copy shares the files: they are to be replaced or removed, as this module does, not written into.
    """
    path = Path(path).resolve()  # of a link the folder is changed, not the link
    with replace_folder(path) as folder:
        shutil.copytree(path, folder, symlinks=True, copy_function=link_or_copy, dirs_exist_ok=True)
        yield folder


def remove_folder(path: Path) -> None:
    """Remove a folder with all that it holds; a process killed meanwhile leaves no half of it under its name."""
    retired = _temporary(path)
    path.rename(retired)
    shutil.rmtree(retired)


def check_name(name: str) -> None:
    """`name` can be that of a folder inside another one.

    Raises:
        UsageError: it is empty or hidden, leads elsewhere, or holds what cannot be printed.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
        raise UsageError(f"'{printable(name)}' is no folder name; give a plain one with --name, such as voc2007")


def is_temporary(path: Path) -> bool:
    """Whether this is what a killed writer of this module left."""
    return _TEMPORARY.match(path.name) is not None


def remove_stale(folder: Path) -> None:
    """Remove temporaries whose writer is gone. A retired folder whose successor never arrived is put back."""
    for entry in folder.iterdir() if folder.is_dir() else ():
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


def read_bytes(path: Path, kind: type[MlrecError] = DataError) -> bytes:
    """The content of the regular file `path`; `kind` is raised, in one line, if it cannot be had."""
    path = Path(path)
    check_regular(path, kind)
    try:
        return path.read_bytes()
    except OSError as error:
        raise kind(f"{printable(path)}: cannot be read ({error.strerror or error}); check the path") from error


def check_regular(path: Path, kind: type[MlrecError] = DataError) -> None:
    """Raise `kind` for a folder, a device or a pipe: reading those fails, or never ends. What is not there passes."""
    try:
        other = path.exists() and not path.is_file()
    except (OSError, ValueError) as error:
        raise kind(f"{printable(path)}: cannot be read ({printable(error)}); check the path") from error
    if other:
        raise kind(f"{printable(path)}: is not a regular file; give the path of a file")


def read_text(path: Path, kind: type[MlrecError] = DataError) -> str:
    """The text of `path`: UTF-8, with or without a byte order mark, any line ends."""
    raw = read_bytes(path, kind)
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise kind(
            f"{printable(path)}: not UTF-8 (byte 0x{raw[error.start]:02X} at offset {error.start}, line {line}); "
            "save it as UTF-8"
        ) from error


def read_own_json(path: Path, form: type[T], kind: type[MlrecError], remedy: str) -> T:
    """The JSON file `path`, which mlrec itself wrote as a `form`; annotations of strangers have a reader of their own.

    Raises:
        MlrecError: (of `kind`) the file cannot be read or has been changed; ends with `remedy`.
    """
    try:
        return msgspec.json.decode(read_bytes(path, kind), type=form)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise kind(f"{printable(path)}: {printable(error)}; {remedy}") from error


def sha256(path: Path) -> str:
    """The SHA-256 of the file's content, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:  # a file system without links
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
    return f"cannot write {printable(path)}: {reason}{space}; the previous file, if any, is intact"
