"""Reader for custom datasets in VOC's XML format, as written by labeling tools.

The dataset may have any labels and any image format, and image lists are optional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from mlrec.datasets.image_paths import ImageIndex, Omitted, files_below, unused_images, without_ending
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.samples import first_bytes
from mlrec.datasets.readers.voc import (
    annotation_of,
    read_lists,
    read_voc2007,
    read_voc2012,
    split_lists,
    target_array,
    year_folders,
)
from mlrec.datasets.readers.voc_class_lists import ANNOTATIONS, IMAGES, LISTS, has_no_annotations, read_class_lists
from mlrec.datasets.readers.voc_xml import Annotation, read_annotation, targets_of
from mlrec.datasets.readers.voc_years import read_years
from mlrec.datasets.split_names import WHOLE, known_split, resolve_names, usual_order
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.names import normal

OFFICIAL = {"VOC2007": read_voc2007, "VOC2012": read_voc2012}


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as a custom VOC dataset or multiple years, or None."""
    if not path.is_dir():
        return None
    years = [folder.absolute().name for folder in year_folders(path)]
    if len(years) > 1:
        return f"it contains {', '.join(years)}"
    if years and years[0] in OFFICIAL:
        return None  # a single year is a separate kind
    if has_no_annotations(path.absolute()):
        return f"{LISTS} contains class lists"
    places = (path / ANNOTATIONS, path / ANNOTATIONS.lower(), path, *sorted(path.glob("[!.]*")))
    for file in (file for place in places for file in _first_xml(place)):
        if b"<annotation>" in first_bytes(file) or b"<annotation " in first_bytes(file):
            return f"{file.relative_to(path)} is an annotation in VOC's XML format"
    return None


def _first_xml(place: Path) -> list[Path]:
    """Return the first XML file in a folder or its subfolders, or an empty list."""
    if not place.is_dir():
        return []
    for pattern in ("[!.]*.xml", "[!.]*/[!.]*.xml", "[!.]*/[!.]*/[!.]*.xml"):
        files = list(islice(place.glob(pattern), 1))
        if files:
            return files
    return []


