"""The folder for the hub: timm reads its config, the card has valid metadata, and it comes back from a hub."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import ModelCard, constants
from PIL import Image
from timm.models._hub import load_model_config_from_path
from typer.testing import CliRunner

import mlrec
from mlrec.cli.app import app
from mlrec.datasets.dataset import Dataset
from mlrec.models.hub import load_from_hub
from mlrec.run_folders.record import Run
from mlrec.training.transforms import normalize
from mlrec.utils.errors import ModelError, UsageError
from mlrec.utils.files import sha256
from mlrec.workflows.deploy.export import export
from mlrec.workflows.train.train import train
from tests.hub_server import TOKEN, Hub, running_hub
from tests.tiny import FAST, LABELS, make_tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("hub")
    return train({**FAST, "data": str(make_tiny(root)), "epochs": 1, "heads": 2}, out=root / "runs")


@pytest.fixture(scope="module")
def folder(run: Run) -> Path:
    return export(run.path, form="hf").path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub, an empty cache, and no token of the user."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with running_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield hub


def test_timm_reads_the_config_and_prepares_images_like_mlrec(run: Run, folder: Path) -> None:
    assert sha256(folder / "model.safetensors") == sha256(run.path / "model.safetensors")
    settings, architecture, model_args = load_model_config_from_path(folder)
    assert (architecture, settings["num_classes"], settings["label_names"]) == ("test_efficientnet", 3, list(LABELS))
    head = json.loads((folder / "config.json").read_text())["mlrec"]
    assert (head["head"], head["head_options"]["heads"], head["head_options"]["lam"]) == ("csra", 2, 0.1)
    model = timm.create_model(f"local-dir:{folder}", pretrained=False, **model_args)
    assert model.num_classes == 3
    transform = timm.data.create_transform(**timm.data.resolve_data_config(settings, model=model))
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    ours = mlrec.load_model(folder).preprocessing
    size = (ours.size, ours.size)
    resized = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling[ours.interpolation.upper()]))
    expected = normalize(torch.from_numpy(resized.copy()).permute(2, 0, 1)[None], ours)[0]
    torch.testing.assert_close(transform(Image.fromarray(pixels)), expected, atol=1e-5, rtol=0)


def test_the_card_has_the_metrics_for_the_hub_and_code_that_runs(
    run: Run, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = ModelCard.load(folder / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag, card.data.license) == (
        "mlrec",
        "image-classification",
        None,
    )
    results = {result.metric_type: result for result in card.data.eval_results}
    assert set(results) == {"mAP", "CF1", "OF1"}
    for name, result in results.items():
        assert result.metric_value == pytest.approx(getattr(run.metrics(), name), abs=1e-6)
        assert (result.dataset_name, result.dataset_split) == ("tiny", "val")
        assert result.metric_args == {"conventions": "mlrec", "threshold": 0.5, "samples": 9}
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    Image.new("RGB", (40, 30), "red").save("photo.jpg")
    first, second = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
    names: dict[str, object] = {}
    exec(first.replace("hf://USER/NAME", str(folder)), names)
    exec(second, names)
    images = torch.rand(2, 3, 32, 32)
    model = mlrec.load_model(folder)
    with torch.no_grad():
        torch.testing.assert_close(names["backbone"].eval().forward_features(images), model.backbone(images))  # type: ignore[attr-defined]


def test_a_model_goes_to_the_hub_and_comes_back(run: Run, tmp_path: Path, hub: Hub) -> None:
    words = ["export", str(run.path), "--format", "hf", "--out", str(tmp_path / "model"), "--push", "ann/pets"]
    result = CliRunner().invoke(app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "uploaded to" in result.output
    assert hub.private == {"ann/pets": True}
    identity, files = hub.commits["ann/pets"][-1]
    assert files == {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    assert TOKEN.encode() not in b"".join(files.values())
    images = torch.rand(2, 3, 32, 32)
    expected = mlrec.load_model(run.path)(images)
    for address in ("hf://ann/pets", f"hf://ann/pets@{identity}", Path("hf://ann/pets")):
        assert torch.equal(mlrec.load_model(address)(images), expected)
    manifest = Dataset.load(run.record.config["data"]).manifest("val")
    (found,) = mlrec.predict("hf://ann/pets", manifest.root / manifest.images[0])
    assert found.labels == LABELS


def test_errors_of_the_hub_are_one_line_without_the_token(
    run: Run, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(run.path, form="hf", out=tmp_path / "model", push_to="ann/pets", public=True)
    assert hub.private == {"ann/pets": False}
    with pytest.raises(ModelError, match=r"hf://ann/cats: the repository does not exist or is private"):
        mlrec.load_model("hf://ann/cats")
    with pytest.raises(ModelError, match="does not have this revision"):
        mlrec.load_model("hf://ann/pets@v9")
    hub.commits["ann/empty"], hub.private["ann/empty"] = [("1" * 40, {"README.md": b""})], False
    with pytest.raises(ModelError, match=r"has no model\.safetensors"):
        mlrec.load_model("hf://ann/empty")
    for wrong in ("hf://pets", "hf://ann/pets/model.safetensors", "hf://"):
        with pytest.raises(ModelError, match="not a hub address"):
            mlrec.load_model(wrong)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(ModelError, match=r"ann/pets: the model hub rejected .* \(HTTP 401\); log in") as caught:
        export(run.path, form="hf", out=tmp_path / "model", push_to="ann/pets")
    assert "secret" not in str(caught.value)
    with pytest.raises(ModelError, match="--push pets: not a valid hub repository"):
        export(run.path, form="hf", push_to="pets")
    with pytest.raises(UsageError, match="add --format hf"):
        export(run.path, push_to="ann/pets")


def test_a_hub_out_of_reach_is_an_error_and_a_cached_model_is_loaded(
    run: Run, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(run.path, form="hf", out=tmp_path / "model", push_to="ann/pets")
    mlrec.load_model("hf://ann/pets")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert mlrec.load_model("hf://ann/pets").labels == LABELS
    with pytest.raises(ModelError, match="did not respond, and the file is not in the local cache"):
        mlrec.load_model("hf://ann/dogs")


def test_cached_weights_of_timm_are_used_when_the_hub_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache of huggingface_hub is written by hand; a hub that is not there must not be asked."""
    settings = timm.get_pretrained_cfg("test_resnet.r160_in1k")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(ModelError, match=r"cannot be loaded \(the model hub did not respond\)"):
        load_from_hub("test_resnet.r160_in1k", settings, {"num_classes": 0})
    folder = tmp_path / f"models--{settings.hf_hub_id.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("1" * 40)
    (folder / "snapshots" / ("1" * 40)).mkdir(parents=True)
    expected = timm.create_model("test_resnet")
    from safetensors.torch import save_file

    save_file(expected.state_dict(), folder / "snapshots" / ("1" * 40) / "model.safetensors")
    model = load_from_hub("test_resnet.r160_in1k", settings, {"num_classes": 0})
    assert all(torch.equal(value, expected.state_dict()[key]) for key, value in model.state_dict().items())
    assert model.pretrained_cfg["state_dict"] is None
