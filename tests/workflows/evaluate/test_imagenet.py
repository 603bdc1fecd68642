"""A published classifier on a folder of class folders, every number by a plain loop."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config
from typer.main import get_command

from mlrec.cli.app import app
from mlrec.datasets.readers.class_folders import read_class_folders
from mlrec.metrics.imagenet_accuracy import accuracy_gains
from mlrec.reports.paper.imagenet import AccuracySweep, accuracy_table
from mlrec.reports.paper.table1 import BOUNDED_NOTE
from mlrec.utils.errors import DataError, ModelError, UsageError
from mlrec.workflows.evaluate.imagenet import evaluate_published
from mlrec.workflows.report.report import report
from mlrec.workflows.runtime import RuntimeOptions

CLASSES = {"n01440764": 0, "999": 999, "7": 7}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (root / name).mkdir()
        for k in range(3):
            pixels = rng.integers(0, 255, (5 + k, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((170 + 10 * k, 180)).save(root / name / f"{k}.png")
        (root / name / "notes.txt").write_text("no image")
    return root


def test_without_a_hub_the_error_names_flags_of_this_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mlrec.models.hub._answers", lambda _: False)
    with pytest.raises(ModelError, match="did not respond") as caught:
        evaluate_published("resnet18", folder, pretrained=True)
    flags = set(re.findall(r"--[a-z-]+", str(caught.value)))
    known = {option for parameter in get_command(app).get_command(None, "imagenet").params for option in parameter.opts}
    assert flags
    assert flags <= known


def test_top1_and_top5_at_every_lam_are_those_of_a_plain_loop(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", pretrained=False).eval()
    transform = create_transform(**resolve_data_config(model=model))
    images = [(file, label) for name, label in sorted(CLASSES.items(), key=lambda c: c[1])
              for file in sorted((folder / name).glob("*.png"))]  # fmt: skip
    batch = torch.stack([transform(Image.open(file).convert("RGB")) for file, _ in images])
    with torch.inference_mode():
        features = model.forward_features(batch)
        scores = torch.einsum("bdhw,kd->bkhw", features, model.get_classifier().weight).flatten(2)
        scores = scores + model.get_classifier().bias[:, None]
    # biased towards the classes of every other image, else no image were right
    bias = torch.zeros(1000)
    bias[[label for _, label in images[::2]]] = 0.6 * float(scores.mean(-1).max() - scores.mean(-1).min())
    with torch.no_grad():
        model.get_classifier().bias += bias
    scores = scores + bias[:, None]
    save_file(model.state_dict(), tmp_path / "w.safetensors")

    found = evaluate_published(
        "test_resnet", folder, lams=[0.5, 3.0], weights=tmp_path / "w.safetensors", out=tmp_path / "runs",
        machine=RuntimeOptions(batch_size=4, workers=0, device="cpu"),
    ).sweep  # fmt: skip
    true = torch.tensor([label for _, label in images])[:, None]
    for k, lam in enumerate([0.0, 0.2, 0.5, 3.0]):
        top = (scores.mean(-1) + lam * scores.amax(-1)).topk(5).indices
        assert found.top1[k] == pytest.approx(float((top[:, :1] == true).float().mean()))
        assert found.top5[k] == pytest.approx(float((top == true).any(1).float().mean()))
    assert 0 < found.top5[0] < 1
    assert (found.fixed_lam, found.samples, found.classes) == (0.2, 9, 3)
    assert found.published == [found.top1[0], found.top5[0]]
    assert found.best_lam == found.lams[int(np.argmax(found.top1))]
    rows = [row for row in report(root=tmp_path / "runs", table=1).table.rows if row.cells[1] == "own"]
    assert len(rows) == 1
    assert "not comparable" in rows[0].group
    for root in (tmp_path / "runs", tmp_path / "elsewhere"):
        named = report([tmp_path / "runs"], root=root, table=1)  # no trained run, and told once
        assert [row for row in named.table.rows if row.cells[1] == "own"] == rows
    (file,) = (tmp_path / "runs").glob("*/accuracy.json")
    assert AccuracySweep.load(file) == found
    assert json.loads(file.read_text())["weights"] == "w.safetensors"
    assert file.parent.name == f"published-test_resnet-w-{folder.name}"
    assert found.backbone == "test_resnet", "its weights are the file's, not those of timm's tag"
    assert rows[0].cells[-1] == "test_resnet of w.safetensors"
    assert BOUNDED_NOTE in named.table.footnotes, "its row has an interval, and nothing else says of what"
    assert BOUNDED_NOTE not in report(root=tmp_path / "nowhere", table=1).table.footnotes


def test_a_class_token_gets_a_row_of_its_own(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save_file(timm.create_model("test_vit", pretrained=False).state_dict(), tmp_path / "w.safetensors")
    found = evaluate_published(
        "test_vit", folder, weights=tmp_path / "w.safetensors", out=tmp_path, machine=RuntimeOptions(4, 0, "cpu")
    )
    assert [row.cells[0] for row in found.table.rows][:2] == ["as published", "mean over patches"]
    assert any("class token" in note for note in accuracy_table(found.sweep).footnotes)


def test_missing_weights_or_images_are_errors(folder: Path) -> None:
    with pytest.raises(UsageError, match="--pretrained or --weights"):
        evaluate_published("test_resnet", folder)
    with pytest.raises(UsageError, match="imagenet DATA"):
        evaluate_published("test_resnet", None, pretrained=True)


def test_class_folders_are_named_or_numbered(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_class_folders(tmp_path / "x", ["a"])
    (tmp_path / "cat").mkdir()
    with pytest.raises(DataError, match="no images in class folders"):
        read_class_folders(tmp_path, ["dog", "cat"])
    (tmp_path / "1").mkdir()
    with pytest.raises(DataError, match="the folder is for the same class as 1"):
        read_class_folders(tmp_path, ["dog", "cat"])
    with pytest.raises(DataError, match="neither one of the 2 classes"):
        read_class_folders(tmp_path, ["dog", "bird"])


def test_gains_of_accuracy_repeat_the_choice() -> None:
    right = np.array([[1, 1, 0, 0], [1, 0, 1, 1], [0, 1, 0, 1]], dtype=bool)
    found = accuracy_gains(right, zero=0, fixed=2, resamples=500)
    assert found.best == 1
    assert found.best_gain.value == 0.25
    assert found.best_gain.low >= 0
    assert found.fixed_gain.value == 0
    assert found.fixed_gain.low < 0 < found.fixed_gain.high
