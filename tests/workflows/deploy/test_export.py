"""A bundle says what the model says, without the library that the model was built with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets.dataset import Dataset
from mlrec.models import onnx as onnx_module
from mlrec.predictions import probabilities_of
from mlrec.run_folders.record import Run
from mlrec.run_folders.tuned import Tuned
from mlrec.utils.errors import ModelError, RunError
from mlrec.utils.files import sha256
from mlrec.workflows.deploy.export import ExportResult, export
from mlrec.workflows.deploy.predict import predict
from mlrec.workflows.evaluate.tune import tune
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.train import train
from tests.tiny import FAST, LABELS, make_tiny

HERE = RuntimeOptions(workers=0, device="cpu")
WITHOUT_TIMM = """
import sys
sys.modules["timm"] = None
from mlrec.workflows.deploy.predict import open_scorer, predict, with_tuned
scorer, thresholds = with_tuned(open_scorer(sys.argv[1]), sys.argv[1])
print(*[len(found.probabilities) for found in predict(scorer, sys.argv[2], threshold=thresholds)])
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("export"))


@pytest.fixture(scope="module")
def run(data: Path) -> Run:
    run = train({**FAST, "data": str(data), "epochs": 1}, out=data.parents[1] / "runs")
    tune(run.path, split="train", least=2, machine=HERE)
    return run


@pytest.fixture(scope="module")
def bundle(run: Run) -> ExportResult:
    return export(run.path)


def test_an_onnx_bundle_predicts_what_the_run_predicts_without_timm(run: Run, bundle: ExportResult, data: Path) -> None:
    made = bundle
    assert sorted(made.files) == ["README.md", "bundle.json", "model.onnx", "thresholds.json"]
    assert made.agreement.images == 9
    assert made.agreement.max_difference <= 1e-4
    assert made.agreement.mAP == pytest.approx(run.metrics().mAP)
    assert made.agreement.exported_mAP == pytest.approx(made.agreement.mAP)
    told = json.loads((made.path / "bundle.json").read_text())
    assert told["labels"] == list(LABELS)
    assert told["sha256"] == sha256(made.path / "model.onnx")
    assert Tuned.load(made.path) == Tuned.load(run.path)
    manifest = Dataset.load(data).manifest("val")
    found = list(predict(made.path, [manifest.root / name for name in manifest.images], machine=HERE))
    expected = probabilities_of(run.predictions().logits)
    np.testing.assert_allclose([one.probabilities for one in found], expected, atol=1e-5)
    command = [sys.executable, "-c", WITHOUT_TIMM, str(made.path), str(manifest.root / manifest.images[0])]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["3"], result.stderr


def test_a_safetensors_bundle_is_the_same_model_and_the_card_has_its_origin(run: Run, tmp_path: Path) -> None:
    made = export(run.path, form="safetensors", out=tmp_path / "bundle")
    assert sha256(made.path / "model.safetensors") == sha256(run.path / "model.safetensors")
    assert made.agreement.max_difference == 0
    card = (made.path / "README.md").read_text()
    assert "Trained on tiny train (13 samples) from random weights, seed 0" in card
    assert ", test_efficientnet, head csra, H = 1, λ = 0.1\n" in card
    assert "tuned for CF1 on tiny train" in card
    assert export(run.path, form="safetensors", out=tmp_path / "bundle").path == made.path  # a bundle is replaced
    (tmp_path / "mine").mkdir()
    with pytest.raises(RunError, match="is not an exported model"):
        export(run.path, form="safetensors", out=tmp_path / "mine")


def test_a_model_that_disagrees_is_not_written(
    run: Run, bundle: ExportResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_module, "export_onnx", lambda _, path, __: shutil.copy(bundle.path / "model.onnx", path))
    logits = onnx_module.OnnxModel.logits
    monkeypatch.setattr(onnx_module.OnnxModel, "logits", lambda self, images: logits(self, images) + np.float32(0.01))
    with pytest.raises(ModelError, match=r"by up to 0\.01, so nothing was written"):
        export(run.path, out=tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_without_data_random_images_are_compared(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.safetensors").write_bytes((run.path / "model.safetensors").read_bytes())
    result = CliRunner().invoke(app, ["export", ".", "--format", "safetensors", "--out", "bundle", "--json"])
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert content["agreement"] == {
        "images": 8, "on": "random", "max_difference": 0.0, "mAP": None, "exported_mAP": None,
    }  # fmt: skip
