"""Cached features of a frozen backbone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mlrec.config import Config
from mlrec.datasets.manifest import Manifest
from mlrec.models.classifier import Classifier, create_model
from mlrec.training import features as caching
from mlrec.training.dataloader import eval_batches, train_batches
from mlrec.training.features import compute_features, feature_batches
from mlrec.training.transforms import normalize
from mlrec.utils.errors import MlrecError

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model() -> Classifier:
    torch.manual_seed(0)
    return create_model("test_resnet", 3, img_size=32)


def config(**keys: object) -> Config:
    return Config(**({"batch_size": 4, "img_size": 32, "workers": 0, "seed": 5} | keys))  # type: ignore[arg-type]


def test_the_backbone_is_in_eval_mode_and_keeps_its_buffers(pictures: Manifest, model: Classifier) -> None:
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.backbone.modules())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    made = compute_features(model.train(), pictures, config(), device=CPU)
    assert not model.backbone.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not made.values.requires_grad


def test_plain_features_are_the_trunks_of_the_plain_views(pictures: Manifest, model: Classifier) -> None:
    made = compute_features(model, pictures, config(), device=CPU)
    (batch,) = eval_batches(pictures, model.preprocessing, batch_size=13, workers=0)
    with torch.no_grad():
        expected = model.backbone(normalize(batch.images, model.preprocessing))
    torch.testing.assert_close(made.values[0], expected, atol=1e-5, rtol=1e-4)
    assert made.values.shape == (1, 13, *expected.shape[1:])


@pytest.mark.parametrize(("free", "moved"), [(10**9, True), (1000, False)])
def test_features_are_on_the_gpu_if_they_fit(
    pictures: Manifest, monkeypatch: pytest.MonkeyPatch, free: int, moved: bool
) -> None:
    """The GPU is simulated by the device meta, which holds no data."""
    features = caching.Features(pictures, torch.zeros(1, 13, 2, 3, 3))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2 * free))
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda values, device, *rest: to(values, "meta", *rest))
    placed = caching.on_device_if_it_fits(features, torch.device("cuda", 0))
    assert placed.values.device.type == ("meta" if moved else "cpu")
    assert caching.on_device_if_it_fits(features, CPU) is features


@pytest.mark.cuda
def test_batches_of_features_on_the_gpu_are_those_of_the_cpu(pictures: Manifest, model: Classifier) -> None:
    features = compute_features(model, pictures, config(), device=CPU)
    placed = caching.on_device_if_it_fits(features, torch.device("cuda", 0))
    pairs = zip(feature_batches(features, config(), epoch=0), feature_batches(placed, config(), epoch=0), strict=True)
    for here, there in pairs:
        assert there.images.is_cuda
        assert torch.equal(here.images, there.images.cpu())


def test_copy_k_holds_the_views_of_epoch_k_and_epochs_take_turns(pictures: Manifest, model: Classifier) -> None:
    two = config(feature_copies=2)
    made = compute_features(model, pictures, two, device=CPU)
    assert not torch.equal(made.values[0], made.values[1])
    for epoch in range(4):
        for cached, fresh in zip(
            feature_batches(made, two, epoch=epoch),
            train_batches(pictures, two, model.preprocessing, epoch=epoch),
            strict=True,
        ):
            assert torch.equal(cached.samples, fresh.samples), "the order is not that of train_batches"
            assert torch.equal(cached.targets, fresh.targets)
            assert torch.equal(cached.images, made.values[epoch % 2, cached.samples])
            if epoch < 2:
                with torch.no_grad():
                    expected = model.backbone(normalize(fresh.images, model.preprocessing))
                torch.testing.assert_close(cached.images, expected, atol=1e-5, rtol=1e-4)


def test_a_head_trains_on_them(pictures: Manifest, model: Classifier) -> None:
    made = compute_features(model, pictures, config(), device=CPU)
    model.head.zero_grad()
    batch = next(feature_batches(made, config(), epoch=0, start=1))
    model.head(batch.images).sum().backward()
    assert all(p.grad is not None for p in model.head.parameters())
    assert all(p.grad is None for p in model.backbone.parameters())


def test_bf16_features_are_kept_in_bf16(pictures: Manifest, model: Classifier) -> None:
    exact = compute_features(model, pictures, config(), device=CPU).values
    half = compute_features(model, pictures, config(), device=CPU, precision="bf16").values
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), exact, atol=0.05 * exact.abs().max().item(), rtol=0.1)


def test_too_little_memory_is_told_before_it_is_taken(
    pictures: Manifest, model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert caching._free_memory() > 10**7
    monkeypatch.setattr(caching, "_free_memory", lambda: 1000)
    with pytest.raises(MlrecError, match=r"need .* GB of memory, but only .*--feature-copies"):
        compute_features(model, pictures, config(), device=CPU)


def test_a_store_computes_once_what_only_the_head_tells_apart(
    pictures: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    monkeypatch.setattr(caching, "compute_features", lambda *a, **k: computed.append(1) or compute_features(*a, **k))

    def backbone(seed: int, head: str) -> Classifier:
        torch.manual_seed(seed)
        return create_model("test_resnet", 3, head, img_size=32)

    store = caching.FeatureCache()
    first = store.get_or_compute(backbone(0, "csra"), pictures, config(), device=CPU)
    other_labels = pictures.changed(targets=1 - abs(pictures.targets))
    for manifest in (pictures, other_labels):
        again = store.get_or_compute(backbone(0, "average"), manifest, config(seed=6), device=CPU)
        assert again.values is first.values
        assert again.manifest is manifest
    assert len(computed) == 1
    store.get_or_compute(backbone(1, "csra"), pictures, config(), device=CPU)
    store.get_or_compute(backbone(0, "csra"), pictures.subset([0, 1, 2]), config(), device=CPU)
    store.get_or_compute(backbone(0, "csra"), pictures, config(image_backend="pil"), device=CPU)
    assert len(computed) == 4
    augmented = store.get_or_compute(backbone(0, "csra"), pictures, config(feature_copies=1, seed=6), device=CPU)
    assert (
        store.get_or_compute(backbone(0, "csra"), pictures, config(feature_copies=1), device=CPU).values
        is not augmented.values
    )


def test_parts_of_a_whole_are_cut_out_of_it(pictures: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    computed = []
    monkeypatch.setattr(caching, "compute_features", lambda *a, **k: computed.append(1) or compute_features(*a, **k))
    model = create_model("test_resnet", 3, "average", img_size=32)
    store = caching.FeatureCache(whole=pictures)
    for rows in ([4, 1, 2], [0, 3]):
        part = pictures.subset(rows, "fold")
        cut = store.get_or_compute(model, part, config(), device=CPU)
        assert cut.manifest is part
        whole = compute_features(model, pictures, config(), device=CPU).values
        torch.testing.assert_close(cut.values, whole[:, rows], rtol=0, atol=0)
    assert len(computed) == 1
    store.get_or_compute(
        model, pictures.subset([1]), config(feature_copies=2), device=CPU
    )  # views are drawn by position
    assert len(computed) == 2
