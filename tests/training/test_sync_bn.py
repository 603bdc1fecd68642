"""--sync-bn trains the same network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mlrec.models.backbones import Backbone
from mlrec.training.distributed import synchronized_batch_norm
from mlrec.utils.errors import MlrecError

# BatchNormAct2d (EfficientNet, RegNet, MixNet, DenseNet, HardCoRe), plain BatchNorm2d (ResNet), both with dropout
NAMES = ("test_efficientnet", "tf_efficientnet_lite0", "regnetx_002", "resnet18", "mobilenetv3_small_050", "test_vit")


def lively(name: str) -> nn.Module:
    """A model of which no norm is the identity."""
    torch.manual_seed(0)
    model = Backbone(name, 64)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_var, 0.5, 2)
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_the_converted_network_is_the_same_function(name: str) -> None:
    model, images = lively(name), torch.randn(4, 3, 64, 64)
    expected = copy.deepcopy(model)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    converted = synchronized_batch_norm(model)
    assert sum(isinstance(m, nn.SyncBatchNorm) for m in converted.modules()) == norms
    for training in (False, True):  # in one process a synchronized norm trains as a plain one, on any device
        expected.train(training)
        converted.train(training)
        torch.manual_seed(1)
        wanted = expected(images)
        torch.manual_seed(1)
        assert torch.equal(converted(images), wanted)
    assert [k for k, _ in expected.named_parameters()] == [k for k, _ in converted.named_parameters()]
    for (key, buffer), (_, other) in zip(expected.named_buffers(), converted.named_buffers(), strict=True):
        assert torch.equal(buffer, other), key


def test_a_norm_that_the_conversion_would_change_is_refused() -> None:
    class Doubled(nn.BatchNorm2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    with pytest.raises(MlrecError, match="--sync-bn cannot convert Doubled"):
        synchronized_batch_norm(nn.Sequential(nn.Conv2d(3, 3, 1), Doubled(3)))


@pytest.mark.cuda
def test_one_process_of_nccl_keeps_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import distributed

    from mlrec.training.distributed import parallel

    device = torch.device("cuda", 0)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", "29555")
    distributed.init_process_group("nccl", rank=0, world_size=1, device_id=device)
    try:
        model, images = lively("tf_efficientnet_lite0").to(device).eval(), torch.randn(4, 3, 64, 64, device=device)
        with torch.no_grad():
            expected = model(images)
            torch.testing.assert_close(parallel(model, device, sync_bn=True).eval()(images), expected)
    finally:
        distributed.destroy_process_group()
