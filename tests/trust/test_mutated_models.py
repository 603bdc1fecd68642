"""Files of weights with something changed at random: read, or refused in a line; nothing in them is ever run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from mlrec.config import Config
from mlrec.models.checkpoint import load_model, save_model
from mlrec.models.classifier import create_model
from mlrec.run_folders import directory
from mlrec.training import setup, state
from mlrec.workflows.deploy.import_checkpoint import import_checkpoint
from tests.trust.fuzzing import CI, LONG, outlast

Made = tuple[Path, Callable[[], object]]


def own(root: Path) -> Made:
    model = create_model("test_vit", 3, heads=2, img_size=32, labels=("a", "b", "c"))
    save_model(root / "model.safetensors", model, {"lr": 0.1})
    return root / "model.safetensors", lambda: load_model(root / "model.safetensors")


def foreign(suffix: str) -> Callable[[Path], Made]:
    def make(root: Path) -> Made:
        file = root / f"model{suffix}"
        torch.save({"state_dict": timm.create_model("test_vit", num_classes=3).state_dict()}, file)

        def read() -> object:
            shutil.rmtree(root / "out", ignore_errors=True)
            return import_checkpoint(file, out=root / "out", backbone="test_vit")

        return file, read

    return make


def resumable(root: Path) -> Made:
    config = Config(backbone="test_vit", img_size=32, pretrained=False)
    model = create_model("test_vit", 3, img_size=32)
    state.save(root, setup.make_state(model, config, torch.device("cpu"), "fp32"), {"labels": ["a", "b", "c"]})
    return root / directory.RESUME, lambda: state.load(root)


FILES = {"safetensors": own, "foreign .pt": foreign(".pt"), "resume file": resumable}


@pytest.mark.parametrize("file", FILES)
def test_a_model_with_something_changed_is_read_or_refused_in_a_line(file: str, tmp_path: Path) -> None:
    path, read = FILES[file](tmp_path)
    assert outlast(path, path.read_bytes(), read, CI)


@pytest.mark.long
@pytest.mark.parametrize("file", FILES)
def test_many_models_with_something_changed(file: str, tmp_path: Path) -> None:
    path, read = FILES[file](tmp_path)
    assert outlast(path, path.read_bytes(), read, LONG)


def test_there_is_no_way_to_load_unsafely() -> None:
    package = Path(__file__).parents[2] / "mlrec"
    for file in package.rglob("*.py"):
        text = file.read_text("utf-8")
        for way in ("weights_only=False", "allow_pickle=True", "yaml.load(", "pickle.load", "shell=True"):
            assert way not in text, f"{file}: {way}"
