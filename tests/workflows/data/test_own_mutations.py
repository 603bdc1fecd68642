"""Own annotations with bytes changed at random: prepared, or refused in lines that can be printed; never a crash."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlrec.datasets.readers.wider import LABELS
from mlrec.utils.errors import DataError
from mlrec.workflows.data.prepare import prepare
from tests.workflows.data.test_prepare_mutations import XML, mutated

WIDER = json.dumps(
    {
        "images": [
            {"file_name": "test/1.jpg", "targets": [{"attribute": [1, 0, -1] + 11 * [0], "bbox": [1, 1, 5, 5.5]}]}
        ],
        "attribute_id_map": {str(k): label for k, label in enumerate(LABELS)},
    }
).encode()
FILES = {
    "labels.csv": "filename,split,dog,café\r\nImage/test/1.jpg,train,1,0\r\n./2.jpg,test,-1,1.0\r\n".encode(),
    "Anno/wider_attribute_test.json": WIDER,
    "data.yaml": b"path: .\ntrain: [Image/test, list.txt]\nval:\nnames: {0: dog, 1: 'cat'}\n",
    "list.txt": b"2.jpg\n",
    "2.txt": b"0 .5 .5 .1 .1\n1 .2 .2 .1 .1 .3 .3\n",
    "1.xml": XML,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images that are a dataset of every kind at once."""
    for name, content in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "Image/test").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for image in ("Image/test/1.jpg", "1.jpg", "2.jpg"):
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(tmp_path / image)
    return tmp_path


@pytest.mark.parametrize(
    ("kind", "path", "file"),
    [
        ("csv", "labels.csv", "labels.csv"),
        ("wider", ".", "Anno/wider_attribute_test.json"),
        ("yolo", "data.yaml", "data.yaml"),
        ("yolo", "data.yaml", "list.txt"),
        ("yolo", "data.yaml", "2.txt"),
        ("voc", ".", "1.xml"),
    ],
)
def test_no_mutation_crashes(folder: Path, kind: str, path: str, file: str) -> None:
    prepare(kind, folder / path, out=folder / "data", name="good")
    refused = []
    for seed in range(60):
        (folder / file).write_bytes(mutated(FILES[file], random.Random(seed)))
        try:
            prepare(kind, folder / path, out=folder / "data", name="bad")
        except DataError as error:
            refused.append(str(error).splitlines())
    assert len(refused) > 5
    assert all(len(lines) <= 12 and "".join(lines).isprintable() for lines in refused)
