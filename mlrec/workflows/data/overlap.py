"""Splits must not share an image, neither by its path nor by its pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from mlrec.datasets.manifest import Manifest
from mlrec.datasets.split_names import disjoint
from mlrec.utils.errors import ValidationReport, printable


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
