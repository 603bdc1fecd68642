"""Names of backbones and weights fail at once, before torch is imported, and never a name that is right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm

from mlrec.config import Config
from mlrec.utils.errors import ConfigError, ModelError
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train import train as module
from mlrec.workflows.train.train import check_backbone_name, check_model_names

ROOT = Path(__file__).parents[3]

WITHOUT_TORCH = """
import sys
from mlrec.cli import app
try:
    app.main()
finally:
    print("torch" in sys.modules)
"""


def test_the_names_read_from_the_source_are_those_of_timm() -> None:
    assert module._names_in_source() == set(timm.list_models())


def test_a_name_of_a_model_registered_elsewhere_is_left_to_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_names_in_source", frozenset)
    check_backbone_name("resnet18.tv_in1k")
    with pytest.raises(ModelError, match=r"has no backbone 'resnt18'.*did you mean 'resnet18'"):
        check_backbone_name("resnt18")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--device", "gpu"],
        ["train", "--precision", "fp8"],
        ["train", "--weights", "efficientnet-lite7"],
        ["train", "--init-from", "nowhere"],
        ["eval", "--device", "gpu"],
        ["imagenet", "--backbone", "resnet18", "--weights", "efficientnet-lite7"],
        ["eval", "--precision", "fp8"],
        ["doctor", "--device", "gpu"],
    ],
)
def test_wrong_names_are_refused_before_torch_and_data(words: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "False\n", done.stderr
    assert done.returncode in (1, 2)
    assert done.stderr.startswith("error: ")
    assert words[-1] in done.stderr


def test_weights_that_are_no_file_are_named_with_the_packages(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="efficientnet-lite0, efficientnet-lite1, efficientnet-lite2") as caught:
        check_model_names(Config(weights="efficientnet-lite7"))
    assert "\n" not in str(caught.value)
    (tmp_path / "w.pth").touch()
    check_model_names(Config(weights=str(tmp_path / "w.pth"), init_from=str(tmp_path)))


@pytest.mark.parametrize("options", [{"device": "gpu"}, {"precision": "fp8"}])
def test_how_a_model_is_run_is_checked_where_it_is_written(options: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options.values()))):
        RuntimeOptions(**options)  # type: ignore[arg-type]
