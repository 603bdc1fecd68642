"""Plans: the trials of a grid or study, their names, and what is refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlrec.sweeps.plan import plan_sweep
from mlrec.utils.errors import ConfigError, UsageError
from tests.tiny import FAST, make_tiny


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("plan"))


def test_a_grid_is_every_combination_with_every_seed(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data), "lam": "0:0.2:0.1", "heads": "1,2"}
    plan = plan_sweep(flags, seeds=[0, 1], out=tmp_path)
    trials = plan.trials({})
    assert len(trials) == len({trial.name for trial in trials}) == 12
    assert trials[0].values == {"lam": 0.0, "heads": 1, "seed": 0}
    assert trials[0].flags["lr"] == FAST["lr"]
    assert plan.folder == tmp_path / "sweep-lam-heads"
    again = plan_sweep(flags, seeds=[0, 1], out=tmp_path).trials({})
    assert [trial.name for trial in again] == [trial.name for trial in trials]
    other = plan_sweep({**flags, "epochs": 3}, seeds=[0, 1], out=tmp_path).trials({})
    assert not {trial.name for trial in other} & {trial.name for trial in trials}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("machine", [{"device": "cuda:1"}, {"threads": 7}, {"workers": 3}, {"device": "auto"}])
def test_the_machine_is_no_part_of_a_trials_identity(data: Path, tmp_path: Path, machine: dict[str, object]) -> None:
    flags = {**FAST, "data": str(data), "lam": "0,0.1"}
    names = [trial.name for trial in plan_sweep(flags, out=tmp_path).trials({})]
    assert [trial.name for trial in plan_sweep(flags | machine, out=tmp_path).trials({})] == names


def test_invalid_sweeps_are_refused_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data)}
    with pytest.raises(UsageError, match="nothing to sweep over"):
        plan_sweep(flags, out=tmp_path)
    with pytest.raises(ConfigError, match="lam"):
        plan_sweep({**flags, "lam": "0,-1"}, out=tmp_path)
    with pytest.raises(UsageError, match="did you mean 'table7'"):
        plan_sweep(flags, study="table77", out=tmp_path)
    with pytest.raises(UsageError, match="--trials N requires"):
        plan_sweep({**flags, "lr": "0.1,0.2"}, trials=3, seeds=[0, 1], out=tmp_path)
    with pytest.raises(UsageError, match="temperatures, because its values are lists"):
        plan_sweep({**flags, "heads": 2, "temperatures": "1,1;1,2"}, trials=3, out=tmp_path)
    with pytest.raises(UsageError, match="--tune cannot be used with --folds"):
        plan_sweep(flags, tune={"lr": "0.1,0.2"}, folds=2, out=tmp_path)
    with pytest.raises(UsageError, match=r"--tune lr=0\.1: tuning requires at least two values"):
        plan_sweep({**flags, "lam": "0,1"}, tune={"lr": "0.1"}, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_head_chooses_rows_of_a_study(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data), "freeze_backbone": True}

    def labels(heads: str | None) -> list[str]:
        chosen = {} if heads is None else {"head": heads}
        return list({one.label: 0 for one in plan_sweep({**flags, **chosen}, study="heads", out=tmp_path).settings})

    assert len(labels(None)) == 9
    assert labels("average,q2l") == ["average pooling", "Query2Label"]
    assert labels("csra") == ["CSRA, λ = 0", "CSRA, H = 1", "CSRA, H = 6"]
    with pytest.raises(UsageError, match="the study has no matching row"):
        plan_sweep({**flags, "head": "spatial"}, study="compare", out=tmp_path)


def test_a_study_is_crossed_with_seeds_and_flags_win_over_its_defaults(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data), "lam": "0.2"}
    trials = plan_sweep(flags, study="table6", out=tmp_path).trials({})
    assert [(trial.label, trial.flags["lam"], trial.flags["seed"]) for trial in trials[::3]] == [
        ("average only", 0.0, 0), ("spatial only", 0.2, 0), ("average + spatial", 0.2, 0),
    ]  # fmt: skip
    assert [trial.flags["seed"] for trial in trials[:3]] == [0, 1, 2]


def test_settings_with_equal_flags_are_trained_once(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data), "head": "csra,spatial", "lam": "0,0.5"}
    trials = plan_sweep(flags, study="table6", seeds=[0], out=tmp_path).trials({})
    assert [(trial.label, trial.flags["head"], trial.flags["lam"]) for trial in trials] == [
        ("average only", "csra", 0.0),
        ("spatial only", "spatial", 0.0), ("spatial only", "spatial", 0.5),
        ("average + spatial", "csra", 0.5),
    ]  # fmt: skip


def test_the_runs_of_the_paper_only_have_one_seed_and_a_folder_of_their_own(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data)}
    plan = plan_sweep(flags, study="table8", paper_only=True, out=tmp_path)
    assert plan.folder == tmp_path / "table8-paper"
    assert [trial.flags["seed"] for trial in plan.trials({})] == [0] * 4
    assert not plan.tuning
    seeds = plan_sweep(flags, study="table7", paper_only=True, seeds=[0, 1], out=tmp_path)
    assert len(seeds.trials({})) == 10
    with pytest.raises(UsageError, match="--paper-only requires --study"):
        plan_sweep({**flags, "lam": "0,1"}, paper_only=True, out=tmp_path)
