"""The table of a sweep: means over seeds, differences to the first row, convergence, what is missing."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest

from mlrec.config import FIELDS
from mlrec.metrics.bootstrap import paired_difference
from mlrec.metrics.evaluate import evaluate
from mlrec.reports.render.formats import FORMATS
from mlrec.reports.results import result_of
from mlrec.run_folders.record import Run
from mlrec.sweeps.study_tables import SettingResult, TrialResult, study_table
from tests.reports.builders import write_run


def measured(root: Path, name: str, seed: int, strength: float, **more: object) -> TrialResult:
    """A run whose logits know the truth as well as `strength` says."""
    rng = np.random.default_rng(seed)
    targets = (np.random.default_rng(99).random((60, 3)) < 0.4).astype(np.int8)
    logits = (strength * targets + rng.normal(size=targets.shape)).astype(np.float32)
    run = Run.load(write_run(root, name, config={"seed": seed}, logits=logits, targets=targets, labels=("a", "b", "c")))
    samples = tuple(run.predictions().sample_ids)
    return TrialResult(result_of(run), logits, targets, samples, **more)  # type: ignore[arg-type]


def cells(table, row):
    return dict(zip([column.key for column in table.columns], table.rows[row].cells, strict=True))


def test_rows_are_means_over_seeds_and_differences_are_to_the_first(tmp_path):
    weak = [measured(tmp_path, f"weak{k}", k, 0.5) for k in range(3)]
    strong = [measured(tmp_path, f"strong{k}", k, 3.0) for k in range(3)]
    settings = [SettingResult("weak", {"lam": 0.0}, weak), SettingResult("strong", {"lam": 0.4}, strong, missing=1)]
    table = study_table("A study", settings, intervals=True, notes=["a note"])
    first, second = cells(table, 0), cells(table, 1)
    expected = [evaluate(run.logits, run.targets).mAP for run in strong]
    assert second["mAP"] == pytest.approx(statistics.fmean(expected))
    assert second["sd"] == pytest.approx(statistics.stdev(expected))
    assert second["seeds"] == 3
    assert first["difference"] is None
    assert second["difference"] == pytest.approx(second["mAP"] - first["mAP"])
    between = paired_difference([r.logits for r in strong], [r.logits for r in weak], weak[0].targets,
                                groups=weak[0].samples)  # fmt: skip
    assert between is not None
    assert (second["difference_low"], second["difference_high"]) == (between.low, between.high)
    assert 0 < second["difference_low"] < second["difference"] < second["difference_high"]
    assert table.rows[1].best
    assert not table.rows[0].best
    told = "\n".join(table.footnotes)
    assert told.startswith("a note")
    assert "omitted: 1 unfinished run" in told
    assert "chosen on the scored split itself" in told
    for name in FORMATS:
        assert "strong" in FORMATS[name]([table])


def test_no_measured_column_replaces_a_swept_key(tmp_path):
    """A sweep over `loss` or `epochs` had the training loss, or the epochs to 95%, in place of its values."""
    run = measured(tmp_path, "run", 0, 2.0, history=[(1, 0.5), (2, 0.8)], losses=[0.7, 0.1])
    first, second = ({"loss": name, "epochs": epochs} for name, epochs in (("bce", 2), ("asl", 4)))
    table = study_table("t", [SettingResult("", first, [run]), SettingResult("", second, [run])], intervals=True)
    assert [(cells(table, k)["loss"], cells(table, k)["epochs"]) for k in (0, 1)] == [("bce", 2), ("asl", 4)]
    measured_keys = {column.key for column in table.columns} - {"loss", "epochs"}
    assert not measured_keys & set(FIELDS)


def test_convergence_is_the_first_epoch_near_the_runs_own_last_map(tmp_path):
    quick = measured(tmp_path, "quick", 0, 2.0, history=[(1, 0.5), (2, 0.77), (3, 0.79), (4, 0.8)], losses=[0.7, 0.1])
    slow = measured(tmp_path, "slow", 1, 2.0, history=[(1, 0.1), (2, 0.3), (3, 0.75), (4, 0.79)], losses=[0.7, 0.2])
    table = study_table(
        "t", [SettingResult("a", {}, [quick]), SettingResult("b", {}, [quick, slow])], tuned=["head_lr_mult"]
    )
    assert cells(table, 0)["epochs_to_near"] == 2  # 0.76 is 95% of 0.8
    assert cells(table, 1)["epochs_to_near"] == pytest.approx(3.0)  # the other needs 4: 0.75 < 0.7505
    assert cells(table, 1)["training_loss"] == pytest.approx(0.15)
    assert "head_lr_mult: chosen for each row on held-out data" in "\n".join(table.footnotes)
    assert not any("edge" in note for note in table.footnotes)
    edge = [SettingResult("a", {"lr": 3.0}, [quick], at_edge=["lr"]), SettingResult("b", {"lr": 1.0}, [slow])]
    told = study_table("t", edge, tuned=["lr"]).footnotes
    assert [note for note in told if "edge" in note] == [
        "at the edge of the tried values; better values may be beyond the edge: a: lr = 3"
    ]


def test_rows_without_runs_are_left_out_and_folds_have_no_common_interval(tmp_path):
    one, other = measured(tmp_path, "one", 0, 1.0), measured(tmp_path, "other", 1, 1.0)
    moved = TrialResult(other.result, other.logits, other.targets, tuple(f"x{k}" for k in range(60)))
    table = study_table("t", [SettingResult("", {"lam": 0.1}, [one, moved]), SettingResult("", {"lam": 0.2}, [], 2)],
                        intervals=True)  # fmt: skip
    assert len(table.rows) == 1
    assert {"mAP_low", "variant"}.isdisjoint(column.key for column in table.columns)
    assert "omitted: 2 unfinished runs" in table.footnotes[-1]


def test_settings_that_are_not_numbers_are_shown_in_words(tmp_path):
    runs = [measured(tmp_path, "one", 0, 1.0)]
    table = study_table("T", [SettingResult("", {"temperatures": [1.0, "inf"], "normalize": False, "lam": 0.5}, runs)])
    assert [cells(table, 0)[key] for key in ("temperatures", "normalize", "lam")] == ["1+inf", "off", 0.5]
