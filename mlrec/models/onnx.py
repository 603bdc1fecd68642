"""Export of a model to a self-contained ONNX file, with labels and preprocessing in the metadata.

The input `images` is a normalized float32 tensor (B, 3, S, S) with any batch size B; the output `logits` is a float32
tensor (B, C).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlrec.models.preprocessing import Preprocessing
from mlrec.utils.errors import ModelError
from mlrec.utils.files import MODEL_FILE, write_bytes

if TYPE_CHECKING:
    from mlrec.models.classifier import Classifier

KEY, FORMAT = "mlrec", "mlrec-onnx/1"
INPUT, OUTPUT = "images", "logits"
OPSET = 18


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """Exported model that is run by ONNX Runtime on the CPU.

    Attributes:
        labels: C label names, in the order of the logits.
        preprocessing: Preprocessing of the input images.
        decode: Image decoder that was used in training.
    """

    labels: tuple[str, ...]
    preprocessing: Preprocessing
    decode: str
    session: Any

    @classmethod
    def load(cls, path: Path) -> OnnxModel:
        """Open a file that was written by `export_onnx`.

        Raises:
            ModelError: The file is missing or was not written by mlrec, or ONNX Runtime is not installed.
        """
        shown, runtime = path, _needed("onnxruntime")
        if not path.is_file():
            raise ModelError(f"{shown}: no such file; create it with mlrec export")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        try:
            session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            told = json.loads(session.get_modelmeta().custom_metadata_map.get(KEY, "{}"))
        except Exception as error:  # ONNX Runtime raises many undocumented kinds of exceptions
            raise ModelError(
                f"{shown}: ONNX Runtime cannot read the file ({type(error).__name__}); export the model again"
            ) from error
        if not isinstance(told, dict) or told.get("format") != FORMAT:
            raise ModelError(
                f"{shown}: not an ONNX model exported by mlrec (its metadata does not name the format {FORMAT}); "
                "export the model with mlrec export"
            )
        try:
            preprocessing = Preprocessing.from_dict(told["preprocessing"])
            return cls(tuple(map(str, told["labels"])), preprocessing, str(told.get("decode", "fast")), session)
        except (KeyError, TypeError, ValueError) as error:
            fault = f"the key {error} is missing" if isinstance(error, KeyError) else error
            raise ModelError(f"{shown}: the metadata is damaged ({fault}); export the model again") from error

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the logits (B, C) of normalized images (B, 3, S, S)."""
        found: NDArray[np.float32] = self.session.run([OUTPUT], {INPUT: images})[0]
        return found


def export_onnx(model: Classifier, path: Path, config: Mapping[str, Any]) -> None:
    """Write a model as an ONNX file that contains the weights and has a dynamic batch size.

    The passed model is converted to float32, moved to the CPU and set to eval mode.

    Raises:
        ModelError: The model cannot be converted, or the packages in the extra `onnx` are not installed.
    """
    from mlrec.models.backbones import quiet

    onnx = _needed("onnx")
    _needed("onnxscript")
    size = model.preprocessing.size
    example = torch.zeros(2, 3, size, size)
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(
                model.float().cpu().eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
                dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            )
    except Exception as error:  # the exporter raises many kinds of exceptions
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"{model.architecture.backbone}: export to ONNX failed ({reason}); use --format safetensors"
        ) from error
    assert program is not None
    proto = program.model_proto
    told = {
        "format": FORMAT,
        "labels": model.labels,
        "preprocessing": model.preprocessing.to_dict(),
        "decode": config.get("image_backend", "fast"),
    }
    onnx.helper.set_model_props(proto, {KEY: json.dumps(told, ensure_ascii=False)})
    write_bytes(path, proto.SerializeToString())


def _needed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(f"{name} is not installed; run pip install 'mlrec[onnx]'") from error


ONNX = "model.onnx"
BUNDLE = "bundle.json"
CARD = "README.md"


def onnx_file(model: Path | str) -> Path | None:
    """Return the path of the ONNX file if `model` is an `.onnx` path or exported folder, else None.

    A folder that also contains `model.safetensors` does not count as an exported folder.
    """
    path = Path(model)
    if path.suffix == ".onnx":
        return path
    file = path / ONNX
    if file.is_file() and not (path / MODEL_FILE).is_file():
        return file
    return None
