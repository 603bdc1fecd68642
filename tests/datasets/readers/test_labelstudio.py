"""Label Studio's exports, as literal files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlrec.datasets.readers.labelstudio import read_labelstudio, recognizes
from mlrec.datasets.readers.registry import Reading, ReadOptions
from mlrec.utils.errors import DataError, ValidationReport


def choice(*names: str, question: str = "choice") -> dict[str, Any]:
    return {"type": "choices", "from_name": question, "to_name": "image", "value": {"choices": list(names)}}


def annotation(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"result": list(results), "was_cancelled": False} | more


def task(image: str, *annotations: dict[str, Any]) -> dict[str, Any]:
    return {"id": 1, "annotations": list(annotations), "data": {"image": image}}


def read(root: Path, tasks: list[Any], **options: Any) -> tuple[Reading, ValidationReport]:
    findings = ValidationReport()
    (root / "export.json").write_text(json.dumps(tasks))
    return read_labelstudio(root / "export.json", ReadOptions(**options), findings), findings


def targets(reading: Reading) -> dict[str, dict[str, int]]:
    (manifest,) = reading.manifests
    rows = zip(manifest.images, manifest.targets.tolist(), strict=True)
    return {image: dict(zip(manifest.labels, row, strict=True)) for image, row in rows}


@pytest.mark.parametrize(
    "reference",
    [
        "/data/upload/1/0a1b2c3d-my cat.jpg",
        "/data/upload/1/0a1b2c3d-my%20cat.jpg",
        "/data/local-files/?d=photos/my%20cat.jpg",
        "https://example.org/bucket/photos/my%20cat.jpg?signature=abc",
        "s3://bucket/photos/my cat.jpg",
        "photos/my cat.jpg",
    ],
)
def test_references_lead_to_the_file(tmp_path: Path, reference: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/my cat.jpg").touch()
    reading, findings = read(tmp_path, [task(reference, annotation(choice("cat")))])
    assert (targets(reading), findings.errors) == ({"photos/my cat.jpg": {"cat": 1}}, [])


def test_a_file_that_really_has_the_prefix_is_preferred(tmp_path: Path) -> None:
    for name in ("0a1b2c3d-a.jpg", "a.jpg"):
        (tmp_path / name).touch()
    reading, _ = read(tmp_path, [task("/data/upload/1/0a1b2c3d-a.jpg", annotation(choice("cat")))])
    assert list(targets(reading)) == ["0a1b2c3d-a.jpg"]


def test_no_choice_is_negative_no_annotation_is_unknown_and_skipped_ones_do_not_count(tmp_path: Path) -> None:
    tasks = [
        task("a.jpg", annotation(choice("cat", "dog"))),
        task("b.jpg", annotation()),
        task("c.jpg"),
        task("d.jpg", annotation(choice("cat"), was_cancelled=True)),
    ]
    reading, findings = read(tmp_path, tasks)
    assert targets(reading) == {
        "a.jpg": {"cat": 1, "dog": 1},
        "b.jpg": {"cat": 0, "dog": 0},
        "c.jpg": {"cat": -1, "dog": -1},
        "d.jpg": {"cat": -1, "dog": -1},
    }
    assert len([line for line in findings.warnings if line.startswith("labels of tasks without an annotation")]) == 1


def test_annotators_that_disagree_make_a_label_unknown_unless_one_is_the_truth(tmp_path: Path) -> None:
    both = (annotation(choice("cat", "dog")), annotation(choice("cat")))
    reading, findings = read(tmp_path, [task("a.jpg", *both)])
    assert targets(reading) == {"a.jpg": {"cat": 1, "dog": -1}}
    assert "annotators disagree, so the label was set to unknown" in findings.warnings[0]
    reading, findings = read(tmp_path, [task("a.jpg", both[1], both[0] | {"ground_truth": True})])
    assert (targets(reading), findings.warnings) == ({"a.jpg": {"cat": 1, "dog": 1}}, [])


def test_a_choice_of_two_questions_gets_their_names(tmp_path: Path) -> None:
    asked = annotation(choice("yes", question="wet"), choice("no", question="cold"))
    other = annotation(choice("yes", question="cold"))
    reading, _ = read(tmp_path, [task("a.jpg", asked), task("b.jpg", other)])
    assert targets(reading)["a.jpg"] == {"wet=yes": 1, "no": 1, "cold=yes": 0}


def test_the_configuration_gives_the_order_and_labels_without_a_positive(tmp_path: Path) -> None:
    choices = '<Choice value="zebra"/><Choice value="cat"/>'
    (tmp_path / "config.xml").write_text(f'<View><Choices name="choice" toName="image">{choices}</Choices></View>')
    reading, _ = read(tmp_path, [task("a.jpg", annotation(choice("cat")))])
    assert reading.manifests[0].labels == ("zebra", "cat")


def test_json_min_has_texts_objects_and_regions(tmp_path: Path) -> None:
    tasks = [
        {"image": "a.jpg", "id": 1, "choice": "cat", "annotator": 1, "annotation_id": 1, "source": "camera"},
        {"image": "b.jpg", "id": 2, "choice": {"choices": ["cat", "dog"]}, "annotator": 1, "annotation_id": 2},
        {
            "image": "c.jpg",
            "id": 3,
            "choice": [{"x": 1, "rectanglelabels": ["dog"]}],
            "annotation_id": 3,
            "annotator": 1,
        },
    ]
    reading, _ = read(tmp_path, tasks)
    assert list(targets(reading).values()) == [
        {"cat": 1, "dog": 0},
        {"cat": 1, "dog": 1},
        {"cat": 0, "dog": 1},
    ]
    with pytest.raises(
        DataError,
        match="it is unclear which of the keys choice, source contains the choices; export the project as JSON",
    ):
        read(tmp_path, tasks[:1])


def test_a_folder_of_splits_and_other_json_next_to_it(tmp_path: Path) -> None:
    for split, name in (("train", "a.jpg"), ("valid", "b.jpg")):
        (tmp_path / f"{split}.json").write_text(json.dumps([task(name, annotation(choice("cat")))]))
    (tmp_path / "notes.json").write_text("{}")
    reading = read_labelstudio(tmp_path, ReadOptions(), ValidationReport())
    assert [m.split for m in reading.manifests] == ["train", "val"]
    assert "contains Label Studio tasks" in str(recognizes(tmp_path))


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([{"id": 7, "annotations": [], "data": {"text": "no image"}}], "task 7: the task has no image"),
        ([{"id": 7, "annotations": [], "data": {"a": "a.jpg", "b": "b.jpg"}}], r"has multiple images \(a, b\)"),
        ([task("a.jpg", {"result": 3})], "annotations cannot be read"),
        ([task("../a.jpg", annotation(choice("cat")))], "is outside the image directory"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, tasks: list[Any], message: str) -> None:
    findings = ValidationReport()
    (tmp_path / "export.json").write_text(json.dumps([task("z.jpg", annotation(choice("x"))), *tasks]))
    read_labelstudio(tmp_path / "export.json", ReadOptions(), findings)
    with pytest.raises(DataError, match=message):
        findings.raise_errors("", "")
