"""`mlrec train`, `eval` and `recipes` as typed: what goes to stdout, what to stderr, and the exit code."""

from __future__ import annotations

import json
import signal
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from mlrec.cli import app
from mlrec.config import FIELDS
from tests.tiny import FAST, make_tiny

FLAGS = [
    part for key, value in FAST.items() if key != "pretrained" for part in (f"--{key.replace('_', '-')}", str(value))
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("commands")
    make_tiny(root)
    return root


def typed(*words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command line."""
    monkeypatch.setattr(sys, "argv", ["mlrec", *words])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as left:
            app.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    out = capsys.readouterr()
    code = left.value.code
    return (code if isinstance(code, int) else 0), out.out, out.err


def test_the_short_forms_work_as_written(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    code, out, err = typed("train", *FLAGS, "--no-pretrained", "--epochs", "1", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0, err
    assert "written to runs/tiny-test_efficientnet-csra-1; next: mlrec eval" in out
    assert [line.partition(":")[0] for line in err.splitlines()[:3]] == ["data", "recipe", "splits"]
    code, out, err = typed("eval", "--top3", "--workers", "0", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0, err
    assert "Top-3" in out
    code, out, err = typed("eval", "--json", "--workers", "0", monkeypatch=monkeypatch, capsys=capsys)
    assert json.loads(out)["counts"]["samples"] == 9
    assert "run: runs/tiny-test_efficientnet-csra-1 (finished last)" in err


def test_results_as_json_and_the_dataset_as_an_argument(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)

    def printed(*words: str) -> Any:
        code, out, err = typed(*words, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 0, err
        return json.loads(out)

    trained = printed("train", "data/tiny", *FLAGS, "--no-pretrained", "--epochs", "1", "--name", "j", "--json")
    assert (trained["run"], trained["metrics"]["counts"]["samples"]) == ("runs/j", 9)
    assert printed("report", "runs/j", "--json")["rows"][0]["run"] == "j"
    assert printed("compare", "runs/j", "runs/j", "--json")[0]["rows"]
    assert printed("recipes", "--json")[0]["name"] == "paper"
    assert printed("stats", "data/tiny", "--json") == printed("stats", "--data", "data/tiny", "--json")
    plan = printed("sweep", "data/tiny", *FLAGS, "--no-pretrained", "--lam", "0,0.5", "--dry-run", "--json")
    assert len(plan["rows"]) == 2
    exported = printed("export-data", "--data", "data/tiny", "--out", "exported", "--json")
    assert exported["path"] == "exported"


def test_former_commands_and_flags_work_with_a_warning(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(home)
    flags = [*FLAGS, "--no-pretrained", "--epochs", "1", "--data", "data/tiny", "--name", "former"]
    old = ["--accum", "2", "--no-decay", "--set", "schedule=cosine"]
    code, _, err = typed("train", *flags, *old, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 0, err
    for new in ("--grad-accum-steps", "--no-decay-norm-bias", "'lr_schedule'"):
        assert f"renamed to {new}" in err
    written = tomllib.loads((home / "runs/former/config.toml").read_text())
    assert (written["grad_accum_steps"], written["decay_norm_bias"], written["lr_schedule"]) == (2, False, "cosine")
    assert not {"accum", "no_decay", "schedule"} & set(written)
    words = ["runs/former", "--lam", "0,0.5", "--resamples", "0", "--json", "--workers", "0"]
    former = typed("eval", *words, monkeypatch=monkeypatch, capsys=capsys)
    current = typed("lambda-sweep", *words, monkeypatch=monkeypatch, capsys=capsys)
    assert former[:2] == current[:2]
    assert json.loads(current[1])["lams"] == [0, 0.5]
    assert "warning: mlrec eval --lam was replaced by the command mlrec lambda-sweep" in former[2]
    assert "warning: mlrec eval" not in current[2]
    former = typed("report", "--by-label", "runs/former", monkeypatch=monkeypatch, capsys=capsys)
    current = typed("compare", "--by-label", "runs/former", monkeypatch=monkeypatch, capsys=capsys)
    assert former[:2] == current[:2]
    assert current[0] == 0
    former = typed("report", "--compare", "runs/former", "runs/former", monkeypatch=monkeypatch, capsys=capsys)
    current = typed("compare", "runs/former", "runs/former", monkeypatch=monkeypatch, capsys=capsys)
    assert former[:2] == current[:2]
    assert current[0] == 0


def test_train_compare_is_the_study_of_that_name_with_one_seed_by_default(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = []
    monkeypatch.setattr(
        "mlrec.cli.sweep.run_and_show", lambda executor, *_, **more: plans.append((executor.plan, more))
    )
    monkeypatch.chdir(home)
    flags = [*FLAGS, "--no-pretrained", "--lam", "0.4", "--data", "data/tiny"]
    for words in (
        ["train", "--compare", *flags, "--seed", "5"],
        ["train", "--compare", *flags, "--seeds", "0,1"],
        ["sweep", "--study", "compare", *flags, "--seeds", "0,1"],
    ):
        assert typed(*words, monkeypatch=monkeypatch, capsys=capsys)[0] == 0
    (one, shown), (short, _), (long, also_shown) = plans
    assert [(trial.label, trial.flags["seed"]) for trial in one.trials({})] == [
        ("baseline", 5), ("baseline, CSRA's head lr", 5), ("CSRA, λ = 0", 5), ("CSRA", 5),
    ]  # fmt: skip
    assert [trial.name for trial in short.trials({})] == [trial.name for trial in long.trials({})]
    assert short.folder == long.folder
    assert shown["compared"] is also_shown["compared"] is True


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("train", "--lr", "0"), 2, "lr = 0"),
        (("train", "--epochs", "1.5"), 2, "epochs = '1.5'"),
        (("train", "--set", "learning_rate=1"), 2, "did you mean 'lr'?"),
        (("train", "--set", "lr"), 2, "expected key=value"),
        (("train", "--set", "lr=fast", "--lr", "0.1"), 2, "--set: lr = 'fast'"),
        (("train", "--set", "lr=0.1", "--set", "lr=0.2"), 2, "lr=0.2: the key is set twice"),
        (("sweep", "--set", "lr=0.1,-1", "--lr", "0.1", "--lam", "0,1"), 2, "--set: lr = -1"),
        (("label-errors", "--set", "epochs=0", "--epochs", "1"), 2, "--set: epochs = 0"),
        (("train", "--recipe", "papper"), 2, "did you mean 'paper'?"),
        (("train", "--threads", "100000"), 2, "threads = 100000"),
        (("train", "--seeds", "0,1"), 2, "--compare"),
        (("train", "--compare", "--seeds", "0:1:0.5"), 2, "--seeds 0:1:0.5: expected integers >= 0"),
        (("sweep", "--seeds", "inf"), 2, "--seeds inf: expected integers >= 0"),
        (("sweep", "--seeds", "1,2,1"), 2, "--seeds 1,2,1: the list contains a duplicate number"),
        (("eval", "nowhere", "--voc-server", "x.zip"), 2, "use .tgz or .tar.gz"),
        (("eval", "--select-on", "val"), 2, "no such option: --select-on"),
        (("eval", "runs/x", "--pretrained"), 2, "no such option: --pretrained"),
        (("imagenet", "a", "--data", "b", "--pretrained"), 2, "DATA (a) and --data (b) differ"),
        (("bench", "head", "--heads", "0"), 2, "--heads 0: expected integers >= 1"),
        (("demo", "--seeds", "-1"), 2, "--seeds -1: expected integers >= 0"),
        (("train", "--data", "data/tiny", "--compare", "--seeds", "1,a"), 2, "--seeds = '1,a'"),
        (("train", "--data", "data/tiny", "--name", "../x"), 2, "'../x' is not a valid folder name"),
        (("train", "--data", "data/tiny", "--compare", "--name", "/x"), 2, "'/x' is not a valid folder name"),
        (("sweep", "--data", "data/tiny", "--lam", "0,1", "--name", ".x"), 2, "'.x' is not a valid folder name"),
        (("sweep", "--data", "data/tiny", "--lam", "0:1"), 2, "lam = '0:1'"),
        (("train", "--resume", "x", "--recipe", "paper"), 2, "cannot be used with --resume"),
        (("train", "--resume", "nowhere"), 1, "not a run folder"),
        (("train", "--data", "data/tiny", "--split", "tset"), 1, "no split 'tset'"),
        (("train", "--data", "data/tinny"), 1, "did you mean 'tiny'?"),
        (("eval", "nowhere"), 1, "not a model; pass a run folder"),
        (("recipes", "show"), 2, "NAME is missing; choose one of"),
        (("recipes", "shwo"), 2, "did you mean 'show'?"),
    ],
)
def test_mistakes_end_in_one_line_and_a_code(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(home)
    found, out, err = typed(*words, monkeypatch=monkeypatch, capsys=capsys)
    assert found == code
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")
    assert told in err.splitlines()[-1]


def test_recipes_are_listed_shown_and_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    _, out, _ = typed("recipes", monkeypatch=monkeypatch, capsys=capsys)
    assert out.splitlines()[0].startswith("paper ")
    _, shown, _ = typed("recipes", "show", "paper-code", monkeypatch=monkeypatch, capsys=capsys)
    assert tomllib.loads(shown)["base"] == "paper"
    typed("recipes", "copy", "paper", "my.toml", monkeypatch=monkeypatch, capsys=capsys)
    assert set(tomllib.loads((tmp_path / "my.toml").read_text())) <= {*FIELDS, "data", "head"}
    code, _, err = typed("recipes", "copy", "paper", "my.toml", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, "already exists" in err) == (2, True)
