"""Reader for Label Studio exports (JSON or JSON-MIN) with image-level choices or region labels.

A label is positive if an annotation selects this label, and negative otherwise. Skipped annotations are ignored. Tasks
without any annotation have unknown labels. If annotators disagree about a label, the label is set to unknown, with a
warning.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import msgspec

from mlrec.datasets.image_paths import is_image
from mlrec.datasets.manifest import POSITIVE, UNKNOWN
from mlrec.datasets.readers.json_file import read_json
from mlrec.datasets.readers.registry import Reading, ReadOptions, usual_name
from mlrec.datasets.readers.samples import ImageFinder, as_list, first_bytes, manifest_of
from mlrec.datasets.readers.xml_file import parse_xml
from mlrec.datasets.split_names import WHOLE, known_split, resolve_names, usual_order
from mlrec.utils.errors import DataError, ValidationReport
from mlrec.utils.names import clean_label

FOLDERS = ("", "images")
MAX_CONFIG = 10_000_000  # maximum bytes of a labeling configuration
IMAGE_KEYS = ("image", "img", "photo", "picture", "url")  # preferred if a task has multiple images
SHAPES = ("rectangle", "polygon", "ellipse", "keypoint", "brush", "bitmask", "vector")
TYPES = ("choices", "labels", *(f"{shape}labels" for shape in SHAPES))
NO_LABELS = (
    *("textarea", "rating", "number", "relation", "datetime"),
    *("rectangle", "polygon", "ellipse", "keypoint", "brush"),
)
META = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time")  # metadata keys in JSON-MIN
_UPLOAD = re.compile(r"(^|/)[0-9a-f]{8}-(?=[^/]+$)")
_START = re.compile(rb"\s*\[\s*\{")


class _TaskAnnotation(msgspec.Struct):
    result: list[dict[str, Any]] = []
    was_cancelled: bool = False
    ground_truth: bool = False


@dataclass(frozen=True)
class _Task:
    """One image: its reference, and the choices of each annotator, as (question, choice)."""

    where: str
    image: str
    annotations: list[set[tuple[str, str]]]


def recognizes(path: Path) -> str | None:
    """Return a short reason if `path` is recognized as a Label Studio export, otherwise None."""
    for file in _files(path):
        head = first_bytes(file)
        full = b'"annotations"' in head and (b'"data"' in head or b'"was_cancelled"' in head or b'"result"' in head)
        small = b'"annotation_id"' in head and b'"annotator"' in head
        if _START.match(head) and (full or small):
            return f"{file.name} contains Label Studio tasks"
    return None


def read_labelstudio(path: Path, options: ReadOptions, findings: ValidationReport) -> Reading:
    """Read a Label Studio export.

    The export is a JSON file, or a folder with one JSON file or one file per split (`train.json`).

    If the folder contains the XML file of the labeling configuration, the labels in this file come first, in the order
    of the file. All other labels that occur follow, sorted by name. Images are in `options.images` or below the folder
    of the file. Label Studio adds a prefix of 8 hexadecimal digits to the names of uploaded files; images are also
    found without this prefix.

    Raises:
        DataError: There is no export file, there are multiple files that are not named after splits, or the export has
            no images or no labels.
    """
    files = _files(path.absolute())
    if path.is_dir():
        files = [file for file in files if recognizes(file)]
    splits = _splits(path, files, options, findings)
    folder = files[0].parent
    root = (options.images or folder).absolute()
    tasks: dict[str, list[_Task]] = {}
    for file in files:
        tasks[splits[file]] = list(_tasks(read_json(file, list[dict[str, Any]], findings), file, findings))
        if not tasks[splits[file]]:
            raise DataError(f"{file}: no task has an image; export the project as JSON or JSON-MIN")
    names = _label_names([task for part in tasks.values() for task in part], findings)
    labels = _labels(folder, set(names.values()), findings)
    if not labels:
        raise DataError(f"{files[0]}: no task has a label; label some tasks first")
    finder = ImageFinder(root, findings)
    name = usual_name(path)
    manifests = []
    for split in sorted(tasks, key=usual_order):
        targets: dict[str, dict[str, int]] = {}
        for task in tasks[split]:
            image = finder.find(_spellings(task.image), task.where, FOLDERS)
            known = _targets(task, names, labels, findings)
            if image in targets and targets[image] != known:
                findings.error(
                    task.where, f"{image} is in two tasks with different labels; keep only one of these tasks"
                )
            elif image in targets:
                findings.warn("duplicate records were merged", f"{task.where}: {image}")
            targets[image] = known
        manifests.append(manifest_of(split, root, labels, targets, name=name))
    return Reading(name, manifests, {"kind": "labelstudio", "path": str(path.absolute())})


def _splits(path: Path, files: Sequence[Path], options: ReadOptions, findings: ValidationReport) -> dict[Path, str]:
    """Return the split of each file.

    Raises:
        DataError: There is no file, or there are multiple files that are not named after splits.
    """
    given = options.split_names
    named = [file for file in files if known_split(file.stem) or file.stem.casefold() in given]
    if files and len(named) == len(files):
        names = resolve_names({file.stem: str(file) for file in files}, given, findings)
        return {file: names[file.stem] for file in files}
    if len(files) != 1:
        if files:
            raise DataError(
                f"{path}: the folder contains {len(files)} Label Studio exports; specify the path of one file, or name "
                "each file after its split"
            )
        raise DataError(f"{path}: no Label Studio JSON export found; specify the path of the file")
    return {files[0]: WHOLE}


def _labels(folder: Path, found: set[str], findings: ValidationReport) -> tuple[str, ...]:
    """Return the labels in the labeling configuration, in order, then other labels that occur, sorted."""
    configured: list[str] = []
    for file in sorted(folder.glob("[!.]*.xml")):
        if b"<View" in first_bytes(file):
            tree = parse_xml(file, str(file), ElementTree.TreeBuilder(), MAX_CONFIG)
            choices = (element for element in tree.iter() if element.tag in ("Choice", "Label"))
            names = (choice.get("alias") or choice.get("value") or "" for choice in choices)
            configured += [clean_label(name, str(file), findings) for name in names]
    in_order = list(dict.fromkeys(configured))
    return tuple(in_order + sorted(found - set(in_order)))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.glob("[!.]*.json"))
    return [path] if path.suffix.lower() == ".json" else []


def _tasks(records: Sequence[Mapping[str, Any]], file: Path, findings: ValidationReport) -> Iterator[_Task]:
    questions = _questions([record for record in records if "annotations" not in record], file)
    for number, record in enumerate(records):
        where = f"{file}: task {record.get('id', number)}"
        data: Any = record
        if "annotations" in record:
            data = record.get("data")
        if not isinstance(data, dict):
            data = {}
        image = _image_of(data, where, findings)
        if image is None:
            continue
        if "annotations" in record:
            yield _Task(where, image, _full(record["annotations"], where, findings))
        else:
            yield _Task(where, image, [_minimal(record, questions)])


def _image_of(data: Mapping[str, Any], where: str, findings: ValidationReport) -> str | None:
    """Return the reference to the image in the task data."""
    found = {key: value for key, value in data.items() if isinstance(value, str) and is_image(_spellings(value)[0])}
    preferred = [key for key in found if key.casefold() in IMAGE_KEYS]
    keys = preferred or list(found)
    if len(keys) == 1:
        return found[keys[0]]
    if keys:
        findings.error(
            where, f"the task has multiple images ({', '.join(keys)}), but only one is supported; remove the task"
        )
    else:
        findings.error(where, "the task has no image, but only image tasks can be read; remove the task")
    return None


def _spellings(reference: str) -> list[str]:
    """Return possible file names for a reference to an upload, a storage or a URL.

    The names are given with and without the prefix.
    """
    parts = urlsplit(reference)
    local = parse_qs(parts.query).get("d")
    name = reference
    if local:
        name = local[0]
    elif parts.scheme and parts.netloc:
        name = "/" + unquote(parts.path).lstrip("/")
    elif parts.query:
        name = unquote(parts.path)
    names = [name, unquote(name)]
    return list(dict.fromkeys([*names, *(_UPLOAD.sub(r"\1", each) for each in names)]))


def _full(annotations: Any, where: str, findings: ValidationReport) -> list[set[tuple[str, str]]]:
    """Return the choices by each annotator.

    If one annotation is marked as ground truth, only this one is used.
    """
    try:
        decoded = msgspec.convert(annotations, list[_TaskAnnotation])
    except msgspec.ValidationError as error:
        findings.error(where, f"the annotations cannot be read ({error}); export the project again")
        return []
    valid = [annotation for annotation in decoded if not annotation.was_cancelled]
    truth = [annotation for annotation in valid if annotation.ground_truth]
    return [_choices(annotation.result, where, findings) for annotation in truth or valid]


def _choices(results: Sequence[Mapping[str, Any]], where: str, findings: ValidationReport) -> set[tuple[str, str]]:
    chosen = set()
    for result in results:
        kind, value = result.get("type"), result.get("value")
        if kind in TYPES and isinstance(value, dict):
            names = value.get(kind, [])
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                findings.error(where, f"'{kind}' is not a list of strings; export the project again")
                continue
            chosen |= {(str(result.get("from_name", "")), name) for name in names}
        elif kind not in NO_LABELS:
            findings.warn("results other than choices and labels were not used", f"{where} ({kind})")
    return chosen


def _questions(records: Sequence[Mapping[str, Any]], file: Path) -> list[str]:
    """Return the JSON-MIN keys of choices or regions; text data in tasks looks like a single choice.

    Raises:
        DataError: Multiple keys contain only text.
    """
    fields = [(key, value) for record in records for key, value in record.items() if key not in META]
    sure = {key for key, value in fields if isinstance(value, dict | list)}
    texts = {key for key, value in fields if isinstance(value, str) and not is_image(_spellings(value)[0])}
    if not sure and len(texts) > 1:
        keys = ", ".join(sorted(texts))
        raise DataError(
            f"{file}: it is unclear which of the keys {keys} contains the choices; export the project as JSON"
        )
    return sorted(sure or texts)


def _minimal(record: Mapping[str, Any], questions: Sequence[str]) -> set[tuple[str, str]]:
    """Return the choices of a JSON-MIN record.

    The record contains a string, an object of choices, or a list of regions with labels.
    """
    chosen = set()
    for question in questions:
        for entry in as_list(record.get(question, [])):
            if isinstance(entry, dict):
                lists = [entry[key] for key in TYPES if isinstance(entry.get(key), list)]
                chosen |= {(question, name) for names in lists for name in names if isinstance(name, str)}
            elif isinstance(entry, str):
                chosen.add((question, entry))
    return chosen


def _label_names(tasks: Sequence[_Task], findings: ValidationReport) -> dict[tuple[str, str], str]:
    """Return the label for each question and choice.

    If two questions have the same choice, the label is the choice prefixed with the question.
    """
    pairs = {pair: task.where for task in tasks for chosen in task.annotations for pair in chosen}
    questions: dict[str, set[str]] = {}
    for question, choice in pairs:
        questions.setdefault(choice, set()).add(question)
    names = {}
    for (question, choice), where in pairs.items():
        name = choice
        if len(questions[choice]) > 1:
            name = f"{question}={choice}"
        names[question, choice] = clean_label(name, where, findings)
    return names


def _targets(
    task: _Task, names: Mapping[tuple[str, str], str], labels: Sequence[str], findings: ValidationReport
) -> dict[str, int]:
    if not task.annotations:
        findings.warn("labels of tasks without an annotation were set to unknown", task.where)
        return dict.fromkeys(labels, UNKNOWN)
    votes = [{names[pair] for pair in chosen} for chosen in task.annotations]
    agreed, chosen = set.intersection(*votes), set.union(*votes)
    for label in sorted(chosen - agreed):
        findings.warn("annotators disagree, so the label was set to unknown", f"{task.where} ('{label}')")
    return dict.fromkeys(chosen, UNKNOWN) | dict.fromkeys(agreed, POSITIVE)
