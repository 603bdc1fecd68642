"""Names of an exported bundle's files."""

from __future__ import annotations

from pathlib import Path

from mlrec.utils.files import MODEL_FILE

ONNX = "model.onnx"
BUNDLE = "bundle.json"
CARD = "README.md"


def onnx_file(model: Path | str) -> Path | None:
    """The ONNX model that a path means: the file itself, or that of a bundle; None where it means another model."""
    path = Path(model)
    if path.suffix == ".onnx":
        return path
    file = path / ONNX
    return file if file.is_file() and not (path / MODEL_FILE).is_file() else None
