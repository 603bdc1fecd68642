"""PA-100K and PETA: small MATLAB files of their layout, written by scipy."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlrec.datasets.readers.pa100k import read_pa100k
from mlrec.datasets.readers.peta import read_peta
from mlrec.datasets.readers.registry import ReadOptions
from mlrec.utils.errors import DataError, MlrecError, ValidationReport

io = pytest.importorskip("scipy.io")
COUNTS = {"train": 5, "val": 3, "test": 2}


def cells(texts: list[str]) -> np.ndarray[Any, Any]:
    """A column of texts, as MATLAB's cell arrays come."""
    return np.array([[text] for text in texts], dtype=object)


def pa100k(root: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    content: dict[str, Any] = {"attributes": cells(["Female", "Hat", "Glasses"])}
    for split, count in COUNTS.items():
        content[f"{split}_images_name"] = cells([f"{split}{k:03}.jpg" for k in range(count)])
        content[f"{split}_label"] = rng.integers(0, 2, (count, 3)).astype(np.uint8)
        for k in range(count):
            (root / "release_data/release_data").mkdir(parents=True, exist_ok=True)
            (root / f"release_data/release_data/{split}{k:03}.jpg").touch()
    return content


def test_pa100k_has_its_splits_and_attributes(tmp_path: Path) -> None:
    content = pa100k(tmp_path)
    io.savemat(tmp_path / "annotation.mat", content)
    findings = ValidationReport()
    reading = read_pa100k(tmp_path, ReadOptions(), findings)
    assert (findings.errors, findings.warnings) == ([], [])
    assert [(m.split, len(m)) for m in reading.manifests] == list(COUNTS.items())
    for manifest in reading.manifests:
        assert manifest.labels == ("Female", "Hat", "Glasses")
        assert manifest.images[0] == f"release_data/release_data/{manifest.split}000.jpg"
        assert (manifest.targets == content[f"{manifest.split}_label"]).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("val_label", None, "no variable 'val_label'"),
        ("val_label", np.full((3, 3), 2), r"val_label is not an array of 0s and 1s with shape \(3, 3\)"),
        ("val_label", np.zeros((2, 3)), r"val_label is not an array of 0s and 1s with shape \(3, 3\)"),
        ("attributes", np.array([[1, 2, 3]]), "entry 1 is not a string"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, key: str, value: Any, message: str) -> None:
    content = pa100k(tmp_path) | {key: value}
    io.savemat(tmp_path / "annotation.mat", {name: item for name, item in content.items() if item is not None})
    with pytest.raises(DataError, match=message):
        read_pa100k(tmp_path, ReadOptions(), ValidationReport())


def test_a_broken_file_and_a_missing_one_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_pa100k(tmp_path, ReadOptions(), ValidationReport())
    (tmp_path / "annotation.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 200)
    with pytest.raises(DataError, match="cannot be read as a MATLAB file"):
        read_pa100k(tmp_path, ReadOptions(), ValidationReport())


def test_without_scipy_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io.savemat(tmp_path / "annotation.mat", pa100k(tmp_path))
    real = builtins.__import__

    def no_scipy(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", no_scipy)
    with pytest.raises(MlrecError, match=r"requires scipy; install it with pip install 'mlrec\[mat\]'"):
        read_pa100k(tmp_path, ReadOptions(), ValidationReport())


def test_peta_counts_from_one_and_uses_the_first_division(tmp_path: Path) -> None:
    table = np.zeros((6, 4 + 2))
    table[:, 0] = np.arange(1, 7)
    table[:, 4:] = np.random.default_rng(1).integers(0, 2, (6, 2))
    divisions = np.empty((2, 1), dtype=object)
    for k, (train, val, test) in enumerate([((3, 1), (2, 4), (6, 5)), ((1, 2), (3, 4), (5, 6))]):
        parts = {"train": train, "val": val, "test": test}
        divisions[k, 0] = {name: np.array(rows).reshape(-1, 1) for name, rows in parts.items()}
    names = cells(["personalLess30", "accessoryHat"])
    peta = {"data": table, "attribute": names, "selected": np.array([[1]]), "partion": divisions}
    io.savemat(tmp_path / "PETA.mat", {"peta": peta})
    reading = read_peta(tmp_path, ReadOptions(), ValidationReport())
    assert {m.split: m.images for m in reading.manifests} == {
        "train": ("images/00003.png", "images/00001.png"),
        "val": ("images/00002.png", "images/00004.png"),
        "test": ("images/00006.png", "images/00005.png"),
    }
    assert reading.manifests[0].labels == ("personalLess30", "accessoryHat")
    assert (reading.manifests[0].targets == table[[2, 0], 4:]).all()
    table[0, 5] = 7
    io.savemat(tmp_path / "PETA.mat", {"peta": peta})
    with pytest.raises(DataError, match="expected a column of 0s and 1s for each of the 2 attributes"):
        read_peta(tmp_path, ReadOptions(), ValidationReport())
    io.savemat(tmp_path / "PETA.mat", {"peta": np.zeros(3)})
    with pytest.raises(DataError, match="the file does not have the layout of the PETA annotations"):
        read_peta(tmp_path, ReadOptions(), ValidationReport())
