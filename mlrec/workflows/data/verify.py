"""Decode every image of a dataset once, on all cores, before anything is trained on it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlrec.datasets.images import decode
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.split_names import disjoint
from mlrec.utils.errors import DataError, ValidationReport, printable
from mlrec.utils.progress import Progress
from mlrec.utils.threads import thread_map


@dataclass(frozen=True)
class Verified:
    """What decoding an image file told.

    Attributes:
        size: width and height of the stored image, or None where it cannot be used.
        digest: of the pixels: equal for files that differ in format or metadata only.
        fault: why it cannot be used; empty where it can.
        animated: it holds further frames or pages, which are ignored.
    """

    size: tuple[int, int] | None
    digest: str = ""
    fault: str = ""
    animated: bool = False


def verify(root: Path, names: Sequence[str], progress: Progress) -> dict[str, Verified]:
    """Decode the image files `names` below `root`; what each told, by name."""
    check = partial(verify_image, root)
    found: dict[str, Verified] = {}
    with progress.task("decoding images", len(names)) as step, thread_map(check, names) as results:
        for name, verified in zip(names, results, strict=True):
            found[name] = verified
            step()
    return found


def verify_image(root: Path, name: str) -> Verified:
    """Read and decode one image file below `root`."""
    path = root / name
    if _leaves(path, root):
        return Verified(None, fault=f"{printable(path)}: is a link that leaves the dataset; copy the file there")
    try:
        data = decode.read_image_file(path)
        stored = decode.decode_bytes(data, path)
    except DataError as error:
        return Verified(None, fault=str(error))
    height, width = stored.pixels.shape[:2]
    return Verified((width, height), _digest(stored.pixels), animated=stored.animated)


def _digest(pixels: NDArray[np.uint8]) -> str:
    """A digest of the shape and the values of an image."""
    content = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=32)
    content.update(np.ascontiguousarray(pixels).data)
    return content.hexdigest()


def note_images(
    found: Mapping[str, Verified], stated: Mapping[str, tuple[int, int]], skip_bad: bool, findings: ValidationReport
) -> None:
    """Tell `findings` of unusable images (errors, or warnings with `skip_bad`), animations and wrong stated sizes."""
    for name, verified in found.items():
        if verified.size is None:
            if skip_bad:
                findings.warn("images that cannot be used were left out", verified.fault)
            else:
                findings.errors.append(f"{verified.fault}, or use --skip-bad-images")
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


def check_overlap(
    manifests: Sequence[Manifest], digests: Mapping[str, str], allowed: bool, findings: ValidationReport
) -> None:
    """Report images that two splits share but must not: an error, or a warning if `allowed`.

    All pairs of splits are compared, except for those of which one holds the other by design, see
    `splitnames.disjoint`. Next to a `trainval`, which is what is trained on, images that `train` and `val` share
    are a warning only.

    Args:
        manifests: the splits.
        digests: digests of the pixels of images by name, as far as they were read.
        allowed: the user accepts shared images.
        findings: where errors and warnings go.
    """
    by_split = {manifest.split: dict.fromkeys(manifest.images) for manifest in manifests}
    pairs = [(later, earlier) for earlier, later in combinations(by_split, 2) if disjoint(earlier, later)]
    for held_out, other in pairs:
        content = {digests[image]: image for image in by_split[other] if digests.get(image)}
        for image in by_split[held_out]:
            if image in by_split[other]:
                twin = "is there, too"
            elif digests.get(image) in content:
                twin = f"has the same pixels as {printable(content[digests[image]])} there"
            else:
                continue
            if allowed:
                findings.warn(f"splits '{held_out}' and '{other}' share images, as allowed", image)
            elif {held_out, other} == {"train", "val"} and "trainval" in by_split:
                findings.warn("splits 'val' and 'train' share images", f"{printable(image)} {twin}")
            else:
                remedy = "remove it from one or use --allow-overlap"
                findings.error(f"splits '{held_out}' and '{other}'", f"{printable(image)} {twin}; {remedy}")
