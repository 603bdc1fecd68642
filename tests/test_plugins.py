"""The package in docs/examples/mlrec_plugin, built and installed: its reader, head and loss work as mlrec's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from typer.testing import CliRunner

import mlrec
from mlrec.cli import options
from mlrec.cli.app import app
from mlrec.config import KINDS, PARTS, Config, choices
from mlrec.config_layers import check_values, resolve
from mlrec.datasets.dataset import Dataset
from mlrec.datasets.readers.registry import READERS, ReadOptions
from mlrec.models.classifier import HEADS, create_head
from mlrec.models.residual import residual_parts
from mlrec.reports.paper.method_names import method_name
from mlrec.run_folders.record import Run
from mlrec.training.attention_maps import read_maps
from mlrec.training.losses import LOSSES, LossContext, loss_function
from mlrec.utils import plugins
from mlrec.utils.errors import ConfigError, MlrecError, ModelError, ValidationReport
from tests.tiny import FAST, LABELS, make_tiny

PACKAGE = Path(__file__).parents[1] / "docs/examples/mlrec_plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built by its own build backend and installed into an empty folder, without a network."""
    source, target = tmp_path_factory.mktemp("source") / "package", tmp_path_factory.mktemp("target")
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns("__pycache__"))
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--no-compile", "--target", str(target)]
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *options, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def plugin(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)
    monkeypatch.delitem(sys.modules, "mlrec_plugin", raising=False)


def mlrec_command(*words: object) -> str:
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.usefixtures("plugin")
def test_prepare_train_eval_and_report_with_the_parts_of_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Dataset.load(make_tiny(tmp_path)).manifest("train")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for image, row in zip(manifest.images, manifest.targets, strict=True):
        shutil.copy(manifest.root / image, photographs)
        tags = [label for label, target in zip(LABELS, row, strict=True) if target == 1]
        (photographs / image).with_suffix(".txt").write_text("\n".join(tags))
    monkeypatch.chdir(tmp_path)
    assert "tag_files" in mlrec_command("prepare", "photographs")  # its own recognizer finds the kind
    assert (Dataset.load("data/photographs").manifest("all").targets == manifest.targets).all()
    mlrec_command("split", "data/photographs", "--val", 0.4, "--no-duplicates")
    (tmp_path / "own.toml").write_text('loss = "brier"\n[head.max]\nlr = 0.03\n[data.tag_files]\nhflip = 0.0\n')
    flags = [
        part
        for key, value in FAST.items()
        if key != "pretrained" and key != "lr"
        for part in (f"--{key.replace('_', '-')}", value)
    ]
    mlrec_command(
        "train",
        "data/photographs",
        "--head",
        "max",
        "--config",
        "own.toml",
        "--no-pretrained",
        "--name",
        "mine",
        *flags,
    )
    run = Run.load(tmp_path / "runs/mine")
    assert {key: run.record.config[key] for key in ("head", "loss", "lr", "hflip")} == {
        "head": "max", "loss": "brier", "lr": 0.03, "hflip": 0.0,
    }  # fmt: skip
    assert type(mlrec.load_model(run.path).head).__name__ == "MaxPooling"
    mlrec_command("eval", "runs/mine", "--split", "val", "--device", "cpu", "--workers", 0)
    assert "max pooling" in mlrec_command("report", "runs", "--format", "md")
    names = mlrec_command("sweep", "data/photographs", "--no-pretrained", "--dry-run", "--head", "max,csra", *flags)
    assert "max" in names


