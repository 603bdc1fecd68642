"""The mean of logits over views, against views made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import Classifier, create_model
from mlrec.training.prediction import InferenceOptions, predict
from mlrec.training.tta import Views, predict_views
from mlrec.utils.errors import UsageError

HOW = InferenceOptions(batch_size=2, workers=0, device="cpu", precision="fp32", decode="pil")


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    rng = np.random.default_rng(0)
    names = tuple(f"{k}.png" for k in range(3))
    for name in names:
        Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(tmp_path / name)
    return Manifest("m", "test", tmp_path, ("a", "b"), names, np.zeros((3, 2), np.int8))


@pytest.fixture
def model() -> Classifier:
    torch.manual_seed(0)
    return create_model("test_resnet", 2, img_size=64, labels=["a", "b"]).eval()


def test_mirrored_views_are_those_of_mirrored_files(manifest: Manifest, model: Classifier, tmp_path: Path) -> None:
    model.preprocessing = type(model.preprocessing)(96)  # no resize, which is not symmetric to the last bit
    plain = predict(model, manifest, HOW)
    averaged = predict_views(model, manifest, HOW, views=Views(flip=True))
    for name in manifest.images:
        Image.open(tmp_path / name).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / name)
    mirrored = predict(model, manifest, HOW)
    assert np.abs(plain.logits - mirrored.logits).max() > 1e-3
    np.testing.assert_allclose(averaged.logits, (plain.logits + mirrored.logits) / 2, atol=1e-6)
    assert averaged.sample_ids == plain.sample_ids


def test_scales_are_those_of_models_of_these_sizes(manifest: Manifest, model: Classifier) -> None:
    own = model.preprocessing
    averaged = predict_views(model, manifest, HOW, views=Views(scales=(1.0, 1.5)))
    assert model.preprocessing is own
    expected = []
    for size in (64, 96):
        model.preprocessing = type(own)(size, own.mean, own.std, own.interpolation)
        expected.append(predict(model, manifest, HOW).logits)
    np.testing.assert_allclose(averaged.logits, np.mean(expected, axis=0), atol=1e-6)


@pytest.mark.parametrize("text", ["flop", "flip,flip", "0.1", "nan", "1,1.0", ""])
def test_views_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--tta"):
        Views.parse(text)
    assert Views.parse("flip") == Views(True, (1.0,))
