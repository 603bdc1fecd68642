"""The head phase against two separate runs: a frozen one, and one that starts from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mlrec.config_layers import resolve
from mlrec.datasets.manifest import Manifest
from mlrec.models.checkpoint import load_model
from mlrec.training import head_phase
from mlrec.training.setup import build_model
from mlrec.utils.errors import ConfigError
from mlrec.utils.signals import Interrupted, SignalReceived
from mlrec.workflows.train.train import resume, train
from tests.tiny import FAST, make_tiny

PROBE = {"freeze_backbone": True, "epochs": 4, "lr": 0.01, "opt": "adamw", "lr_schedule": "cosine", "head_lr_mult": 1}
TUNE = {"epochs": 2, "lr": 0.001, "head_lr_mult": 3, "layer_decay": 0.9, "ema": True, "ema_decay": 0.9}


def weights(path: Path) -> dict[str, Tensor]:
    return dict(load_model(path).state_dict())


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_one_run_with_a_head_phase_is_a_frozen_run_and_a_run_from_it(tmp_path: Path) -> None:
    fast = {**FAST, "data": str(make_tiny(tmp_path))}
    probe = train({**fast, **PROBE}, out=tmp_path / "runs", name="probe")
    two = train({**fast, **TUNE, "init_from": str(probe.path), "init_head": True}, out=tmp_path / "runs", name="two")
    one = train({**fast, **TUNE, "head_epochs": 4, "head_phase_lr": 0.01}, out=tmp_path / "runs", name="one")
    assert same(weights(one.path), weights(two.path))
    without = train({**fast, **TUNE}, out=tmp_path / "runs", name="without")
    assert not same(weights(one.path), weights(without.path))


def test_a_run_interrupted_in_its_head_phase_repeats_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags: dict[str, Any] = {**FAST, **TUNE, "data": str(make_tiny(tmp_path)), "head_epochs": 3}
    whole = train(flags, out=tmp_path / "runs", name="whole")

    def interrupted(*_: object, **__: object) -> Iterator[None]:
        raise SignalReceived(15)
        yield

    with monkeypatch.context() as patched:
        patched.setattr(head_phase, "fit", interrupted)
        with pytest.raises(Interrupted):
            train(flags, out=tmp_path / "runs", name="parts")
    again = resume(tmp_path / "runs" / "parts")
    assert same(weights(again.path), weights(whole.path))


def test_features_of_a_large_split_are_those_of_random_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(f"{k}.jpg" for k in range(40))
    manifest = Manifest("d", "train", Path(), ("a",), names, np.zeros((40, 1), np.int8))
    config = resolve(("flag", {**FAST})).config
    model = build_model(config, manifest, paper=False)
    rows, columns = model.backbone.grid
    monkeypatch.setattr(head_phase, "FEATURE_BYTES", 10.5 * 4 * model.backbone.num_features * rows * columns)
    chosen = head_phase._that_fit(model, manifest, 0)
    assert len(set(chosen.sample_ids)) == 10
    assert set(chosen.sample_ids) < set(names)
    assert chosen.sample_ids != head_phase._that_fit(model, manifest, 1).sample_ids


def test_a_frozen_backbone_has_no_head_phase() -> None:
    with pytest.raises(ConfigError, match="head_epochs cannot be used with freeze_backbone"):
        resolve(("flag", {"head_epochs": 1, "freeze_backbone": True}))