@pytest.mark.usefixtures("plugin")
def test_the_reader_of_the_package_reads_and_reports(tmp_path: Path) -> None:
    from mlrec_plugin import read_tag_files

    for name, tags in {"a": "dog\ncat\n", "sub/b": "cat\n", "sub/c": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.jpg").touch()
        (tmp_path / f"{name}.txt").write_text(tags)
    findings = ValidationReport()
    manifest = read_tag_files(tmp_path, ReadOptions(), findings).manifests[0]
    assert (manifest.labels, manifest.images) == (("cat", "dog"), ("a.jpg", "sub/b.jpg", "sub/c.jpg"))
    assert manifest.targets.tolist() == [[1, 1], [1, 0], [0, 0]]
    assert not findings.errors
    (tmp_path / "sub/b.txt").unlink()
    read_tag_files(tmp_path, ReadOptions(), findings)
    assert len(findings.errors) == 1
    assert "b.txt" in findings.errors[0]


@pytest.mark.usefixtures("plugin")
def test_the_head_of_a_package_has_options_maps_and_checks() -> None:
    head = create_head("max", 8, 3, dropout=0.5, lam=0.1)
    assert head.dropout.p == 0.5
    assert head.training
    features = torch.rand(2, 8, 4, 5)
    maps = read_maps(head.eval(), features)
    np.testing.assert_allclose(maps.contributions.sum((2, 3)), maps.logits, rtol=1e-6)
    np.testing.assert_allclose(maps.scores.max((2, 3)), maps.logits, rtol=1e-6)
    assert residual_parts(head, features).shape == (2, 2, 3)


@pytest.mark.usefixtures("plugin")
def test_the_brier_loss_is_its_formula() -> None:
    from mlrec_plugin import brier

    logits = torch.linspace(-4, 4, 9).double().requires_grad_()
    p = 1 / (1 + np.exp(-np.linspace(-4, 4, 9)))
    context = LossContext(Config(), torch.zeros(9, dtype=torch.bool), 0, torch.ones(9), 9)
    for truth in (0.0, 1.0):
        found = brier(logits, torch.full((9,), truth), context)
        np.testing.assert_allclose(found.detach(), (p - truth) ** 2, rtol=1e-9)
    assert torch.autograd.gradcheck(lambda x: brier(x, torch.eye(9)[3], context), logits)


@pytest.mark.usefixtures("plugin")
def test_the_metric_of_the_package_agrees_with_scikit_learn() -> None:
    from mlrec_plugin import coverage_error
    from sklearn.metrics import coverage_error as reference

    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, targets = rng.integers(0, 5, (30, 6)).astype(float), rng.integers(0, 2, (30, 6)).astype(np.int8)
        targets[:, 0] |= ~targets.any(axis=1)
        names = tuple(map(str, range(30)))
        predictions = mlrec.Predictions(tuple("abcdef"), names, scores, targets)
        assert coverage_error(predictions) == pytest.approx(reference(targets, scores))
    assert coverage_error(mlrec.Predictions(("a",), ("x",), np.zeros((1, 1)), np.zeros((1, 1), np.int8))) is None


@pytest.mark.usefixtures("plugin")
def test_names_of_parts_are_listed_with_those_of_packages() -> None:
    assert choices("head") == (*PARTS["head"], "max")
    option = options._flag.__wrapped__("head").annotation.__metadata__[0]
    assert option.metavar == "NAME"
    assert "q2l, max" in option.help
    with pytest.raises(ConfigError, match=r"flag: head = 'mx': expected one of csra, .*, max; did you mean 'max'\?"):
        check_values("flag", {"head": "mx"})
    with pytest.raises(ConfigError, match=r"\[head\.mx\]: unknown table; did you mean 'max'\?"):
        resolve(("a.toml", {"head": {"mx": {"lr": 0.1}}}))


def test_without_the_package_the_error_lists_what_exists() -> None:
    with pytest.raises(ConfigError, match="expected one of bce, asl, focal"):
        check_values("flag", {"loss": "brier"})
    with pytest.raises(ConfigError, match="unknown loss 'brier'; expected one of bce, asl, focal"):
        loss_function(Config(loss="brier"), mlrec.Manifest("x", "all", Path(), ("a",), (), np.zeros((0, 1), np.int8)))
    with pytest.raises(ModelError, match="unknown head 'max'; expected one of csra, spatial, average, gcn"):
        create_head("max", 8, 3)


class Column(torch.nn.Module):
    """A head that returns one column whatever the number of labels, and has no maps."""

    def __init__(self, in_features: int, num_labels: int) -> None:
        super().__init__()

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features.mean((1, 2, 3))[:, None]


def mean_loss(logits: torch.Tensor, positive: torch.Tensor, context: LossContext) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, positive)


def test_parts_that_break_their_contract_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    here = {
        "mlrec.heads": {"column": f"{__name__}:Column", "gone": "nowhere_at_all:Head"},
        "mlrec.losses": {"mean": f"{__name__}:mean_loss"},
    }
    monkeypatch.setattr(plugins, "added_by_packages", lambda group: here.get(group, {}))
    with pytest.raises(ModelError, match=r"head 'column' returns logits of shape \(2, 1\) for 2 images and 3 labels"):
        create_head("column", 8, 3)
    with pytest.raises(MlrecError, match="nowhere_at_all:Head: the plugin cannot be imported"):
        create_head("gone", 8, 3)
    with pytest.raises(ModelError, match="the method location_scores, but Column has none"):
        read_maps(create_head("column", 8, 1), torch.rand(2, 8, 3, 3))
    manifest = mlrec.Manifest("x", "all", Path(), ("a",), ("b.jpg",), np.ones((1, 1), np.int8))
    with pytest.raises(ConfigError, match=r"loss 'mean' returns values of shape \(\) for logits of shape \(2, 1\)"):
        loss_function(Config(loss="mean"), manifest)(torch.zeros(2, 1), torch.ones(2, 1))


def test_runs_of_an_added_head_with_different_options_are_different_methods() -> None:
    config = {"backbone": "resnet101", "head": "column", "lam": 0.1}
    assert method_name(config) == "ResNet-101 + column"
    assert method_name(config | {"lam": 0.4, "heads": 2}) == "ResNet-101 + column, heads 2, lam 0.4"


def test_the_config_names_mlrecs_own_parts() -> None:
    assert PARTS == {"head": tuple(HEADS), "loss": tuple(LOSSES)}
    assert tuple(READERS) == KINDS
