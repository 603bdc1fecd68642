"""Reader for NUS-WIDE: image lists, and one file per concept and split with 0 or 1 for each image."""

from __future__ import annotations

from pathlib import Path

from mlrec.datasets.image_paths import Omitted, files_below
from mlrec.datasets.manifest import POSITIVE
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.datasets.readers.samples import ImageFinder, clean_labels, lines_of, manifest_of
from mlrec.utils.errors import DataError, ValidationReport, counted

CONCEPTS = "Concepts81.txt"
LISTS = {"train": "TrainImagelist.txt", "test": "TestImagelist.txt"}
SUFFIXES = {"train": "Train", "test": "Test"}  # in the names of label files
FOLDERS = ("Flickr", "images", "")  # usual image folders


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as NUS-WIDE, otherwise None."""
    places = (path, path / "ImageList", path / "ConceptsList")
    for name in (*LISTS.values(), CONCEPTS):
        if any((place / name).is_file() for place in places):
            return f"it contains {name}, like NUS-WIDE"
    return None


def read_nuswide(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read `TrainImagelist.txt`, `TestImagelist.txt` and the files `Labels_<concept>_<Train or Test>.txt`.

    The files may be in any folder below `path`. Concepts are read from `Concepts81.txt` in the order of the file.
    Without `Concepts81.txt`, all concepts that have label files are used, sorted by name. Images are in
    `options.images`, in `Flickr`, or anywhere below `path`.

    Raises:
        DataError: There are no image lists or no concepts.
    """
    base = path.absolute()
    root = (options.images or base).absolute()
    text_files = {file.name: file for file in files_below(base, Omitted()) if file.suffix.lower() == ".txt"}
    concepts = _concepts(text_files, findings)
    if not concepts:
        raise DataError(
            f"{base}: neither {CONCEPTS} nor Labels_<concept>_Train.txt was found; specify the NUS-WIDE folder"
        )
    finder = ImageFinder(root, findings)
    manifests = []
    for split, list_name in LISTS.items():
        if list_name not in text_files:
            findings.warn(f"split '{split}' is absent because its list is missing", f"{base}: {list_name}")
            continue
        file = text_files[list_name]
        images = [finder.find(line, f"{file}: line {number}", FOLDERS) for number, line in lines_of(file)]
        targets: dict[str, dict[str, int]] = {}
        for image in images:
            if image in targets:
                findings.error(
                    str(file),
                    f"{image} is listed twice, so the label lines cannot be matched to images; unpack the archive "
                    "of image lists again",
                )
            targets[image] = {}
        for concept, label in concepts.items():
            name = f"Labels_{concept}_{SUFFIXES[split]}.txt"
            if name not in text_files:
                findings.error(str(base), f"{name} is missing; unpack the label archive again")
                continue
            for image in _positives(text_files[name], images, file, findings):
                targets[image][label] = POSITIVE
        manifests.append(manifest_of(split, root, tuple(concepts.values()), targets, name="nuswide"))
    if not manifests:
        raise DataError(f"{base}: no {' or '.join(LISTS.values())} found; specify the NUS-WIDE folder")
    return Reading("nuswide", manifests, {"kind": "nuswide", "path": str(base)})


def _concepts(text_files: dict[str, Path], findings: ValidationReport) -> dict[str, str]:
    """Return the label for each concept as spelled in file names."""
    if CONCEPTS in text_files:
        file = text_files[CONCEPTS]
        names = [line for _, line in lines_of(file)]
        return dict(zip(names, clean_labels(names, str(file), findings), strict=True))
    stems = (Path(name).stem for name in text_files)
    names = sorted(
        stem[len("Labels_") : -len("_Train")]
        for stem in stems
        if stem.startswith("Labels_") and stem.endswith("_Train")
    )
    return dict(zip(names, clean_labels(names, "Labels_<concept>_Train.txt", findings), strict=True))


def _positives(file: Path, images: list[str], image_list: Path, findings: ValidationReport) -> list[str]:
    """Return the images whose line in a label file is 1."""
    values = lines_of(file)
    if len(values) != len(images):
        findings.error(
            str(file),
            f"the file has {counted(len(values), 'line')}, but {image_list.name} has {len(images):,} images; unpack "
            "the archive again",
        )
        return []
    for number, value in values:
        if value not in ("0", "1"):
            findings.error(f"{file}: line {number}", f"'{value}' is not 0 or 1; unpack the archive again")
    return [image for image, (_, value) in zip(images, values, strict=True) if value == "1"]
