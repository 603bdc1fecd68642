"""Own images annotated in VOC's XML, as labelling tools write it: any labels, any image format, lists or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from mlrec.datasets.images import SUFFIXES
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.sources import Reading, ReadOptions
from mlrec.datasets.splitnames import WHOLE, known_split, resolve_names, usual_order
from mlrec.datasets.voc import ANNOTATIONS, IMAGES, LISTS, read_lists, split_lists, target_array, targets_of
from mlrec.datasets.vocxml import Annotation, read_annotation
from mlrec.errors import DataError, Findings, printable


def read_own_voc(path: Path, options: ReadOptions, findings: Findings) -> Reading:
    """Read a folder with `Annotations` and `JPEGImages`, or with XML files and images side by side.

    Splits are those of `ImageSets/Main`, else there is one, `all`; if the XML files are in folders named like splits
    (`train`, `valid`, `test`), these are the splits. Labels are `options.labels`, in that order, and any other name is
    an error; without them the names that occur, sorted. Images are in `options.images`, in `JPEGImages`, in `images`,
    or next to the XML files, under the name (and in the folder) of their XML file.

    Raises:
        DataError: no annotations there.
    """
    root = path.absolute()
    folder = next((root / name for name in (ANNOTATIONS, ANNOTATIONS.lower()) if (root / name).is_dir()), root)
    listed = bool(split_lists(root / LISTS, options.split_names))
    if listed:
        lists = read_lists(root / LISTS, findings, own=True, given=options.split_names)
    else:
        lists = _found(folder, options.split_names, findings)
    annotations = {}
    for stem in dict.fromkeys(stem for stems in lists.values() for stem in stems):
        if annotation := read_annotation(folder / f"{stem}.xml", root, findings):
            annotations[stem] = annotation
    labels = tuple(options.labels) if options.labels else _collected(list(annotations.values()), findings)
    if not labels and not findings.errors:
        raise DataError(f"{printable(folder)}: no annotation holds an object, so there are no labels; give --labels")
    targets = {stem: targets_of(annotation, labels, findings) for stem, annotation in annotations.items()}
    parts = {str(Path(stem).parent) for stem in annotations}
    root, names = _image_files(root, folder, options.images, sorted(parts), findings)
    for stem in [stem for stem in annotations if stem not in names]:
        findings.error(annotations[stem].where, "no image of this name; its image must be called as the XML file is")
    if findings.errors:
        return Reading(path.name, [], {})
    if not listed:
        for stem in [stem for stem in names if stem not in annotations]:
            findings.warn("images without an annotation were left out", names[stem])
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
    sizes = {names[stem]: found.size for stem, found in annotations.items() if found.size}
    source = {"kind": "voc", "path": str(path.absolute()), "annotations": str(folder)}
    if folder.name == ANNOTATIONS and root == path.absolute():
        source["format"] = "voc"  # laid out as VOC is, so that objects can be read again as there
    return Reading(path.absolute().name, manifests, source, stated_sizes=sizes)


def _found(folder: Path, given: Mapping[str, str], findings: Findings) -> dict[str, list[str]]:
    """Annotations by split, as paths below `folder` without their ending: all as one, or those of a folder a split.

    Raises:
        DataError: there is none.
    """
    if stems := _stems(folder, folder):
        resolve_names({}, given, findings)
        return {WHOLE: stems}
    named = [part for part in _folders(folder) if known_split(part.name) or part.name.casefold() in given]
    parts = {part.name: stems for part in named if (stems := _stems(part, folder))}
    if not parts:
        raise DataError(f"{printable(folder)}: no .xml annotation here; give the folder that holds {ANNOTATIONS}")
    names = resolve_names({name: str(folder / name) for name in parts}, given, findings)
    lists: dict[str, list[str]] = {}
    for name, stems in parts.items():
        lists[names[name]] = lists.get(names[name], []) + stems
    return dict(sorted(lists.items(), key=lambda item: usual_order(item[0])))


def _folders(folder: Path) -> list[Path]:
    return sorted(part for part in folder.glob("[!.]*") if part.is_dir())


def _stems(place: Path, folder: Path) -> list[str]:
    return [file.relative_to(folder).with_suffix("").as_posix() for file in sorted(place.glob("[!.]*.xml"))]


def _collected(annotations: Sequence[Annotation], findings: Findings) -> tuple[str, ...]:
    """All class names that occur, sorted. Names that differ in case alone are an error: they are one class."""
    places: dict[str, str] = {}
    for annotation in annotations:
        for thing in annotation.objects:
            places.setdefault(thing.label, annotation.where)
    folded: dict[str, str] = {}
    for name in sorted(places):
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            findings.error(places[name], f"class '{printable(name)}' is '{printable(other)}' elsewhere; give --labels")
    return tuple(sorted(places))


def _image_files(
    root: Path, folder: Path, images: Path | None, parts: Sequence[str], findings: Findings
) -> tuple[Path, dict[str, str]]:
    """The root of the image names, and the name of each image file by its stem. Files are listed, not opened.

    `parts` are the folders below that of the annotations in which annotations were found.
    """
    candidates = (root / IMAGES, root / "images", folder)
    place = images.absolute() if images else next(c for c in candidates if c.is_dir())
    home = root if place.is_relative_to(root) else place
    names: dict[str, str] = {}
    for file in (file for part in parts for file in sorted((place / part).glob("[!.]*"))):
        if file.suffix.lower() in SUFFIXES:
            name, stem = file.relative_to(home).as_posix(), file.relative_to(place).with_suffix("").as_posix()
            if names.setdefault(stem, name) != name:
                findings.warn(
                    "of images that differ in their ending alone the first was taken", f"{names[stem]}, {name}"
                )
    return home, names
