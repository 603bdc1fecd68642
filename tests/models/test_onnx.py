"""An exported model gives the logits of the model it was made from, for any number of images."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from mlrec.models.classifier import Classifier, create_model
from mlrec.models.onnx import OnnxModel, export_onnx
from mlrec.utils.errors import ModelError

CASES = {
    "small": ("test_vit", {"head": "csra", "temperatures": [1.0, math.inf], "img_size": 160}),
    "resnet": ("resnet18", {"head": "csra", "heads": 2, "lam": 0.3, "img_size": 64}),
    "efficientnet": ("tf_efficientnet_lite0", {"head": "average", "img_size": 64}),
    "vit": ("vit_tiny_patch16_224", {"head": "csra", "temperatures": [1.0, 4.0, math.inf], "img_size": 48}),
}


def made(name: str) -> Classifier:
    torch.manual_seed(0)
    backbone, options = CASES[name]
    model = create_model(backbone, 5, labels=["a", "b", "c", "d", 'é "q"'], **options)  # type: ignore[arg-type]
    for module in model.modules():  # else every image looks alike to a backbone that was never trained
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
    return model.eval()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "small" else pytest.mark.long) for name in CASES]
)
def test_logits_agree_for_any_number_of_images(name: str, tmp_path: Path) -> None:
    model = made(name)
    export_onnx(model, tmp_path / "model.onnx", {"image_backend": "pil"})
    found = OnnxModel.load(tmp_path / "model.onnx")
    assert (found.labels, found.preprocessing, found.decode) == (model.labels, model.preprocessing, "pil")
    size = model.preprocessing.size
    for number in (1, 2, 7):
        images = torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(number))
        with torch.inference_mode():
            expected = model(images).numpy()
        logits = found.logits(images.numpy())
        assert logits.shape == (number, 5)
        assert np.abs(logits - expected).max() <= 1e-4 * max(1.0, np.abs(expected).max())
        assert number == 1 or np.ptp(expected, axis=0).max() > 1e-3  # the images do matter
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]  # weights inside


def test_what_is_no_model_of_ours_is_told_in_one_line(tmp_path: Path) -> None:
    import onnx

    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy")
    foreign = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y]), ir_version=8)
    onnx.save(foreign, tmp_path / "foreign.onnx")
    assert onnxruntime.InferenceSession(str(tmp_path / "foreign.onnx"))
    for name, reason in (
        ("broken", "cannot read the file"),
        ("foreign", "not an ONNX model exported by mlrec"),
        ("no", "no such"),
    ):
        with pytest.raises(ModelError, match=reason) as told:
            OnnxModel.load(tmp_path / f"{name}.onnx")
        assert "\n" not in str(told.value)


def test_a_missing_package_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"pip install 'mlrec\[onnx\]'"):
        OnnxModel.load(tmp_path / "model.onnx")
