"""Image checks for a dataset: decode every image once on all cores, and compare the splits."""

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
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.progress import Progress
from mlrec.utils.texts import first_places, shared_with, taken
from mlrec.utils.threads import thread_map


@dataclass(frozen=True)
class Verified:
    """Result of checking and decoding an image file.

    Attributes:
        size: Width and height of the stored image; None if the image cannot be used.
        digest: Digest of the decoded pixels, equal for files with the same pixels; empty if the image cannot be used.
        fault: Reason why the image cannot be used, or an empty string.
        animated: Whether the file contains more than one frame or page; only the first one is used.
    """

    size: tuple[int, int] | None
    digest: str = ""
    fault: str = ""
    animated: bool = False


def verify(root: Path, names: Sequence[str], progress: Progress) -> dict[str, Verified]:
    """Decode the image files `names` below `root`, and return the result for each name."""
    check = partial(verify_image, root)
    results_by_name: dict[str, Verified] = {}
    with progress.task("decoding images", len(names)) as step, thread_map(check, names) as results:
        for name, verified in zip(names, results, strict=True):
            results_by_name[name] = verified
            step()
    return results_by_name


def verify_image(root: Path, name: str) -> Verified:
    """Read and decode one image file below `root`."""
    path = root / name
    if _leaves(path, root):
        fault = DataError(f"{path}: the link points to a file outside the dataset; copy the file into the dataset")
        return Verified(None, fault=str(fault))
    try:
        data = decode.read_image_file(path)
        stored = decode.decode_bytes(data, path)
    except DataError as error:
        return Verified(None, fault=str(error))
    height, width = stored.pixels.shape[:2]
    return Verified((width, height), _digest(stored.pixels), animated=stored.animated)


def _digest(pixels: NDArray[np.uint8]) -> str:
    """Return a digest of the shape and pixels of an image."""
    content = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=32)
    content.update(np.ascontiguousarray(pixels).data)
    return content.hexdigest()


def note_images(
    images: Mapping[str, Verified], stated: Mapping[str, tuple[int, int]], skip_bad: bool, findings: ValidationReport
) -> None:
    """Report unusable images, animations, and incorrect annotated sizes.

    Unusable images are reported as errors, or as warnings if `skip_bad` is set.
    """
    for name, verified in images.items():
        if verified.size is None:
            if skip_bad:
                findings.warn("images that cannot be used were skipped", verified.fault)
            else:
                findings.errors.append(f"{verified.fault}, or use --skip-bad-images")
            continue
        if verified.animated:
            findings.warn("only the first frame of an animated image is used", name)
        if name in stated and stated[name] != verified.size:
            annotated, actual = ("{}x{}".format(*size) for size in (stated[name], verified.size))
            findings.warn(
                "the annotated size differs from the image size", f"{name} (annotated {annotated}, actual {actual})"
            )


def _leaves(path: Path, root: Path) -> bool:
    """Return whether a file is a symbolic link to a file outside the dataset.

    Folders may be links, as on many clusters.
    """
    try:
        real = os.path.realpath(path)
    except (OSError, ValueError):
        return False
    homes = (os.path.realpath(root), os.path.realpath(path.parent))
    return not any(real.startswith(home.rstrip(os.sep) + os.sep) for home in homes)


def check_overlap(
    manifests: Sequence[Manifest], digests: Mapping[str, str], allowed: bool, findings: ValidationReport
) -> None:
    """Report images that are shared by splits that must be disjoint.

    An image is shared if both splits contain its name or an image with the same pixels. Shared images are reported as
    errors, or as warnings if `allowed` is set. Two splits are compared unless one of them
    contains the other, see `split_names.disjoint`. If there is a split `trainval`, which is used for training, images
    shared by `train` and `val` only cause a warning.

    Args:
        manifests: All splits.
        digests: Pixel digests of the decoded images, by name.
        allowed: Whether shared images cause warnings instead of errors.
        findings: Report to which errors and warnings are added.
    """
    by_split = {manifest.split: manifest.images for manifest in manifests}
    pairs = [(later, earlier) for earlier, later in combinations(by_split, 2) if disjoint(earlier, later)]
    for held_out, other in pairs:
        images = _each_once(by_split[held_out])
        content = {digests[image]: image for image in by_split[other] if digests.get(image)}
        for image, in_both in zip(images, shared_with(images, by_split[other]).tolist(), strict=True):
            if in_both:
                twin = "is in both"
            elif digests.get(image) in content:
                twin = f"has the same pixels as {content[digests[image]]}"
            else:
                continue
            if allowed:
                findings.warn(f"splits '{held_out}' and '{other}' share images (permitted by --allow-overlap)", image)
            elif {held_out, other} == {"train", "val"} and "trainval" in by_split:
                findings.warn("splits 'val' and 'train' share images", f"{image} {twin}")
            else:
                remedy = "remove the image from one split, or use --allow-overlap"
                findings.error(f"splits '{held_out}' and '{other}'", f"{image} {twin}; {remedy}")


def _each_once(images: Sequence[str]) -> Sequence[str]:
    """Return the distinct images, in order."""
    return taken(images, np.flatnonzero(first_places(images) == np.arange(len(images))))
