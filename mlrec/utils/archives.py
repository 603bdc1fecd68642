"""Safe unpacking of tar and zip archives.

Only regular files inside the target folder are unpacked, up to a size limit.
"""

from __future__ import annotations

import re
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from mlrec.utils.errors import DataError

BLOCK = 1 << 20
NOT_UNPACKED = "so the archive may be unsafe and was not unpacked; check the source of the archive"


def unpack(archive: Path, folder: Path, limit: int) -> int:
    """Unpack an archive. Owners, permissions and times are not restored.

    Args:
        archive: Zip file, or tar file with or without compression.
        folder: Folder in which to unpack the archive.
        limit: Maximum total size of all members in bytes.

    Returns:
        Number of bytes written.

    Raises:
        DataError: The archive is damaged, is larger than `limit` bytes when unpacked, or contains a link, a device, or
            a path that is absolute, contains "..", or has an invalid character. Files written before the error remain
            in `folder`.
    """
    written = 0
    try:
        for name, content in _members(archive):
            target = folder.joinpath(*_safe_parts(name, archive))
            if content is None:
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with content, target.open("wb") as stream:
                while block := content.read(BLOCK):
                    written += len(block)
                    if written > limit:
                        raise DataError(
                            f"{archive}: the unpacked size exceeds {limit:,} bytes; unpack the archive manually"
                        )
                    stream.write(block)
    # zipfile raises NotImplementedError for an unknown compression method, and RuntimeError for an encrypted file.
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{archive}: the archive is damaged ({error}); download it again") from error
    return written


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield the name and an open stream for each member; the stream is None for a folder."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened_zip:
            for entry in opened_zip.infolist():
                kind = entry.external_attr >> 28  # upper bits of the Unix mode: 8 is a regular file, 4 a folder
                if kind not in (0, 4, 8):
                    raise DataError(f"{archive}: the member {entry.filename} is a link or a device, {NOT_UNPACKED}")
                if entry.is_dir():
                    yield entry.filename, None
                else:
                    yield entry.filename, opened_zip.open(entry)
        return
    with tarfile.open(archive) as opened_tar:
        for member in opened_tar:
            if not (member.isfile() or member.isdir()):
                raise DataError(f"{archive}: the member {member.name} is a link or a device, {NOT_UNPACKED}")
            yield member.name, opened_tar.extractfile(member)


def _safe_parts(name: str, archive: Path) -> tuple[str, ...]:
    parts = PurePosixPath(name).parts
    if name.startswith("/") or "\\" in name or ".." in parts or re.match(r"[A-Za-z]:", name) or not name.isprintable():
        raise DataError(
            f"{archive}: the path {name} is absolute, or contains '..' or an invalid character, {NOT_UNPACKED}"
        )
    return parts


def free_bytes(folder: Path) -> int:
    """Return the free disk space in bytes for a folder that may not exist yet."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    return shutil.disk_usage(existing).free