def read_own_voc(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read a folder with `Annotations` and `JPEGImages`, or with XML files and images side by side.

    XML files are read from all subfolders. Splits are read from `ImageSets/Main`, or from the names of folders with XML
    files (`train`, `valid`, `test`). If no splits are found, the only split is `all`. If `options.labels` is set, these
    labels are used in that order, and any other class name is an error. By default, all class names that occur are
    used, sorted by name. Images are in `options.images`, in `JPEGImages`, in `images`, or next to the XML files. An
    image has the same name (and the same subfolder) as its XML file. If the usual folders do not contain the image, but
    exactly one image below `path` has the same name as the XML file, this image is used. Unused files cause a warning.

    A devkit with multiple VOC years is read as one dataset; see `read_years`. Without XML files, labels are read from
    the class lists in `ImageSets/Main`.

    Raises:
        DataError: There are neither XML annotations nor class lists, or there are no labels.
    """
    root = path.absolute()
    years = year_folders(root)
    if len(years) > 1:
        return read_years(years, findings)
    if years and years[0].absolute().name in OFFICIAL and not options.labels:
        return OFFICIAL[years[0].absolute().name](years[0], options, findings)
    if has_no_annotations(root):
        return read_class_lists(root, root.name, options, findings)
    folder = next((root / name for name in (ANNOTATIONS, ANNOTATIONS.lower()) if (root / name).is_dir()), root)
    nested = sorted(root.glob(f"*/{ANNOTATIONS}")) if folder == root else []
    if len(nested) == 1 and not known_split(nested[0].parent.name):
        return read_own_voc(nested[0].parent, options, findings)
    if nested and not all(known_split(place.parent.name) for place in nested):
        raise DataError(f"{root}: no {ANNOTATIONS} folder found; specify the folder {nested[0].parent}")
    files = _annotation_files(folder, findings)
    listed = bool(split_lists(root / LISTS, options.split_names))
    if listed:
        lists = read_lists(
            root / LISTS, findings, lambda name: normal(name) in files, own=True, given=options.split_names
        )
    else:
        lists = _by_folder(folder, files, options.split_names, findings)
    used = {normal(stem) for stems in lists.values() for stem in stems}
    for file in (file for stem, file in files.items() if stem not in used):
        findings.warn("annotations without a split were not used", file.relative_to(root).as_posix())
    annotations = {}
    for stem in dict.fromkeys(stem for stems in lists.values() for stem in stems):
        file = files.get(normal(stem), folder / f"{stem}.xml")
        annotation = read_annotation(file, root, findings)
        if annotation:
            annotations[stem] = annotation
    labels = tuple(options.labels or _collected(list(annotations.values()), findings))
    if not labels and not findings.errors:
        raise DataError(
            f"{folder}: no annotation contains an object, so there are no labels; list the labels with --labels"
        )
    targets = {stem: targets_of(annotation, labels, findings) for stem, annotation in annotations.items()}
    root, names = _images_of(root, folder, options.images, annotations, findings)
    if findings.errors:
        return Reading(path.name, [], {})
    manifests = [
        Manifest(
            root.name,
            split,
            root,
            labels,
            tuple(names[stem] for stem in stems),
            target_array([targets[stem] for stem in stems], labels),
        )
        for split, stems in lists.items()
    ]
    if not listed:
        _warn_of_other_images(root, _image_folder(root, folder, options.images), names, findings)
    sizes = {names[stem]: found.size for stem, found in annotations.items() if found.size}
    source = {"kind": "voc", "path": str(path.absolute()), "annotations": str(folder)}
    if root == path.absolute() and _is_laid_out_as_voc(root, files, names):
        source["format"] = "voc"  # so that objects can be read again as in VOC
    return Reading(path.absolute().name, manifests, source, stated_sizes=sizes)


def _warn_of_other_images(root: Path, place: Path, names: Mapping[str, str], findings: ValidationReport) -> None:
    """Warn about images in `place` without an annotation."""
    annotated = {without_ending(name) for name in names.values()}
    for name in unused_images(root, names.values()):
        if (root / name).is_relative_to(place) and without_ending(name) not in annotated:
            findings.warn("images without an annotation were skipped", name)


def _is_laid_out_as_voc(root: Path, files: Mapping[str, Path], names: Mapping[str, str]) -> bool:
    """Return whether all annotations are in `Annotations`, with the relative names of their images."""
    return all(files[normal(stem)] == root / annotation_of(name) for stem, name in names.items())


def _annotation_files(folder: Path, findings: ValidationReport) -> dict[str, Path]:
    """Return all XML files below `folder`, by their relative path without the extension.

    Raises:
        DataError: There is no annotation file.
    """
    omitted = Omitted()
    files: dict[str, Path] = {}
    for file in files_below(folder, omitted):
        if file.suffix.lower() == ".xml":
            stem = normal(file.relative_to(folder).with_suffix("").as_posix())
            if files.setdefault(stem, file) is not file:
                findings.error(
                    str(file), f"the file has the same name as {files[stem].name}; keep only one of the two files"
                )
    if not files:
        raise DataError(f"{folder}: no .xml annotation found; specify the folder that contains {ANNOTATIONS}")
    omitted.warn(findings)
    return files


def _by_folder(
    folder: Path, files: Mapping[str, Path], given: Mapping[str, str], findings: ValidationReport
) -> dict[str, list[str]]:
    """Return annotations by split, as relative paths without extension.

    Without a folder per split, there is one split.
    """
    stems = [file.relative_to(folder).with_suffix("").as_posix() for file in files.values()]
    parts: dict[str, list[str]] = {}
    for stem in stems:
        part, slash, _ = stem.partition("/")
        if slash and (known_split(part) or part.casefold() in given):
            parts.setdefault(part, []).append(stem)
    names = resolve_names({name: str(folder / name) for name in parts}, given, findings)
    lists: dict[str, list[str]] = {}
    for part, inside in parts.items():
        lists[names[part]] = lists.get(names[part], []) + inside
    return dict(sorted(lists.items(), key=lambda item: usual_order(item[0]))) or {WHOLE: stems}


def _collected(annotations: Sequence[Annotation], findings: ValidationReport) -> tuple[str, ...]:
    """Return all class names that occur, sorted.

    Names that differ only in case are reported as an error because they mean the same class.
    """
    places: dict[str, str] = {}
    for annotation in annotations:
        for thing in annotation.objects:
            places.setdefault(thing.label, annotation.where)
    folded: dict[str, str] = {}
    for name in sorted(places):
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            findings.error(
                places[name], f"class '{name}' is spelled '{other}' elsewhere; list the correct names with --labels"
            )
    return tuple(sorted(places))


def _image_folder(root: Path, folder: Path, images: Path | None) -> Path:
    """Return the image folder: `images` if set, otherwise a usual folder, otherwise the annotation folder."""
    if images:
        return images.absolute()
    return next(place for place in (root / IMAGES, root / "images", folder) if place.is_dir())


def _images_of(
    root: Path, folder: Path, images: Path | None, annotations: Mapping[str, Annotation], findings: ValidationReport
) -> tuple[Path, dict[str, str]]:
    """Return the root of the image names, and the image of each annotation. Files are listed, not opened.

    Args:
        root: Folder of the dataset.
        folder: Folder of the annotations.
        images: Folder of the images, if set.
        annotations: Annotations by relative path below `folder`, without the extension.
        findings: Report that receives errors and warnings.
    """
    place = _image_folder(root, folder, images)
    home = root if place.is_relative_to(root) else place
    index = ImageIndex(place)
    wider = None  # index of all images below the root, created on demand
    if images or place == root:
        wider = index
    names: dict[str, str] = {}
    for stem, annotation in annotations.items():
        files = [place / name for name in _find_any(index, stem)]
        if not files:
            wider = wider or ImageIndex(root)
            files = [wider.root / name for name in _find_any(wider, stem)]
        found = sorted(file.relative_to(home).as_posix() for file in files)
        if not found:
            near = _nearest_image(place, stem, index.names)
            findings.error(
                annotation.where,
                f"no image has the same name as this XML file{near or '; rename the image or the XML file'}",
            )
            continue
        if len({without_ending(name) for name in found}) > 1:
            some = ", ".join(found[:3])
            findings.error(
                annotation.where,
                f"multiple images have the same name ({some}); move the XML file into the folder of its image",
            )
            continue
        if len(found) > 1:
            kind = "image names differ only in the extension; the first image was used"
            findings.warn(kind, ", ".join(found[:2]))
        names[stem] = found[0]
    return home, names


def _find_any(index: ImageIndex, stem: str) -> list[str]:
    """Return candidate images of an annotation.

    The images are found even if each split has its own folders, such as `Annotations` and `JPEGImages`, or `xmls` and
    `images`.
    """
    parts = stem.split("/")
    stems = [stem]
    for k, part in enumerate(parts[:-1]):
        if known_split(part) is None:
            stems += ["/".join((*parts[:k], other, *parts[k + 1 :])) for other in (IMAGES, "images")]
    for name in stems:
        files = index.find(name)
        if files:
            return files
    return []


def _nearest_image(place: Path, stem: str, names: Sequence[str]) -> str:
    """Return `"; did you mean A.JPG?"` for an image whose name differs from `stem` only in case."""
    for name in names:
        if normal(without_ending(name)).casefold() == normal(stem).casefold():
            return f"; did you mean {place / name}?"
    return ""
