"""`mlrec prepare`: convert third-party annotations to a prepared dataset.

The steps are to read and check the annotations, decode all images, and write the dataset.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mlrec.datasets import dataset as folder
from mlrec.datasets.analysis.statistics import positive_counts
from mlrec.datasets.boxes import clip_boxes, non_empty
from mlrec.datasets.dataset import Dataset, Info, label_gaps
from mlrec.datasets.image_paths import located, without_dots
from mlrec.datasets.manifest import NEGATIVE, POSITIVE, UNKNOWN, Manifest, image_of
from mlrec.datasets.readers.detect import detect
from mlrec.datasets.readers.registry import READERS, USED, Reading, ReadOptions, known_readers, reader_of, usual_name
from mlrec.datasets.readers.split_files import SplitFile, divide
from mlrec.reports.render.table import Column, Row, Table
from mlrec.utils.errors import DataError, UsageError, ValidationReport, counted, nearest
from mlrec.utils.files import check_name, replace_folder, temporary_folder, write_text
from mlrec.utils.names import clean_label, duplicates_in, label_order
from mlrec.utils.progress import SILENT, Progress
from mlrec.utils.texts import distinct
from mlrec.workflows.data.verify import Verified, check_overlap, note_images, verify

logger = logging.getLogger(__name__)
ALL_LISTED, FIRST_LISTED, RAREST = 20, 10, 3  # numbers of labels that the summary lists
PREVIEWED, SAMPLES_SHOWN = 50, 3  # labels and samples that a dry run lists
BAD_IMAGE, NO_AREA = "images that cannot be used", "boxes without area"


@dataclass(frozen=True)
class _Checks:
    """Options of `prepare` for the checks."""

    verify: bool
    skip_bad_images: bool
    allow_overlap: bool
    dry_run: bool


def prepare(
    kind: str | None,
    path: Path | str,
    *,
    out: Path | str = "data",
    name: str | None = None,
    options: ReadOptions | None = None,
    split_files: Sequence[SplitFile] = (),
    verify: bool = True,
    skip_bad_images: bool = False,
    allow_overlap: bool = False,
    dry_run: bool = False,
    progress: Progress = SILENT,
) -> Dataset:
    """Read third-party annotations and write `out/name`: one manifest per split, and `dataset.json`.

    An existing prepared dataset with this name is replaced. Errors are collected while the annotations are read, and
    again while all checks run, before an error is raised. If there is more than one error, all errors are listed in
    `out/name.bad.log`, except in a dry run. No partial output remains after an error.

    Args:
        kind: Name of a reader, see `known_readers`; by default, the reader is detected from `path`.
        path: File or folder with the annotations, in the form expected by the reader.
        out: Folder of prepared datasets.
        name: Name of the dataset; by default the usual name of the source dataset.
        options: Options of the reader.
        split_files: Files that list the images of each split, for a source without predefined splits.
        verify: Whether to decode every image once. If False, no image file is read.
        skip_bad_images: Whether to skip unreadable images with a warning instead of an error.
        allow_overlap: Whether images shared by two splits cause a warning instead of an error.
        dry_run: Whether to only read and check the annotations. If True, no image is decoded and no file is written.
        progress: Progress display.

    Returns:
        The prepared dataset.

    Raises:
        UsageError: The kind is unknown, or the name is not a valid folder name.
        DataError: Annotations or images are invalid, or `out/name` exists and is not a prepared dataset.
    """
    known = known_readers()
    options = options or ReadOptions()
    if kind is None:
        detection = detect(without_dots(Path(path)))
        kind = detection.kind
        logger.info(f"kind {kind}: {detection.reason}")
        if "keep_empty" in USED.get(kind, ()) and not options.keep_empty:
            options = replace(options, keep_empty=True)
            logger.info(
                "images without annotations are kept; to skip such images in COCO 2014 and 2017, as in the paper, use "
                f"mlrec prepare {kind}"
            )
    elif kind not in known:
        raise UsageError(f"unknown dataset format '{kind}'; choose one of {', '.join(known)}{nearest(kind, known)}")
    findings = ValidationReport()
    options = _checked_options(kind, options, findings)
    place = without_dots(Path(path))
    log = _log(out, name or _usual_name(kind, place), dry_run)
    with _error_log(log, findings, path):
        reading = _read(kind, place, options, split_files, findings)
    target = Path(out) / (name or reading.name)
    log = _log(out, target.name, dry_run)
    with _unpacked(reading, target, findings, dry_run) as images:
        with _error_log(log, findings, path):
            if not dry_run:
                folder.refuse_foreign(target)
            if images is not None:
                reading = _with_root(reading, images)
            if options.labels is not None:
                reading = replace(reading, manifests=[m.with_labels(options.labels) for m in reading.manifests])
            checks = _Checks(verify, skip_bad_images, allow_overlap, dry_run)
            annotated = {manifest.split: len(manifest) for manifest in reading.manifests}
            reading = _checked(replace(reading, name=target.name), checks, findings, progress)
        if images is not None:
            reading = _with_root(reading, target.absolute() / folder.IMAGES_FOLDER)
        info = Info(
            name=target.name,
            source={"kind": kind, "options": _plain(options), **reading.source},
            recipe=reading.recipe,
            labels=list(reading.manifests[0].labels),
            splits={manifest.split: len(manifest) for manifest in reading.manifests},
            skipped=reading.skipped,
            warnings=findings.warnings,
        )
        if not dry_run:
            with replace_folder(target) as temporary:
                if images is not None:
                    images.rename(temporary / folder.IMAGES_FOLDER)
                folder.write(temporary, info, reading.manifests)
    if log is not None:
        log.unlink(missing_ok=True)
    for split, count in reading.published.items():
        samples = f"{info.splits[split]:,} of {annotated[split]:,} annotated samples are used"
        logger.info(f"{split}: {samples}; the paper has {count:,}")
    for line in reading.footnotes:
        logger.info(line)
    for warning in findings.warnings:
        logger.warning(warning)
    return Dataset(target, info, {manifest.split: manifest for manifest in reading.manifests})


def _read(
    kind: str, place: Path, options: ReadOptions, split_files: Sequence[SplitFile], findings: ValidationReport
) -> Reading:
    """Read a source, and divide it according to the split files, if there are any."""
    if not split_files:
        return reader_of(kind)(place, options, findings)
    reading = reader_of(kind)(place, replace(options, split_names={}), findings)
    if findings.errors:
        return reading
    listed = {"split_files": [str(file.path.absolute()) for file in split_files]}
    manifests = divide(reading.manifests, split_files, options.split_names, findings)
    return replace(reading, manifests=manifests, source={**reading.source, **listed})


@contextmanager
def _unpacked(reading: Reading, target: Path, findings: ValidationReport, dry_run: bool) -> Iterator[Path | None]:
    """Yield a temporary folder with the images that are stored inside files of the source.

    Yields None if there are no such images. The checks need the images before the dataset is moved to the final folder.
    """
    if reading.unpack is None or findings.errors or dry_run:
        yield None
        return
    with temporary_folder(target.with_name(f"{target.name}.{folder.IMAGES_FOLDER}")) as images:
        reading.unpack(images)
        yield images


def _with_root(reading: Reading, root: Path) -> Reading:
    """Return the reading with images below `root`.

    A note that the images belong to the prepared dataset is added.
    """
    manifests = [manifest.changed(root=root.absolute()) for manifest in reading.manifests]
    return replace(reading, manifests=manifests, source={**reading.source, "unpacked": True})


def _skipped(count: int, reason: str) -> str:
    """Format a count such as `2 boxes without area`; the reason must begin with a plural noun."""
    plural, space, rest = reason.partition(" ")
    singular = "box" if plural == "boxes" else plural.removesuffix("s")
    return counted(count, f"{singular}{space}{rest}", reason)


def summary(dataset: Dataset) -> Table:
    """Return a table with one row per split; the footnotes list the skipped records."""
    rows = []
    for split in dataset.info.splits:
        manifest = dataset.manifest(split)
        positives, unknown = (int(manifest.sparse_targets.counts(value).sum()) for value in (POSITIVE, UNKNOWN))
        samples = len(manifest)
        rows.append(Row((split, distinct(manifest.images), samples, round(positives / samples, 2), positives, unknown)))
    columns = (
        Column("split", "split"),
        Column("images", "images", "count"),
        Column("samples", "samples", "count"),
        Column("labels_per_sample", "labels per sample", "mean"),
        Column("positives", "positives", "count"),
        Column("unknown", "unknown", "count"),
    )
    skipped = [f"skipped: {_skipped(count, reason)}" for reason, count in dataset.info.skipped.items()]
    title = f"{dataset.info.name}: {counted(len(dataset.info.labels), 'label')}"
    return Table(title, columns, tuple(rows), (*_label_lines(dataset), *skipped))


def preview(dataset: Dataset) -> list[Table]:
    """Return the additional output of a dry run: the counts per label, and three samples."""
    labels = dataset.info.labels
    splits = [dataset.manifest(split) for split in dataset.info.splits]
    counts = [
        np.sum([manifest.sparse_targets.counts(value) for manifest in splits], axis=0).tolist()
        for value in (POSITIVE, NEGATIVE, UNKNOWN)
    ]
    columns = (Column("label", "label"), *(Column(key, key, "count") for key in ("positive", "negative", "unknown")))
    rows = [Row((label, *of_label)) for label, *of_label in zip(labels, *counts, strict=True)]
    notes = []
    if len(rows) > PREVIEWED:
        notes.append(f"{len(rows) - PREVIEWED:,} more labels")
    per_label = Table("labels", columns, tuple(rows[:PREVIEWED]), tuple(notes))
    return [per_label, _sample_rows(splits)]


def _sample_rows(splits: Sequence[Manifest]) -> Table:
    """Return the first samples from as many splits as possible."""
    picked = [(manifest, row) for row in range(SAMPLES_SHOWN) for manifest in splits if row < len(manifest)]
    rows = []
    for manifest, row in picked[:SAMPLES_SHOWN]:
        targets = manifest.target_rows(np.array([row]))[0]
        names = {
            value: ", ".join(manifest.labels[k] for k in np.flatnonzero(targets == value))
            for value in (POSITIVE, UNKNOWN)
        }
        image = manifest.sample_ids[row]
        rows.append(Row((manifest.split, image, names[POSITIVE] or "none", names[UNKNOWN] or "none")))
    keys = ("split", "sample", "positive", "unknown")
    return Table("samples", tuple(Column(key, key) for key in keys), tuple(rows), ())


def _label_lines(dataset: Dataset) -> list[str]:
    """Return lines that list the labels, the rarest labels, and the labels that are never positive."""
    labels = dataset.info.labels
    counts = positive_counts([dataset.manifest(split) for split in dataset.info.splits]).tolist()
    positives = {label: count for label, count in zip(labels, counts, strict=True) if count}
    rarest = sorted(positives, key=lambda label: positives[label])[:RAREST]
    never = [label for label, count in zip(labels, counts, strict=True) if not count]
    lines = [f"labels: {_listed(labels)}"]
    if len(labels) > len(rarest) and rarest:
        lines.append(f"rarest: {', '.join(f'{label} ({positives[label]:,})' for label in rarest)}")
    if never:
        lines.append(f"never positive: {_listed(never)}")
    return lines


def _listed(labels: Sequence[str]) -> str:
    """Return all names if there are at most 20, otherwise the number of names and the first ten."""
    if len(labels) <= ALL_LISTED:
        return ", ".join(labels)
    return f"{len(labels):,}, the first {FIRST_LISTED}: {', '.join(labels[:FIRST_LISTED])}"


def _checked_options(kind: str, options: ReadOptions, findings: ValidationReport) -> ReadOptions:
    """Clean the label names and paths in the options; warn about options that the reader does not use."""
    for key in _plain(options):
        if key != "labels" and kind in READERS and key not in USED.get(kind, ()):
            findings.warn("options that the dataset format does not use were ignored", f"{key} for {kind}")
    options = replace(
        options,
        images=options.images and without_dots(options.images),
        annotations=tuple(without_dots(file) for file in options.annotations),
    )
    if options.labels is None:
        return options
    labels = tuple(clean_label(label, "--labels", findings) for label in options.labels)
    if twice := duplicates_in(labels):
        raise UsageError(f"--labels: '{twice[0]}' is listed twice; list each label once")
    return replace(options, labels=labels)


def _usual_name(kind: str, path: Path) -> str:
    """Return the name for the error log until the reader has named the dataset."""
    return usual_name(path) if kind in ("csv", "yolo", "voc", "folders") else kind


def _log(out: Path | str, name: str, dry_run: bool) -> Path | None:
    """Return the path of the error log; None for a dry run."""
    check_name(name)
    return None if dry_run else Path(out) / f"{name}.bad.log"


@contextmanager
def _error_log(log: Path | None, findings: ValidationReport, path: Path | str) -> Iterator[None]:
    """Raise errors collected in the block.

    A single error is the message; multiple errors are listed in `log`.
    """
    try:
        yield
    except DataError as error:
        findings.errors.append(str(error))
    if log is not None and len(findings.errors) > 1:
        write_text(log, "".join(f"{line}\n" for line in findings.errors))
    elif log is not None and findings.errors:
        log.unlink(missing_ok=True)  # of an earlier attempt
    findings.raise_errors(f"{path} cannot be used", str(log or ""))


def _plain(options: ReadOptions) -> dict[str, object]:
    """Convert the options that differ from their defaults to JSON."""
    changed = {key: value for key, value in asdict(options).items() if value not in (None, False, (), {})}
    return {key: _to_json(value) for key, value in changed.items()}


def _to_json(value: object) -> object:
    if isinstance(value, tuple):
        return [_to_json(one) for one in value]
    return str(value.absolute()) if isinstance(value, Path) else value


def _checked(reading: Reading, checks: _Checks, findings: ValidationReport, progress: Progress) -> Reading:
    """Run all checks: label order, image decoding, boxes inside the images, and overlap between splits."""
    manifests = _alike_labels([manifest.changed(name=reading.name) for manifest in reading.manifests], findings)
    verified: dict[str, Verified] = {}
    skipped = dict(reading.skipped)
    if not manifests:
        raise DataError(f"{reading.name}: no split contains samples; check the annotations")
    if checks.dry_run and reading.unpack is None:
        reading, manifests = _located(reading, manifests, findings)
        _warn_missing(manifests, findings)
    elif checks.verify and not checks.dry_run:
        reading, manifests = _located(reading, manifests, findings)
        names = list(dict.fromkeys(image for manifest in manifests for image in manifest.images))
        verified = verify(manifests[0].root, names, progress)
        note_images(verified, reading.stated_sizes, checks.skip_bad_images, findings)
        bad = {name for name, image in verified.items() if image.size is None}
        if bad and checks.skip_bad_images:
            skipped[BAD_IMAGE] = len(bad)
            manifests = [_without(manifest, bad) for manifest in manifests]
    manifests = _with_clipped_boxes(manifests, verified, skipped, findings)
    digests = {name: image.digest for name, image in verified.items()}
    check_overlap(manifests, digests, checks.allow_overlap, findings)
    for manifest in manifests:
        _check_split(manifest, findings)
    return replace(reading, manifests=manifests, skipped=skipped)


def _warn_missing(manifests: Sequence[Manifest], findings: ValidationReport) -> None:
    """Warn about missing images, which are an error without --dry-run."""
    for manifest in manifests:
        for image in dict.fromkeys(manifest.images):
            if not os.path.lexists(manifest.root / image):
                findings.warn("images are missing", str(manifest.root / image))


def _alike_labels(manifests: Sequence[Manifest], findings: ValidationReport) -> list[Manifest]:
    """Reorder the label columns of all splits to match the first split.

    An error is raised if the splits have different labels.
    """
    reordered = []
    for manifest in manifests:
        try:
            label_order(manifest.labels, manifests[0].labels)
            reordered.append(manifest.reordered(manifests[0].labels))
        except DataError as error:
            findings.error(
                f"split '{manifest.split}'", f"{error}; use the labels of split '{manifests[0].split}' in all splits"
            )
    return reordered


def _located(
    reading: Reading, manifests: Sequence[Manifest], findings: ValidationReport
) -> tuple[Reading, list[Manifest]]:
    """Replace annotated names with file names in the manifests and in the reading.

    Two names for the same file raise an error.
    """
    names = list(dict.fromkeys(image for manifest in manifests for image in manifest.images))
    renamed = located(manifests[0].root, names, findings)
    if not renamed:
        return reading, list(manifests)
    there = set(names)
    for name, file in renamed.items():
        if file in there:
            findings.error(
                name, f"this is the same file as {file}, which is also annotated; use only one of the two names"
            )
    for file in duplicates_in(renamed.values()):
        both = ", ".join(name for name in renamed if renamed[name] == file)
        findings.error(file, f"the annotations use multiple names for this file ({both}); use only one name")
    changed = [
        manifest.changed(
            images=tuple(renamed.get(image, image) for image in manifest.images),
            sample_ids=tuple(_renamed_id(sample, renamed) for sample in manifest.sample_ids),
        )
        for manifest in manifests
    ]
    sizes = {renamed.get(image, image): size for image, size in reading.stated_sizes.items()}
    earlier = reading.source.get("annotated_names", {})
    names_before = {file: earlier.get(name, name) for name, file in renamed.items()}
    source = {**reading.source, "annotated_names": {**earlier, **names_before}}
    return replace(reading, stated_sizes=sizes, source=source), changed


def _renamed_id(sample: str, renamed: dict[str, str]) -> str:
    if sample in renamed:
        return renamed[sample]
    image = image_of(sample)
    return renamed.get(image, image) + sample.removeprefix(image)


def _without(manifest: Manifest, bad: set[str]) -> Manifest:
    return manifest.subset([k for k, image in enumerate(manifest.images) if image not in bad])


def _with_clipped_boxes(
    manifests: Sequence[Manifest], verified: dict[str, Verified], skipped: dict[str, int], findings: ValidationReport
) -> list[Manifest]:
    """Clip boxes to the image area and remove empty boxes; a box in two splits is reported once."""
    turned: dict[str, None] = {}
    empty: dict[str, None] = {}
    clipped = []
    for manifest in manifests:
        if manifest.boxes is None:
            clipped.append(manifest)
            continue
        sizes = [verified[image].size if image in verified else None for image in manifest.images]
        boxes = clip_boxes(manifest.boxes, sizes)
        usable = non_empty(boxes)
        turned |= dict.fromkeys(
            manifest.sample_ids[k] for k in np.flatnonzero((manifest.boxes[:, 2:] < 0).any(axis=1)).tolist()
        )
        empty |= dict.fromkeys(manifest.sample_ids[k] for k in np.flatnonzero(~usable).tolist())
        clipped.append(manifest.changed(boxes=boxes).subset(np.flatnonzero(usable)))
    for sample in turned:
        findings.warn("boxes with swapped corners were corrected", sample)
    for sample in empty:
        findings.warn("boxes without area inside the image were skipped", sample)
    if empty:
        skipped[NO_AREA] = len(empty)
    return clipped


def _check_split(manifest: Manifest, findings: ValidationReport) -> None:
    if not len(manifest):
        findings.error(f"split '{manifest.split}'", "the split has no samples; add samples or omit the split")
        return
    for sentence, labels in label_gaps(manifest).messages().items():
        findings.warn(sentence, labels)
