"""Lineage of the weights that a training starts from, determined before its first step."""

from __future__ import annotations

from pathlib import Path, PurePath

from mlrec.config import PATHS, Config
from mlrec.lineage import Lineage
from mlrec.run_folders.ancestry import lineage_at, lineage_of, training_of
from mlrec.run_folders.record import RunRecord
from mlrec.utils.files import sha256

# The first eight hex digits of the SHA-256 of published files that timm's own addresses do not name: torchvision's
# first files, whose weights are those of the tag tv_in1k. Their names carry these digits, but a name proves nothing.
PUBLISHED = {
    "resnet18": {"5c106cde": "tv_in1k"},
    "resnet34": {"333f7ec4": "tv_in1k"},
    "resnet50": {"19c8e357": "tv_in1k"},
    "resnet101": {"5d3b4d8f": "tv_in1k"},
    "resnet152": {"b121ed2d": "tv_in1k"},
    "vit_large_patch16_224": {"4ee7a4dc": "orig_in21k_ft_in1k"},  # timm has dropped this tag
}
DIGITS = 8


def starting_lineage(config: Config, backbone: str) -> Lineage:
    """Return the lineage of the weights that a run starts from.

    Args:
        config: Config of the run.
        backbone: timm name of its backbone, with the tag of the pretrained weights.
    """
    source = config.init_from or config.weights
    if source is None and not config.pretrained:
        return Lineage(weights="random", origin="random")
    if source is None:
        return Lineage(weights=backbone, origin="timm")
    if source in PATHS["weights"]:
        return Lineage(weights=source, origin="package")
    known = lineage_at(Path(source))
    return file_lineage(Path(source), backbone, config.weights_origin) if known is None else known


def trained_lineage(record: RunRecord) -> Lineage:
    """Return the lineage of the model that a run trains: its starting weights and its own training data."""
    before = lineage_of(record)
    return before if record.train is None else before.followed_by(training_of(record.train))


def unknown_origin(record: RunRecord) -> str | None:
    """Return a warning if a run starts from weights of unknown origin: tables list it separately."""
    lineage = lineage_of(record)
    if lineage.origin != "unknown":
        return None
    return (
        f"{lineage.weights}: weights of unknown origin; tables show them as extra data and set the run "
        "apart. State what they were trained on with --weights-origin, if you know it"
    )


def file_lineage(file: Path, backbone: str, declared: str | None = None) -> Lineage:
    """The lineage of a third-party weights file: by its SHA-256 if it is a published one, else as declared, if it is.

    Args:
        file: The file; a folder has no SHA-256 and is of unknown origin.
        backbone: timm name of the model that it holds.
        declared: Origin that the user or a recipe states; ignored for a file that is known.
    """
    digest = sha256(file) if file.is_file() else ""
    architecture = backbone.partition(".")[0]
    tag = _published(architecture).get(digest[:DIGITS]) if digest else None
    if tag is not None:
        return Lineage(weights=f"{architecture}.{tag}", origin="timm", sha256=digest)
    if declared:
        return Lineage(weights=file.name, origin="declared", declared=declared, sha256=digest)
    return Lineage(weights=file.name, origin="unknown", sha256=digest)


def _published(architecture: str) -> dict[str, str]:
    """Tags of an architecture by the digits of SHA-256 in the names of their published files ("NAME-0676ba61.pth")."""
    import timm

    tags = dict(PUBLISHED.get(architecture, {}))
    for name in timm.list_pretrained(f"{architecture}.*"):
        settings = timm.get_pretrained_cfg(name)
        stem = PurePath(getattr(settings, "url", "") or "").stem
        digits = stem.rpartition("-")[2]
        if len(digits) == DIGITS and all(digit in "0123456789abcdef" for digit in digits):
            tags[digits] = name.partition(".")[2]
    return tags
