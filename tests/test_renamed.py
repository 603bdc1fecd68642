"""Old names of keys, flags and commands: they work with a warning, and what is written has the new names."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest
import tomli_w

import mlrec
from mlrec.cli import app as cli
from mlrec.cli.app import COMMANDS, current_arguments
from mlrec.config import FIELDS, OLD_KEYS, Config, first_keys, old_keys
from mlrec.config_layers import resolve
from mlrec.run_folders import directory
from mlrec.run_folders.evaluations import evaluations
from mlrec.run_folders.record import RunRecord
from mlrec.run_folders.sweep_file import Entry, SweepFile
from mlrec.sweeps.grid import split_axes
from mlrec.sweeps.plan import plan_sweep
from mlrec.utils.errors import ConfigError
from mlrec.utils.progress import Silent, Step
from mlrec.utils.signals import Interrupted
from mlrec.workflows.train import run_record
from mlrec.workflows.train.run_record import check_same
from mlrec.workflows.train.train import resolve_plan, resume, train
from tests.tiny import FAST, make_tiny

# Written by hand from the table of renamed flags: key, value, current key, current value.
KEYS = [
    ("no_decay", True, "decay_norm_bias", False),
    ("no_decay", False, "decay_norm_bias", True),
    ("accum", 4, "grad_accum_steps", 4),
    ("clip", 0.1, "asl_clip", 0.1),
    ("schedule", "cosine", "lr_schedule", "cosine"),
    ("step_epochs", 7, "lr_step_epochs", 7),
    ("init", "runs/a", "init_from", "runs/a"),
    ("decode", "pil", "image_backend", "pil"),
]


@pytest.mark.parametrize(("old", "value", "new", "current"), KEYS)
def test_an_old_key_of_a_file_sets_the_new_one_with_a_warning(
    old: str, value: object, new: str, current: object
) -> None:
    resolved = resolve(("my.toml", {old: value}))
    assert getattr(resolved.config, new) == current
    assert resolved.sources[new] == "my.toml"
    assert len(resolved.warnings) == 1
    assert f"my.toml: key '{old}' was renamed to '{new}'" in resolved.warnings[0]
    assert old not in FIELDS


def test_the_default_still_decays_norms_and_biases() -> None:
    assert Config().decay_norm_bias  # as `no_decay = false`, the former default
    assert resolve(("my.toml", {"no_decay": True})).config == Config(decay_norm_bias=False)


def test_an_old_key_in_an_overlay_and_a_key_under_both_names() -> None:
    overlay = resolve(("my.toml", {"data": {"voc2007": {"step_epochs": 3}}}), source_kind="voc2007")
    assert overlay.config.lr_step_epochs == 3
    assert overlay.warnings
    with pytest.raises(ConfigError, match="'accum' and 'grad_accum_steps' are the same key; remove 'accum'"):
        resolve(("my.toml", {"accum": 2, "grad_accum_steps": 4}))


def test_an_invalid_value_of_an_old_key_is_an_error_under_the_new_name() -> None:
    with pytest.raises(ConfigError, match=r"my.toml: grad_accum_steps = 0: expected `int` >= 1"):
        resolve(("my.toml", {"accum": 0}))
    with pytest.raises(ConfigError, match=r"my.toml: decay_norm_bias = 'yes': expected `bool`"):
        resolve(("my.toml", {"no_decay": "yes"}))


def test_backbone_weights_is_another_spelling_without_a_warning() -> None:
    resolved = resolve(("my.toml", {"backbone_weights": "w.pth"}))
    assert (resolved.config.weights, resolved.warnings) == ("w.pth", ())


def test_old_axes_of_a_sweep() -> None:
    fixed, axes = split_axes({"accum": "1,2", "no_decay": "true", "schedule": "step,cosine"})
    assert fixed == {"decay_norm_bias": False}
    assert axes == {"grad_accum_steps": [1, 2], "lr_schedule": ["step", "cosine"]}


@pytest.mark.parametrize(("old", "value", "new", "current"), KEYS)
def test_stored_files_of_an_earlier_version_load(
    old: str, value: object, new: str, current: object, tmp_path: Path
) -> None:
    record = {"name": "a", "status": "finished", "config": {old: value}, "sources": {old: "flag"}}
    (tmp_path / directory.RECORD).write_text(json.dumps(record))
    loaded = RunRecord.load(tmp_path)
    assert (loaded.config, loaded.sources) == ({new: current}, {new: "flag"})
    scored = {"dataset": "d", "kind": "csv", "split": "test", "samples": 1, "digest": "0"}
    evaluation = tmp_path / "imported" / "eval-d-test"
    evaluation.mkdir(parents=True)
    (evaluation / "eval.json").write_text(json.dumps({"model": "m", "scored": scored, "config": {old: value}}))
    assert evaluations(evaluation)[0].record.config == {new: current}
    SweepFile("t", [Entry("a", "", {old: value})], tuned=[old]).save(tmp_path)
    sweep = SweepFile.load(tmp_path)
    assert (sweep.runs[0].settings, sweep.tuned) == ({new: current}, [new])


def test_a_run_of_an_earlier_version_is_the_same_experiment() -> None:
    check_same(
        {"config": {"no_decay": False, "accum": 2}}, {"config": {"decay_norm_bias": True, "grad_accum_steps": 2}}
    )


@pytest.mark.parametrize(("old", "value", "new", "current"), KEYS)
def test_what_is_hashed_keeps_the_first_names(old: str, value: object, new: str, current: object) -> None:
    assert first_keys({new: current, "lr": 1.0}) == {old: value, "lr": 1.0}


@pytest.mark.parametrize(
    ("typed", "current"),
    [
        ("train --accum 2 --no-decay", "train --grad-accum-steps 2 --no-decay-norm-bias"),
        ("train --no-no-decay --decode=pil", "train --decay-norm-bias --image-backend=pil"),
        ("train --schedule step --step-epochs 2", "train --lr-schedule step --lr-step-epochs 2"),
        ("train --init runs/a --clip 0.1", "train --init-from runs/a --asl-clip 0.1"),
        ("attend a.jpg --head inf", "attend a.jpg --temperature inf"),
        ("duplicates --sheet a.png --alike 0.9", "duplicates --contact-sheet a.png --min-similarity 0.9"),
        ("stats --picture a.png", "stats --figure a.png"),
        ("report --each --table 3 --extra a.csv", "report --per-run --table 3 --extra-rows a.csv"),
        ("eval runs/a --lam 0:1:0.1 --divide", "lambda-sweep runs/a --lam 0:1:0.1 --normalize-logits"),
        ("eval --by-size", "lambda-sweep --by-size"),
        ("eval --backbone resnet50 --pretrained --data d", "imagenet --backbone resnet50 --pretrained --data d"),
        ("report --compare a b --truth t.csv", "compare a b --truth t.csv"),
        ("report a b --by-size", "compare a b --by-size"),
        ("report --by-label --each", "compare --by-label --per-run"),
    ],
)
def test_an_old_command_line_becomes_a_current_one_with_warnings(typed: str, current: str) -> None:
    arguments, warnings = current_arguments(typed.split())
    assert " ".join(arguments) == current
    assert warnings
    assert arguments[0] in COMMANDS
    assert current_arguments(arguments) == (arguments, [])


@pytest.mark.parametrize("line", ["train --head csra", "eval --top3", "predict -- --accum", "report --table 1", ""])
def test_current_command_lines_stay_as_they_are(line: str) -> None:
    assert current_arguments(line.split()) == (line.split(), [])


def test_old_flags_print_a_warning_on_stderr_and_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mlrec", "stats", "nowhere", "--picture", "a.txt"])
    with pytest.raises(Exception, match="--figure"):
        cli.app(standalone_mode=False)
    streams = capsys.readouterr()
    assert "warning: --picture was renamed to --figure; use the new name" in streams.err
    assert streams.out == ""


class _Stopping(Silent):
    """A progress that stops the training at its n-th step."""

    def __init__(self, at: int) -> None:
        self.left = at

    @contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        def step(done: int = 1, facts: str = "") -> None:
            self.left -= 1
            if not self.left:
                os.kill(os.getpid(), signal.SIGTERM)

        yield step


def test_a_run_that_an_earlier_version_began_resumes_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {**FAST, "data": str(make_tiny(tmp_path)), "decay_norm_bias": False, "grad_accum_steps": 2, "save_every": 1}
    whole = train(flags, out=tmp_path, name="whole")
    with monkeypatch.context() as earlier:
        plain = run_record.plain
        earlier.setattr(run_record, "plain", lambda config: first_keys(plain(config)))
        with pytest.raises(Interrupted):
            train(flags, out=tmp_path, name="old", progress=_Stopping(5))
    folder = tmp_path / "old"
    config = tomllib.loads((folder / directory.CONFIG).read_text())
    (folder / directory.CONFIG).write_text(tomli_w.dumps(first_keys(config)))
    stored = json.loads((folder / directory.RECORD).read_text())["config"]
    assert (stored["no_decay"], stored["accum"]) == (True, 2)
    resumed = resume(folder)
    assert resumed.record.status == "finished"
    assert json.dumps(resumed.record.config) == json.dumps(whole.record.config)
    written = json.loads((folder / directory.RECORD).read_text())["config"]
    assert (written["decay_norm_bias"], written["grad_accum_steps"]) == (False, 2)
    assert not set(written) & set(OLD_KEYS)
    assert np.array_equal(resumed.predictions().logits, whole.predictions().logits)


def test_a_sweep_that_an_earlier_version_began_keeps_its_names(tmp_path: Path) -> None:
    data = make_tiny(tmp_path)
    plan = plan_sweep({**FAST, "data": str(data), "lam": "0,0.5"}, out=tmp_path)
    trial = plan.trials({})[0]
    identity = msgspec.to_builtins(run_record.identity(resolve_plan(trial.flags)))
    config = {key: value for key, value in identity["config"].items() if key not in run_record.FREE}
    old = {new: (key, value) for key, _, new, _ in KEYS for value in [config[new]]}
    for new, (key, value) in old.items():  # the names of the earlier version, by hand
        del config[new]
        config[key] = not value if key == "no_decay" else value
    text = json.dumps({**identity, "config": config}, sort_keys=True, default=str)
    assert trial.name.endswith(hashlib.sha256(text.encode()).hexdigest()[:10])


def test_recipes_use_current_names() -> None:
    for file in (Path(mlrec.__file__).parent / "recipes").glob("*.toml"):
        assert not list(old_keys(tomllib.loads(file.read_text(encoding="utf-8")))), file.name
