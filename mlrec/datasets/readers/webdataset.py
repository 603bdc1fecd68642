"""Reader for WebDataset: tar files ("shards") of samples.

A sample consists of an image and its labels, in files with the same name but different extensions.

Labels are in one of three files. `name.json` contains a list with the key `labels`, or one label with the key
`label`, `cls`, etc. `name.cls` contains a number or a string. `name.txt` contains one label per line, or labels
separated by `|`, `;` or `,`. Files are read from the archive, but never extracted to the paths in the archive.
"""

from __future__ import annotations

import json
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mlrec.datasets.image_paths import Omitted, files_below, is_image
from mlrec.datasets.manifest import POSITIVE
from mlrec.datasets.readers.registry import Reading, ReadOptions, usual_name
from mlrec.datasets.readers.samples import as_list, manifest_of
from mlrec.datasets.split_names import WHOLE, known_split, usual_order
from mlrec.utils.errors import DataError, ValidationReport, counted
from mlrec.utils.files import check_regular, write_bytes
from mlrec.utils.names import clean_label, image_name

ENDINGS = (".tar", ".tar.gz", ".tgz")
MAX_IMAGE, MAX_LABELS = 256_000_000, 1_000_000  # maximum bytes per member
KEYS = ("labels", "label", "cls", "classes", "class", "tags")  # JSON keys; the first existing key is used
LABEL_ENDINGS = ("json", "cls", "txt")  # the first existing file of a sample is used
SEPARATORS = ("|", ";", ",")


@dataclass
class _Sample:
    """One sample in a shard: its image member, and its labels as stored, by extension."""

    image: str = ""
    stored: dict[str, str] = field(default_factory=dict)


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as a shard or a folder of shards, otherwise None."""
    for shard in _shards(path)[:1]:
        try:
            with tarfile.open(shard) as archive:
                first = archive.next()
                second = archive.next()
        except (tarfile.TarError, OSError, EOFError):
            return None
        names = [member.name for member in (first, second) if member is not None]
        if any(map(is_image, names)) or len({_key(name)[0] for name in names}) == 1 < len(names):
            return f"{shard.name} is a tar file of images and labels (WebDataset)"
    return None


def read_webdataset(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read a tar file or a folder of tar files.

    The split is determined by the file name (`train-000000.tar`) or the folder name. If no name contains a split, the
    only split is `all`. If `options.labels` is set, these labels are used, any other label is an error, and numbers in
    the files are positions in this list, counted from 0. By default, all labels that occur are used, sorted by name.
    The path of an extracted image is `<shard>/<name>`.

    Raises:
        DataError: There are no shards or no labels, a shard cannot be read, or only some shards are named after splits.
    """
    place = path.absolute()
    shards = _shards(place)
    if not shards:
        raise DataError(f"{place}: no .tar file found; specify a WebDataset shard or a folder of shards")
    splits = {shard: _split_of(shard, place, options) for shard in shards}
    if None in splits.values() and any(splits.values()):
        unnamed = next(shard for shard, split in splits.items() if split is None)
        raise DataError(
            f"{unnamed}: the shard is not named after a split, but other shards are; "
            "set its split with --splits NAME=train,..."
        )
    chosen: dict[str, dict[str, list[str]]] = {}
    members: dict[Path, dict[str, str]] = {}
    for shard in shards:
        images = members.setdefault(shard, {})
        for key, sample in _samples(shard, findings).items():
            where = f"{shard}: {key}"
            if not sample.image:
                findings.warn("samples without an image were skipped", where)
                continue
            name = image_name(f"{_stem(shard, place)}/{sample.image}", where, findings)
            images[sample.image] = name
            chosen.setdefault(splits[shard] or WHOLE, {})[name] = _labels_of(sample, options.labels, where, findings)
    labels = options.labels or tuple(
        sorted({label for known in chosen.values() for found in known.values() for label in found})
    )
    if not labels and not findings.errors:
        raise DataError(f"{place}: no sample has a label in a .json, .cls or .txt file; add labels")
    manifests = []
    for split in sorted(chosen, key=usual_order):
        for name, found in chosen[split].items():
            for label in sorted(set(found) - set(labels)):
                findings.error(name, f"label '{label}' is not in --labels; add it to --labels")
        if not findings.errors:
            targets = {image: dict.fromkeys(found, POSITIVE) for image, found in chosen[split].items()}
            manifests.append(manifest_of(split, place, labels, targets))
    return Reading(
        usual_name(place),
        manifests,
        {"kind": "webdataset", "path": str(place)},
        unpack=lambda folder: _unpack(members, folder),
    )


def _shards(path: Path) -> list[Path]:
    if path.is_dir():
        return [file for file in files_below(path, Omitted()) if file.name.lower().endswith(ENDINGS)]
    return [path] if path.is_file() and path.name.lower().endswith(ENDINGS) else []


def _stem(shard: Path, place: Path) -> str:
    """Return the relative path of a shard without its extension; the images are in this folder."""
    name = shard.relative_to(place).as_posix() if shard != place else shard.name
    return re.sub(r"(?i)(\.tar|\.tar\.gz|\.tgz)$", "", name)


def _split_of(shard: Path, place: Path, options: ReadOptions) -> str | None:
    """Return the split in the name of a shard or of its folders.

    Examples of names are `train-000000`, `pets_train_12` and `val/000000`.
    """
    parts = [part for piece in _stem(shard, place).split("/") for part in re.split(r"[-_.]", piece)]
    for part in parts:
        split = options.split_names.get(part.casefold()) or known_split(part)
        if split:
            return split
    return None


