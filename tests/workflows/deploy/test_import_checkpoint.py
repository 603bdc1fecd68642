"""`mlrec import`: from a file of the paper's naming to a folder that loads."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import mlrec
from mlrec.cli.app import app
from mlrec.config_layers import resolve
from mlrec.datasets.readers import voc, wider
from mlrec.utils.errors import ModelError, UsageError
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.deploy.import_checkpoint import KNOWN_LABELS, import_checkpoint
from tests.conftest import Notes
from tests.models import oracles


def official(path: Path, heads: int = 1, labels: int = 20, *, prefix: str = "") -> Path:
    torch.manual_seed(heads)
    state = oracles.resnet_state(18) | {
        f"classifier.multi_head.{k}.head.weight": head for k, head in enumerate(oracles.heads_of(heads, labels, 512))
    }
    torch.save({prefix + key: value for key, value in state.items()}, path)
    return path


def test_an_official_file_becomes_a_model_that_loads(tmp_path: Path, notes: Notes) -> None:
    file = official(tmp_path / "voc.pth", prefix="module.")
    imported = import_checkpoint(file, out=tmp_path / "out")
    assert (imported.labels, imported.lam, imported.heads, imported.img_size) == (voc.LABELS, 0.1, 1, 448)
    assert (imported.matched, imported.unused) == (121, ())
    assert any("λ = 0.1" in line for line in notes.lines)
    assert any("voc2007" in line for line in notes.lines)

    model = mlrec.load_model(tmp_path / "out")
    assert (model.preprocessing.mean, model.preprocessing.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    images = torch.rand(1, 3, 64, 64)
    state = {key.removeprefix("module."): value for key, value in torch.load(file, weights_only=True).items()}
    heads = [state.pop("classifier.multi_head.0.head.weight")]
    expected = oracles.csra_logits(oracles.resnet_features(state, 18, images), heads, 0.1)
    torch.testing.assert_close(model(images).detach(), expected, rtol=1e-5, atol=1e-5)


def test_the_config_is_valid_and_names_source_and_licence(tmp_path: Path) -> None:
    import_checkpoint(official(tmp_path / "voc.pth"), out=tmp_path / "out")
    text = (tmp_path / "out/config.toml").read_text(encoding="utf-8")
    config = resolve(("config.toml", tomllib.loads(text))).config
    assert (config.backbone, config.head, config.heads, config.lam) == ("resnet18.tv_in1k", "csra", 1, 0.1)
    assert (config.normalization, config.img_size) == ("unit", 448)
    assert "voc.pth" in text
    assert "AGPL-3.0" in text


def test_an_ambiguous_lambda_names_both_values(tmp_path: Path) -> None:
    file = official(tmp_path / "coco.pth", heads=6, labels=80)
    with pytest.raises(ModelError, match=r"coco\.pth.*--lam 0\.5 for ResNet-101, --lam 0\.4 for ResNet-cut"):
        import_checkpoint(file, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert import_checkpoint(file, out=tmp_path / "out", lam=0.4).lam == 0.4


def test_another_number_of_labels_is_an_error_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the head has 20 labels, but wider has 14"):
        import_checkpoint(official(tmp_path / "voc.pth"), out=tmp_path / "out", dataset="wider")


def test_an_unknown_dataset_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="voc2007, coco2014, wider"):
        import_checkpoint(official(tmp_path / "voc.pth"), out=tmp_path / "out", dataset="imagenet")


def test_an_unknown_normalization_names_the_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one of weights, unit, half, imagenet"):
        import_checkpoint(tmp_path / "voc.pth", out=tmp_path / "out", normalization="caffe")


def test_unknown_numbers_of_labels_get_numbered_names(tmp_path: Path) -> None:
    imported = import_checkpoint(official(tmp_path / "x.pth", labels=3), out=tmp_path / "out", lam=0.2)
    assert imported.labels == ("label_0", "label_1", "label_2")


def test_a_folder_in_another_order_does_not_rename_the_papers_columns(tmp_path: Path, notes: Notes) -> None:
    """The files of the paper's code have its order; evaluation maps by name."""
    header = ",".join(["filename", *voc.LABELS[::-1]])
    (tmp_path / "own.csv").write_text(f"{header}\na.jpg{',1' * 20}\nb.jpg{',0' * 20}\n")
    data = prepare("csv", tmp_path / "own.csv", out=tmp_path / "data", verify=False)
    file = official(tmp_path / "voc.pth")
    imported = import_checkpoint(file, out=tmp_path / "out", dataset=str(data.path))
    assert imported.labels == voc.LABELS
    assert any("in the published order of voc2007" in line for line in notes.lines)


def test_lambda_for_a_plain_classifier_is_refused(tmp_path: Path) -> None:
    state = oracles.resnet_state(18) | {"fc.weight": torch.zeros(3, 512), "fc.bias": torch.zeros(3)}
    torch.save(state, tmp_path / "plain.pth")
    with pytest.raises(UsageError, match="a linear classifier with average pooling"):
        import_checkpoint(tmp_path / "plain.pth", out=tmp_path / "out", lam=0.5)
    assert import_checkpoint(tmp_path / "plain.pth", out=tmp_path / "out").labels == ("label_0", "label_1", "label_2")


def test_wider_is_normalised_as_in_its_source(tmp_path: Path) -> None:
    import_checkpoint(official(tmp_path / "w.pth", labels=14), out=tmp_path / "out", lam=0.3)
    model = mlrec.load_model(tmp_path / "out")
    assert (model.labels, model.preprocessing.mean) == (wider.LABELS, (0.5, 0.5, 0.5))


def test_an_existing_folder_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(ModelError, match="already exists; choose a different --out"):
        import_checkpoint(official(tmp_path / "voc.pth"), out=tmp_path / "out")
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["mine.txt"]


def test_the_error_for_a_backbone_without_head_suggests_training(tmp_path: Path) -> None:
    torch.save(oracles.resnet_state(18), tmp_path / "backbone.pth")
    with pytest.raises(ModelError, match="mlrec train --weights FILE"):
        import_checkpoint(tmp_path / "backbone.pth", out=tmp_path / "out")


def test_tensor_names_of_no_known_model_are_an_error(tmp_path: Path) -> None:
    torch.save({f"transformer.h.{k}.w": torch.zeros(2) for k in range(400)}, tmp_path / "gpt.pth")
    with pytest.raises(ModelError, match=r"no known model has these tensor names \(first of 400.*--backbone NAME"):
        import_checkpoint(tmp_path / "gpt.pth", out=tmp_path / "out")


def test_a_model_of_mlrec_is_not_imported(tmp_path: Path) -> None:
    import_checkpoint(official(tmp_path / "voc.pth"), out=tmp_path / "out")
    with pytest.raises(
        ModelError, match="already an mlrec model; use it directly with eval, predict, attend or export"
    ):
        import_checkpoint(tmp_path / "out/model.safetensors", out=tmp_path / "again")


def test_coco_has_its_eighty_labels(realdata: Path) -> None:
    header = (realdata / "labels/coco2014_train_8208_labels.csv").read_text(encoding="utf-8").splitlines()[0]
    assert list(KNOWN_LABELS["coco2014"]) == header.split(",")[1:]


def test_the_command_prints_counts_and_licence(tmp_path: Path) -> None:
    file = official(tmp_path / "voc.pth")
    done = CliRunner().invoke(app, ["import", str(file), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "121 matched, 0 missing, 0 unused" in done.output
    assert "backbone    resnet18\n" in done.output, "no tag: the weights are the file's"
    assert "AGPL-3.0" in done.output
