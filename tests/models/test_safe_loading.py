"""What is no plain weights file is told apart in one line, and nothing in it is run."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mlrec.models.safe_loading import read_tensors, unwrapped
from mlrec.utils.errors import ModelError


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
    with pytest.raises(ModelError, match=r"'w' claims 4,000,000,000,000 bytes but contains only 4"):
        unwrapped({"state_dict": {"w": bomb}})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([1, 2], "a list, not a dict"),
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