def _key(name: str) -> tuple[str, str]:
    """Return the sample name and the extension of a member: the base name is split at its first dot."""
    folder, slash, base = name.rpartition("/")
    stem, _, ending = base.partition(".")
    return folder + slash + stem, ending.casefold()


def tar_members(shard: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Iterate over the regular files in a shard and their content, in order; hidden files are skipped.

    Links and devices are not followed.

    Raises:
        DataError: The shard cannot be read.
    """
    check_regular(shard)
    with _complete(shard), tarfile.open(shard) as archive:
        for member in archive:
            base = member.name.rpartition("/")[2]
            if not member.isreg() or not base or base[0] == ".":
                continue
            content = archive.extractfile(member)
            if content is not None:
                yield member, content


def read_member(shard: Path, content: IO[bytes], limit: int) -> bytes:
    """Read at most `limit` bytes of a file in a shard; the file is an item from `tar_members`.

    Raises:
        DataError: The shard ends before the end of the file.
    """
    with _complete(shard):
        return content.read(limit)


@contextmanager
def _complete(shard: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{shard}: the tar file is incomplete ({error}); copy the file again") from error


def _samples(shard: Path, findings: ValidationReport) -> dict[str, _Sample]:
    samples: dict[str, _Sample] = {}
    for member, content in tar_members(shard):
        key, ending = _key(member.name)
        where = f"{shard}: {member.name}"
        sample = samples.setdefault(key, _Sample())
        if is_image(member.name):
            image_name(member.name, where, findings)  # '..' and absolute names are errors
            if sample.image:
                findings.error(
                    where, f"the sample already contains the image {sample.image}; keep only one image per sample"
                )
            if member.size > MAX_IMAGE:
                findings.error(
                    where,
                    f"the image has {member.size:,} bytes, more than the limit of {MAX_IMAGE:,}; reduce its size",
                )
            sample.image = member.name
        elif ending in LABEL_ENDINGS:
            if ending in sample.stored:
                findings.error(where, "the file occurs twice in the shard; remove the duplicate")
            if member.size > MAX_LABELS:
                findings.error(
                    where,
                    f"the label file has {member.size:,} bytes, more than the limit of {MAX_LABELS:,}; shorten the "
                    "file",
                )
                continue
            try:
                sample.stored[ending] = read_member(shard, content, MAX_LABELS).decode("utf-8-sig")
            except UnicodeDecodeError:
                findings.error(where, "the file is not UTF-8; save it as UTF-8")
        else:
            findings.warn("files that are neither images nor labels were not used", where)
    return samples


def _labels_of(sample: _Sample, names: Sequence[str] | None, where: str, findings: ValidationReport) -> list[str]:
    """Return the labels of a sample.

    A sample without a label file is an error because its labels are unknown.
    """
    ending = next((ending for ending in LABEL_ENDINGS if ending in sample.stored), None)
    if ending is None:
        findings.error(where, "the sample has no labels; expected a .json, .cls or .txt file with the same name")
        return []
    text = sample.stored[ending]
    if ending == "json":
        values = _of_json(text, where, findings)
    elif ending == "cls":
        values = [text]
        if text.strip().isdecimal():
            values = [int(text)]
    else:
        values = _of_text(text)
    numbers = [value for value in values if isinstance(value, int)]
    if len(set(numbers)) < len(numbers):
        findings.error(where, "a number occurs twice; list class indices, not a 0 or 1 for each class")
    labels = (_label(value, names, where, findings) for value in values)
    return [label for label in labels if label]


def _of_json(text: str, where: str, findings: ValidationReport) -> list[Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        findings.error(where, "the .json file is not valid JSON; write the shard again")
        return []
    if isinstance(value, dict):
        key = next((key for key in KEYS if key in value), None)
        if key is None:
            findings.error(where, f"the .json file has none of the keys {', '.join(KEYS)}; add one of them")
            return []
        value = value[key]
    return as_list(value)


def _of_text(text: str) -> list[str]:
    """Return one label per line; the labels of a single line are split at the first separator that occurs."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) != 1:
        return lines
    separator = next((char for char in SEPARATORS if char in lines[0]), None)
    if separator is None:
        return lines
    return [part.strip() for part in lines[0].split(separator) if part.strip()]


def _label(value: Any, names: Sequence[str] | None, where: str, findings: ValidationReport) -> str:
    if isinstance(value, str):
        return clean_label(value, where, findings)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        findings.error(where, f"'{value}' is not the name or index of a label; correct the value")
        return ""
    if names is None:
        findings.warn(
            "labels are numbers; set their names with --labels a,b,... (the first name is for label 0)", where
        )
        return str(value)
    if value >= len(names):
        findings.error(
            where,
            f"index {value} is out of range for the {counted(len(names), 'label')} in --labels; correct the index",
        )
        return ""
    return names[value]


def _unpack(members: dict[Path, dict[str, str]], folder: Path) -> None:
    """Write the images of all shards below `folder`, each under its checked name."""
    for shard, images in members.items():
        for member, content in tar_members(shard):
            if member.name in images and member.size <= MAX_IMAGE:
                write_bytes(folder / images[member.name], read_member(shard, content, MAX_IMAGE))
