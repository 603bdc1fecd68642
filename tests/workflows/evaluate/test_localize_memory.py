"""`eval --localize` without enough memory ends in one line that says what to try."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mlrec.datasets.readers.shapes import draw_shapes
from mlrec.training.prediction import InferenceModel
from mlrec.utils.errors import RunError
from mlrec.workflows.data.prepare import prepare
from mlrec.workflows.evaluate.evaluate import RuntimeOptions, evaluate_run
from mlrec.workflows.evaluate.localize import localize
from mlrec.workflows.train.train import train
from tests.tiny import FAST


def test_memory_that_runs_out_in_localize_is_reported_with_what_to_try(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_shapes(tmp_path / "scenes", images={"train": 5, "val": 5})
    data = prepare("shapes", tmp_path / "scenes", out=tmp_path / "data")
    run = train({**FAST, "data": str(data.path), "epochs": 1, "img_size": 64}, out=tmp_path / "runs")
    machine = RuntimeOptions(batch_size=4, workers=0, device="cpu")
    evaluation = evaluate_run(run.path, machine=machine)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(InferenceModel, "features", full)
    expected = r"out of memory at 4 images of 64 px per batch; try --batch-size 2 or --precision bf16"
    with pytest.raises(RunError, match=expected):
        localize(evaluation, machine=machine)
