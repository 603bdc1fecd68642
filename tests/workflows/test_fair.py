"""Four rows under one recipe, each finished once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrec.errors import RunError, UsageError
from mlrec.progress import Silent
from mlrec.workflows.fair import tables, train_fair_rows
from tests.tiny import FAST, make_tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("fair"))


def test_the_rows_differ_in_head_lambda_and_its_learning_rate_alone(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data), "epochs": 1, "freeze_backbone": True, "lam": 0.4}
    found = train_fair_rows(flags, out=tmp_path, seeds=(0, 1))
    settings = {
        row: [(r.record.config["head"], r.record.config["lam"], r.record.config["head_lr_mult"]) for r in runs]
        for row, runs in found.items()
    }
    assert settings == {
        "baseline": [("average", 0.4, 1.0)] * 2,
        "baseline-lr": [("average", 0.4, 10.0)] * 2,
        "csra-lam0": [("csra", 0.0, 10.0)] * 2,
        "csra": [("csra", 0.4, 10.0)] * 2,
    }
    rest = [
        {k: v for k, v in run.record.config.items() if k not in ("head", "lam", "head_lr_mult", "seed")}
        for runs in found.values()
        for run in runs
    ]
    assert all(config == rest[0] for config in rest)
    assert found["csra"][1].path == tmp_path / "tiny-test_efficientnet-compare" / "csra-1"
    shown = tables(found)
    assert len(shown) == 4
    assert shown[1].title.startswith("A = csra, B = baseline:")


def test_what_is_finished_is_kept_and_what_was_stopped_goes_on(data: Path, tmp_path: Path) -> None:
    class Halting(Silent):
        def say(self, text: str) -> None:
            if text.startswith("csra-lam0"):
                raise KeyboardInterrupt

    flags = {**FAST, "data": str(data), "epochs": 1, "freeze_backbone": True}
    with pytest.raises(KeyboardInterrupt):
        train_fair_rows(flags, out=tmp_path, name="four", progress=Halting())
    first = (tmp_path / "four" / "baseline-0" / "run.json").read_bytes()
    found = train_fair_rows(flags, out=tmp_path, name="four")
    assert {row: [run.record.status for run in runs] for row, runs in found.items()} == {
        row: ["finished"] for row in ("baseline", "baseline-lr", "csra-lam0", "csra")
    }
    assert (tmp_path / "four" / "baseline-0" / "run.json").read_bytes() == first


def test_a_row_that_was_killed_before_it_had_a_record_begins_anew(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {**FAST, "data": str(data), "epochs": 1, "freeze_backbone": True}

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for place in ("mlrec.workflows.records.write_config", "mlrec.training.state.save", "mlrec.runs.record.write_json"):
        with monkeypatch.context() as patch:
            patch.setattr(place, killed)
            patch.setattr("mlrec.runs.record.RunRecord.save", killed)  # a process that was killed says nothing more
            with pytest.raises(KeyboardInterrupt):
                train_fair_rows(flags, out=tmp_path, name="four")
    left = tmp_path / "four" / "baseline-0"
    assert {entry.name for entry in left.iterdir()} == {".lock", "config.toml", "last.pt"}
    (left / "notes.txt").touch()
    with pytest.raises(RunError, match="exists already"):
        train_fair_rows(flags, out=tmp_path, name="four")
    (left / "notes.txt").unlink()
    assert train_fair_rows(flags, out=tmp_path, name="four")["baseline"][0].record.status == "finished"


def test_rows_of_another_comparison_are_not_taken_for_this_one(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data), "epochs": 1, "freeze_backbone": True}
    train_fair_rows(flags, out=tmp_path, name="four")
    with pytest.raises(UsageError, match=r"(?s)four/baseline-0: .*epochs: was 1, now 2.*another --name"):
        train_fair_rows({**flags, "epochs": 2}, out=tmp_path, name="four")
    kept = train_fair_rows({**flags, "workers": 1}, out=tmp_path, name="four")
    assert kept["csra"][0].record.config["workers"] == 0
