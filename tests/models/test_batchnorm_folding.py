"""Folding changes what is computed, not what comes out: against the unfolded backbone, with norms that do something."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mlrec.models.backbones import Backbone
from mlrec.models.batchnorm_folding import NORMS, folded


def stirred(backbone: nn.Module) -> nn.Module:
    """The same module, its norms as after a training."""
    torch.manual_seed(1)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
    return backbone.eval()


def norms(backbone: nn.Module) -> int:
    return sum(type(module) in NORMS for module in backbone.modules())


@pytest.mark.parametrize(
    ("name", "size", "left"),
    [
        ("resnet18", 64, 0),
        ("tf_efficientnet_lite0", 64, 0),  # "same" padding, norms with their activation
        ("regnety_002", 64, 0),
        ("test_efficientnet", 64, 0),
        ("densenet121", 64, 62),  # half of its norms come before the convolution
        ("repvgg_a0", 64, 17),  # and some have a branch of their own
        ("test_vit", 160, 0),
    ],
)
def test_features_stay_the_same_and_the_backbone_as_it_was(name: str, size: int, left: int) -> None:
    backbone = stirred(Backbone(name, size))
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    image = torch.randn(2, 3, size, size)
    made = folded(backbone, image[:1])
    assert norms(made) == left
    with torch.no_grad():
        expected = backbone(image)
        torch.testing.assert_close(made(image), expected, rtol=0, atol=1e-4 * float(expected.abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made.modules())


class Two(nn.Module):
    """A convolution and a norm, and a way from one to the other."""

    def __init__(self, way: Callable[[nn.Conv2d, nn.BatchNorm2d, Tensor], Tensor]) -> None:
        super().__init__()
        self.convolution, self.norm, self.way = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), way

    def forward(self, image: Tensor) -> Tensor:
        return self.way(self.convolution, self.norm, image)


def used_elsewhere(convolution: nn.Conv2d, norm: nn.BatchNorm2d, image: Tensor) -> Tensor:
    made = convolution(image)
    return made + norm(made)


def changed_in_place(convolution: nn.Conv2d, norm: nn.BatchNorm2d, image: Tensor) -> Tensor:
    return norm(convolution(image).relu_())


def run_twice(convolution: nn.Conv2d, norm: nn.BatchNorm2d, image: Tensor) -> Tensor:
    return norm(convolution(convolution(image)))


@pytest.mark.parametrize("way", [used_elsewhere, changed_in_place, run_twice])
def test_what_cannot_be_folded_is_left(way: Callable[[nn.Conv2d, nn.BatchNorm2d, Tensor], Tensor]) -> None:
    backbone, image = stirred(Two(way)), torch.randn(1, 3, 8, 8)
    made = folded(backbone, image)
    assert norms(made) == 1
    with torch.no_grad():
        torch.testing.assert_close(made(image), backbone(image))


def test_a_norm_of_each_batch_is_left() -> None:
    backbone = nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False))
    assert norms(folded(backbone, torch.randn(1, 3, 8, 8))) == 1


def test_in_inference_mode_as_well() -> None:
    backbone = stirred(nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.ReLU()))
    with torch.inference_mode():
        made = folded(backbone, torch.randn(1, 3, 8, 8))
    assert norms(made) == 0


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0"])
def test_norms_of_a_run_with_sync_bn_are_folded_too(name: str) -> None:
    from mlrec.training.distributed import synchronized_batch_norm

    plain, image = stirred(Backbone(name, 64)), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = plain(image)
        made = folded(synchronized_batch_norm(plain), image)
        assert norms(made) == 0
        torch.testing.assert_close(made(image), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_copy_in_half_on_a_gpu_gives_what_autocast_gives(name: str, dtype: torch.dtype) -> None:
    from mlrec.training.prediction import in_half

    device = torch.device("cuda", 0)
    plain, images = stirred(Backbone(name, 64)).to(device), torch.randn(4, 3, 64, 64, device=device)
    with torch.no_grad(), torch.autocast("cuda", dtype=dtype):
        expected, found = plain(images).float(), in_half(plain, 64, device, dtype)(images).float()
    assert (found - expected).abs().max() <= 0.05 * expected.abs().max()
