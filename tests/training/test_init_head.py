"""Starting from the head of another run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlrec.config_layers import resolve
from mlrec.datasets.dataset import Dataset
from mlrec.models.checkpoint import load_model
from mlrec.training.setup import build_model
from mlrec.utils.errors import ConfigError, ModelError
from mlrec.workflows.train.train import train
from tests.tiny import FAST, make_tiny


def test_the_head_is_copied_and_one_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    data = make_tiny(tmp_path)
    run = train({**FAST, "data": str(data), "epochs": 1}, out=tmp_path / "runs")
    manifest = Dataset.load(data).manifest("train")

    def built(**keys: object) -> torch.nn.Module:
        flags = {**FAST, "data": str(data), "init_from": str(run.path), **keys}
        return build_model(resolve(("flag", flags)).config, manifest, paper=False).head

    trained = load_model(run.path).head.state_dict()
    for name, values in built(init_head=True).state_dict().items():
        assert torch.equal(values, trained[name])
    assert any(not torch.equal(values, trained[name]) for name, values in built().state_dict().items())
    with pytest.raises(ModelError, match="does not match the head of this run"):
        built(init_head=True, head="q2l", decoder_dim=8)
    other = manifest.with_labels(manifest.labels[:1])
    config = resolve(("flag", {**FAST, "init_from": str(run.path), "init_head": True})).config
    with pytest.raises(ModelError, match="the labels differ from those of this run"):
        build_model(config, other, paper=False)
    with pytest.raises(ConfigError, match="init_head requires init_from"):
        resolve(("flag", {"init_head": True}))
