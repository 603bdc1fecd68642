"""Decode every image of a data set once, on all cores, before anything is trained on it."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlrec.datasets import images
from mlrec.errors import DataError, Findings, printable
from mlrec.progress import Progress

FEW = 64  # images: fewer are decoded here, sooner than workers start
CHUNK = 16


@dataclass(frozen=True)
class Verified:
    """What decoding an image file told.

    Attributes:
        size: width and height of the stored image, or None where it cannot be used.
        digest: SHA-256 of the file.
        fault: why it cannot be used; empty where it can.
        animated: it holds further frames or pages, which are ignored.
    """

    size: tuple[int, int] | None
    digest: str = ""
    fault: str = ""
    animated: bool = False


def verify(root: Path, names: Sequence[str], progress: Progress) -> dict[str, Verified]:
    """Decode the image files `names` below `root`; what each told, by name.

    Small sets are decoded in this process, larger ones by one worker a core. However this ends, no worker stays.
    """
    check = partial(verify_image, root)
    found: dict[str, Verified] = {}
    with progress.task("decoding images", len(names)) as step, _mapping(len(names)) as mapped:
        for name, verified in zip(names, mapped(check, names), strict=True):
            found[name] = verified
            step()
    return found


def verify_image(root: Path, name: str) -> Verified:
    """Read and decode one image file below `root`."""
    path = root / name
    if _leaves(path, root):
        return Verified(None, fault=f"{printable(path)}: is a link that leaves the data set; copy the file there")
    try:
        data = images.read_image_file(path)
        stored = images.decode_bytes(data, path)
    except DataError as error:
        return Verified(None, fault=str(error))
    height, width = stored.pixels.shape[:2]
    return Verified((width, height), hashlib.sha256(data).hexdigest(), animated=stored.animated)


def note_images(
    found: Mapping[str, Verified], stated: Mapping[str, tuple[int, int]], skip_bad: bool, findings: Findings
) -> None:
    """Tell `findings` of unusable images (errors, or warnings with `skip_bad`), animations and wrong stated sizes."""
    for name, verified in found.items():
        if verified.size is None:
            if skip_bad:
                findings.warn("images that cannot be used were left out", verified.fault)
            else:
                findings.errors.append(verified.fault)
            continue
        if verified.animated:
            findings.warn("only the first frame of an image with several is used", name)
        if name in stated and stated[name] != verified.size:
            said, real = ("{}x{}".format(*size) for size in (stated[name], verified.size))
            findings.warn("the annotation states another size than the image has", f"{name} ({said}, is {real})")


def _leaves(path: Path, root: Path) -> bool:
    """Whether a file is a link to elsewhere. Folders may be links, as is common on clusters."""
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError):
        return False
    homes = (os.path.realpath(root), os.path.realpath(path.parent))
    return not any(real.startswith(home.rstrip(os.sep) + os.sep) for home in homes)


@contextmanager
def _mapping(count: int) -> Iterator[Callable[[Callable[[str], Verified], Sequence[str]], Iterable[Verified]]]:
    """`map`, in this process or over a pool whose workers end with the block and with this process."""
    workers = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, 61)
    if count < FEW or workers == 1:
        yield map
        return
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)
    try:
        yield partial(pool.map, chunksize=CHUNK)
    except BaseException:
        processes = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, and leave with the parent however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
