"""`predict`: logits by sample, whatever the batch, the workers and the processes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as v1

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import Classifier, create_model
from mlrec.training import prediction
from mlrec.training.devices import autocast, resolve_device, resolve_precision
from mlrec.training.features import compute_features
from mlrec.training.prediction import InferenceOptions, predict, predict_features
from mlrec.utils.errors import MlrecError, UsageError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> Classifier:
    torch.manual_seed(0)
    made = create_model("test_resnet", 3, img_size=32, labels=("a", "b", "c"))
    for name, buffer in made.named_buffers():
        if "running_var" in name:
            buffer.fill_(0.5)
    return made


def test_logits_are_those_of_a_plain_loop(pictures: Manifest, model: Classifier) -> None:
    made = predict(model, pictures, InferenceOptions(batch_size=4, workers=0, decode="pil"))
    assert made.labels == pictures.labels
    assert made.sample_ids == pictures.sample_ids
    assert made.digest == pictures.digest
    assert made.logits.dtype == np.float32
    assert made.targets is pictures.targets
    preprocessing = model.preprocessing
    how = v1.InterpolationMode(preprocessing.interpolation)
    plain = v1.Compose([v1.Resize((32, 32), how), v1.ToTensor(), v1.Normalize(preprocessing.mean, preprocessing.std)])
    with torch.no_grad():
        for k in range(len(pictures)):
            image = plain(Image.open(pictures.path_of(k)).convert("RGB"))
            np.testing.assert_allclose(made.logits[k], model.eval()(image[None])[0].numpy(), atol=1e-4)


@pytest.mark.parametrize("workers", [0, 1])
def test_bits_do_not_depend_on_workers_and_little_on_the_batch(
    pictures: Manifest, model: Classifier, workers: int
) -> None:
    one = predict(model, pictures, InferenceOptions(batch_size=4, workers=0)).logits
    np.testing.assert_array_equal(predict(model, pictures, InferenceOptions(batch_size=4, workers=workers)).logits, one)
    np.testing.assert_allclose(
        predict(model, pictures, InferenceOptions(batch_size=13, workers=0)).logits, one, atol=1e-4
    )


@pytest.mark.parametrize("samples", [1, 2, 9, 13])
@pytest.mark.parametrize("world", [2, 3])
def test_bits_do_not_depend_on_the_number_of_processes(
    pictures: Manifest, model: Classifier, monkeypatch: pytest.MonkeyPatch, samples: int, world: int
) -> None:
    some = pictures.subset(range(samples))
    alone = predict(model, some, InferenceOptions(batch_size=4, workers=0))
    parts: list[torch.Tensor] = []
    monkeypatch.setattr(prediction.torch.distributed, "all_reduce", lambda tensor: parts.append(tensor.clone()))
    for rank in range(world):
        predict(model, some, InferenceOptions(batch_size=4, workers=0, rank=rank, world=world))
    joined = torch.stack(parts).sum(0)[:-1]
    assert joined.numpy().tobytes() == alone.logits.tobytes()


def test_predicting_leaves_the_model_as_it_was(pictures: Manifest, model: Classifier) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict(model.train(), pictures, InferenceOptions(batch_size=4, workers=0))
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())


def test_bf16_is_near_fp32_and_its_logits_do_not_tie(pictures: Manifest, model: Classifier) -> None:
    exact = predict(model, pictures, InferenceOptions(batch_size=4, workers=0, precision="fp32")).logits
    half = predict(model, pictures, InferenceOptions(batch_size=4, workers=0, precision="bf16")).logits
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, exact, atol=0.05 * np.abs(exact).max())
    assert not np.array_equal(half, exact)
    assert not np.array_equal(half, torch.from_numpy(half).bfloat16().float().numpy()), "the head ran in bf16"


def test_a_logit_that_is_no_number_names_its_sample(pictures: Manifest, model: Classifier) -> None:
    broken = create_model("test_resnet", 3, img_size=32, labels=("a", "b", "c"))
    with torch.no_grad():
        next(iter(broken.head.parameters())).fill_(float("nan"))
    with pytest.raises(MlrecError, match=r"39 logits are NaN or infinite \(first: sample '00\.jpg', label 'a'\)"):
        predict(broken, pictures, InferenceOptions(batch_size=4, workers=0))


def test_an_unreadable_image_is_never_replaced(pictures: Manifest, model: Classifier) -> None:
    broken = replace(pictures, images=(*pictures.images[:-1], "gone.jpg"), sample_ids=())
    with pytest.raises(MlrecError, match=r"gone\.jpg"):
        predict(model, broken, InferenceOptions(batch_size=4, workers=0))


def test_devices_and_precisions_that_are_not_there_are_refused() -> None:
    assert resolve_device("cpu") == CPU
    with pytest.raises(UsageError, match="is not a device"):
        resolve_device("gpu")
    with pytest.raises(UsageError, match="requires CUDA"):
        resolve_precision("fp16", CPU)
    with pytest.raises(UsageError, match="is not a precision"):
        resolve_precision("int8", CPU)
    with pytest.raises(UsageError, match="not supported"):
        resolve_device("meta")
    assert resolve_precision("auto", CPU) == "fp32"
    assert resolve_precision("bf16", CPU) == "bf16"


def test_autocast_is_on_where_a_half_is_asked_for() -> None:
    with autocast(CPU, "bf16"):
        assert torch.is_autocast_enabled("cpu")
    with autocast(CPU, "fp32"):
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_cuda_says_what_to_use() -> None:
    with pytest.raises(UsageError, match="use --device cpu"):
        resolve_device("cuda")


def test_features_computed_before_give_the_same_logits(pictures: Manifest, model: Classifier) -> None:
    kept = compute_features(model, pictures, Config(batch_size=4, workers=0), device=CPU)
    made = predict_features(model, kept, batch_size=4)
    whole = predict(model, pictures, InferenceOptions(batch_size=4, workers=0))
    np.testing.assert_allclose(made.logits, whole.logits, atol=1e-5)
    assert (made.sample_ids, made.digest, made.labels) == (whole.sample_ids, whole.digest, whole.labels)
