"""No image of `test` may stand in another split, neither by its path nor by its content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlrec.datasets.manifest import Manifest
from mlrec.errors import Findings, printable


def check_overlap(manifests: Sequence[Manifest], digests: Mapping[str, str], allowed: bool, findings: Findings) -> None:
    """Tell `findings` of images that two splits share which must not: an error, or a warning if `allowed`.

    `test` against every other split; without a `trainval`, which holds both by design, also `train` against `val`.

    Args:
        manifests: the splits.
        digests: SHA-256 of image files by name, as far as they were read.
        allowed: the user accepts shared images.
        findings: where errors and warnings go.
    """
    by_split = {manifest.split: dict.fromkeys(manifest.images) for manifest in manifests}
    pairs = [("test", other) for other in by_split if other != "test"] if "test" in by_split else []
    if "trainval" not in by_split and {"train", "val"} <= set(by_split):
        pairs.append(("val", "train"))
    for held_out, other in pairs:
        content = {digests[image]: image for image in by_split[other] if digests.get(image)}
        for image in by_split[held_out]:
            if image in by_split[other]:
                twin = "is there, too"
            elif digests.get(image) in content:
                twin = f"has the same content as {printable(content[digests[image]])} there"
            else:
                continue
            if allowed:
                findings.warn(f"splits '{held_out}' and '{other}' share images, as allowed", image)
            else:
                remedy = "remove it from one or use --allow-overlap"
                findings.error(f"splits '{held_out}' and '{other}'", f"{printable(image)} {twin}; {remedy}")
