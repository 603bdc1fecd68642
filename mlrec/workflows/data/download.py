"""`mlrec download`: download, check and unpack the official files of a dataset.

Failed downloads can be resumed.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from mlrec.datasets.official_files import OFFICIAL, OfficialDataset, OfficialFile
from mlrec.utils.archives import free_bytes, unpack
from mlrec.utils.errors import DataError, MlrecError, UsageError, nearest
from mlrec.utils.files import remove_stale, replace_folder
from mlrec.utils.progress import SILENT, Progress, Step

logger = logging.getLogger(__name__)
ATTEMPTS = 8  # in a row without a new byte, with 1, 2, 4, ... seconds in between
SECONDS = 60.0  # without a byte
BLOCK = 1 << 20
UNPACKED = 8  # largest accepted ratio of unpacked to packed bytes; COCO's annotations have 5
ARCHIVES = "archives"


def download(
    name: str,
    *,
    out: Path = Path("downloads"),
    url_base: str | None = None,
    keep_archives: bool = False,
    progress: Progress = SILENT,
    wait: Callable[[float], None] = time.sleep,
) -> Path:
    """Download, check and unpack the official files of a dataset; a repeated call resumes the download.

    If the folder of the unpacked dataset already exists, nothing is downloaded or checked.

    Args:
        name: Name of a dataset in `OFFICIAL`.
        out: Folder to write to. Archives are stored in its subfolder `archives`, and the unpacked dataset in a
            subfolder with the name of the dataset.
        url_base: URL of a mirror, or path of a local folder; either must contain the files under their official names.
        keep_archives: Whether to keep downloaded archives after unpacking; files in a local folder are always kept.
        progress: Progress display.
        wait: Function that waits for a given number of seconds; it is called between two attempts.

    Returns:
        Folder of the unpacked dataset.

    Raises:
        UsageError: The name is unknown, `url_base` is invalid, or the files cannot be downloaded automatically. In the
            last case, the message explains how to obtain the files.
        MlrecError: There is not enough disk space, the server does not respond, or the SHA-256 digest of a file
            differs.
    """
    dataset = OFFICIAL.get(name)
    if dataset is None:
        raise UsageError(f"unknown dataset '{name}'; choose one of {', '.join(OFFICIAL)}{nearest(name, OFFICIAL)}")
    logger.info(f"source: {dataset.page}")
    logger.info(f"license: {dataset.licence}")
    if not dataset.files:
        raise UsageError(f"{dataset.note} Then: {_prepare_command(dataset, 'FOLDER')}")
    target = out / name
    if target.exists():
        logger.info(f"{target} already exists; remove this folder to download the dataset again")
        return target
    archives = out / ARCHIVES
    _check_space(dataset, archives, url_base)
    paths = [_checked(file, archives, url_base, progress, wait) for file in dataset.files]
    with replace_folder(target) as folder, progress.task("unpacking", len(paths)) as step:
        for file, path in zip(dataset.files, paths, strict=True):
            unpack(path, folder, file.size * UNPACKED)
            step()
    if not keep_archives and not _is_local(url_base):
        for path in paths:
            path.unlink()
    if dataset.note:
        logger.info(dataset.note)
    return target


def next_command(name: str, folder: Path) -> str:
    """Return the command that prepares a downloaded dataset.

    Example:
        >>> next_command("voc2007", Path("downloads/voc2007"))
        'mlrec prepare voc2007 downloads/voc2007/VOCdevkit'
    """
    return _prepare_command(OFFICIAL[name], str(folder))


def _prepare_command(dataset: OfficialDataset, folder: str) -> str:
    kind, below = dataset.prepare
    return f"mlrec prepare {kind} {Path(folder) / below}"


def _is_local(url_base: str | None) -> bool:
    return url_base is not None and "://" not in url_base


def _check_space(dataset: OfficialDataset, archives: Path, url_base: str | None) -> None:
    packed = sum(file.size for file in dataset.files)
    there = sum(path.stat().st_size for file in dataset.files for path in _own_files(file, archives) if path.exists())
    if _is_local(url_base):
        there = packed
    needed = packed - there + 2 * packed  # images hardly shrink, annotations do
    free = free_bytes(archives)
    if free < needed:
        raise MlrecError(
            f"{archives}: about {needed:,} bytes are needed, but only {free:,} are free; free some disk space"
        )


def _own_files(file: OfficialFile, archives: Path) -> tuple[Path, Path]:
    """Return the paths of the finished file and of the partial download."""
    return archives / file.name, archives / f"{file.name}.part"


def _checked(
    file: OfficialFile, archives: Path, url_base: str | None, progress: Progress, wait: Callable[[float], None]
) -> Path:
    """Return the path of a complete file with the correct SHA-256 digest."""
    if url_base is not None and _is_local(url_base):
        path = Path(url_base) / file.name
        if not path.is_file():
            raise UsageError(f"{path}: no such file; --url-base must be a URL or a folder with the archives")
        _check_digest(path, file, progress)
        return path
    path, part = _own_files(file, archives)
    if path.is_file():
        return path
    archives.mkdir(parents=True, exist_ok=True)
    remove_stale(archives)
    base = url_base or file.folder
    if not base.startswith(("http://", "https://")):
        raise UsageError(f"--url-base {base}: expected an http or https URL, or a folder")
    with part.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise MlrecError(f"{part}: another process is downloading this file; wait until it has finished") from error
        with progress.task(file.name, file.size) as step:
            step(min(stream.tell(), file.size))
            _fetch_all(f"{base.rstrip('/')}/{file.name}", file, stream, step, wait)
        stream.flush()
        try:
            _check_digest(part, file, progress)
        except DataError:
            part.unlink()
            raise
        part.replace(path)
    return path


def _fetch_all(url: str, file: OfficialFile, stream: IO[bytes], step: Step, wait: Callable[[float], None]) -> None:
    """Download the remainder of a file, with retries after connection errors."""
    failures = 0
    while stream.tell() < file.size:
        before = stream.tell()
        reason = "the connection was closed"
        try:
            _fetch_rest(url, file, stream, step)
        except urllib.error.HTTPError as error:
            if error.code < 500 and error.code not in (408, 416, 429):
                raise MlrecError(
                    f"{url}: the server responded with HTTP status {error.code}; use a mirror with --url-base"
                ) from error
            if error.code == 416:
                _restart(stream, step)
            reason = f"HTTP status {error.code}"
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        failures += 1
        if stream.tell() > before:
            failures = 0
        if failures == ATTEMPTS:
            raise MlrecError(
                f"{url}: {reason} ({ATTEMPTS} attempts); run the command again to resume at {stream.tell():,} of "
                f"{file.size:,} bytes, or use a mirror with --url-base"
            )
        if stream.tell() < file.size:
            wait(2.0**failures)


def _fetch_rest(url: str, file: OfficialFile, stream: IO[bytes], step: Step) -> None:
    start = stream.tell()
    headers = {"User-Agent": "mlrec", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http and https only
    with urllib.request.urlopen(request, timeout=SECONDS) as response:  # noqa: S310
        if start and response.status != 206:  # a server without ranges sends the whole file
            _restart(stream, step)
        elif start and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise MlrecError(
                f"{url}: the server sent a different byte range than requested; use a mirror with --url-base"
            )
        while block := response.read(BLOCK):
            if stream.tell() + len(block) > file.size:
                _restart(stream, step)
                raise MlrecError(
                    f"{url}: this is not the official file, because the response is larger than {file.size:,} bytes; "
                    "use a mirror with --url-base"
                )
            stream.write(block)
            step(len(block))


def _restart(stream: IO[bytes], step: Step) -> None:
    step(-stream.tell())
    stream.truncate(0)
    stream.seek(0)


def _check_digest(path: Path, file: OfficialFile, progress: Progress) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as stream, progress.task(f"checking {file.name}", file.size) as step:
        while block := stream.read(BLOCK):
            digest.update(block)
            step(len(block))
    if digest.hexdigest() != file.sha256:
        raise DataError(
            f"{path}: the SHA-256 is {digest.hexdigest()}, but that of the official file is {file.sha256}; download "
            "the file again, or use a different --url-base"
        )
