"""A sweep from plan to table: most with its worker in this process, some as commands that are killed."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager, ExitStack, redirect_stderr
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState as OptunaState

from mlrec.datasets.dataset import Dataset
from mlrec.metrics.summary import Metrics
from mlrec.run_folders import directory
from mlrec.run_folders.record import RunRecord
from mlrec.sweeps import executor
from mlrec.sweeps.executor import DATABASE, SweepExecutor, WorkerPool
from mlrec.sweeps.plan import SweepPlan, plan_sweep
from mlrec.sweeps.progress import TrialState, dry_run, failures, state_of
from mlrec.sweeps.studies import CSRA, STEPS
from mlrec.sweeps.study_tables import comparison_tables, study_report
from mlrec.sweeps.trial_queue import RUN, Attempts, TrialQueue
from mlrec.sweeps.worker import Worker
from mlrec.utils.errors import UsageError
from mlrec.workflows.report.report import runs_at
from tests.processes import started
from tests.tiny import FAST, make_tiny

HEAD_ONLY = {**FAST, "freeze_backbone": True, "threads": 1, "epochs": 1}
FINISHED, FAILED = "finished", "failed"
REPOSITORY = Path(__file__).parents[2]

linux = pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process, which has torch already."""

    def start(pool: WorkerPool, waiting: int, _queue: TrialQueue) -> None:
        one = Worker(pool._task)
        with open(2, "w", buffering=1, closefd=False) as stream, redirect_stderr(stream):  # pytest's is another
            while waiting and one.exit_code is None and one.queue.train_next(one.train):
                pass

    monkeypatch.setattr(WorkerPool, "start", start)
    monkeypatch.setattr(executor, "POLL", 0.0)


def last_states(plan: SweepPlan, **options: Any) -> tuple[TrialState, ...]:
    return list(SweepExecutor(plan, **options).run())[-1]


def written(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob(directory.RECORD)}


@pytest.mark.usefixtures("in_process")
def test_folds_and_tuning_end_in_one_table(tmp_path: Path) -> None:
    data = make_tiny(tmp_path)
    flags = {**HEAD_ONLY, "data": str(data), "lam": "0,0.5"}
    folds = plan_sweep(flags, folds=2, out=tmp_path / "runs", name="folds")
    assert {"cv2-fold0-train", "cv2-fold1-val"} <= set(Dataset.load(data).info.splits)
    tuned = plan_sweep({**flags, "lam": 0.5}, tune={"lr": "0.02,0.2"}, seeds=[3], out=tmp_path / "runs", name="tuned")
    assert [trial.flags["split"] for trial in tuned.tuning] == ["tune-val"] * 2
    assert (
        "1 run with the selected values will follow"
        in dry_run(tuned, SweepExecutor(tuned).current_states()).footnotes[-2]
    )

    states = last_states(folds)
    assert [(s.status, s.trial.values["fold"]) for s in states] == [(FINISHED, 0), (FINISHED, 1)] * 2
    table = study_report(folds.folder)
    assert [row.cells[0] for row in table.rows] == [0.0, 0.5]
    assert table.columns[3].key == "seeds"
    assert [row.cells[3] for row in table.rows] == [2, 2]

    (state,) = last_states(tuned)
    held_out = [state_of(trial, tuned.folder, Attempts()).mAP or 0.0 for trial in tuned.tuning]
    best = [0.02, 0.2][held_out.index(max(held_out))]
    config = RunRecord.load(tuned.folder / state.trial.name).config
    assert config["lr"] == best == state.trial.values["lr"]
    assert config["split"] == "val"
    assert {run.path.name for run in runs_at([tuned.folder])} == {state.trial.name}
    one = tuned.folder / tuned.tuning[0].name
    assert [run.path for run in runs_at([one])] == [one], "it is shown when it is named"
    assert "lr: chosen for each row on held-out data" in "\n".join(study_report(tuned.folder).footnotes)


@pytest.mark.usefixtures("in_process")
def test_a_failing_trial_does_not_stop_others_and_is_tried_twice(data: Path, tmp_path: Path) -> None:
    flags = {**HEAD_ONLY, "data": str(data), "lr": "1e30,0.05"}
    plan = plan_sweep(flags, out=tmp_path)
    states = last_states(plan)
    assert [(state.status, state.failures) for state in states] == [(FAILED, 1), (FINISHED, 0)]
    (line,) = failures(states)
    assert line.startswith("lr 1e+30: the loss is")
    log = states[0].log.read_text()
    assert "Traceback" not in log
    assert "error: the loss is" in log
    before = written(tmp_path)

    states = last_states(plan_sweep(flags, out=tmp_path))
    assert [(state.status, state.failures) for state in states] == [(FAILED, 2), (FINISHED, 0)]
    after = written(tmp_path)
    assert [path.parent.name for path, time in after.items() if before[path] != time] == [states[0].trial.name]

    states = last_states(plan_sweep(flags, out=tmp_path))
    assert [(state.status, state.failures) for state in states] == [(FAILED, 2), (FINISHED, 0)]
    assert written(tmp_path) == after, "what failed twice is not tried again"
    report = study_report(plan.folder)
    assert len(report.rows) == 1
    assert "omitted: 1 unfinished run" in report.footnotes[-1]

    assert last_states(plan_sweep(flags, out=tmp_path), retry_failed=True)[0].failures == 3


@pytest.mark.usefixtures("in_process")
def test_finished_runs_count_also_without_the_storage_and_on_another_device(data: Path, tmp_path: Path) -> None:
    flags = {**HEAD_ONLY, "data": str(data), "lam": "0,0.5"}
    plan = plan_sweep(flags, out=tmp_path, name="50% {a}?b#c")
    names = [state.trial.name for state in last_states(plan)]
    before = written(tmp_path)
    (plan.folder / DATABASE).unlink()  # also of a name that is special in a URL
    again = last_states(plan_sweep({**flags, "device": "auto", "threads": 2}, out=tmp_path, name=plan.folder.name))
    assert [(state.status, state.trial.name) for state in again] == [(FINISHED, name) for name in names]
    assert written(tmp_path) == before
    shutil.rmtree(plan.folder / names[0])
    assert last_states(plan, storage=str(tmp_path / "journal"))[0].status == FINISHED
    assert [path for path, time in written(tmp_path).items() if before[path] != time] == [
        plan.folder / names[0] / directory.RECORD
    ]


@pytest.mark.usefixtures("in_process")
def test_a_search_makes_n_runs_and_continues_from_the_folders(data: Path, tmp_path: Path) -> None:
    flags = {**HEAD_ONLY, "data": str(data), "lr": "0.001,1", "head": "csra,average"}
    states = last_states(plan_sweep(flags, trials=2, out=tmp_path))
    assert [state.status for state in states] == [FINISHED] * 2
    assert all(0.001 <= state.trial.values["lr"] <= 1 for state in states)
    more = last_states(plan_sweep(flags, trials=3, out=tmp_path))
    assert [state.trial.name for state in more][:2] == [state.trial.name for state in states]
    assert len({state.trial.name for state in more}) == 3
    assert len(study_report(tmp_path / "sweep-lr-head").rows) == 3


@pytest.mark.usefixtures("in_process")
def test_what_fails_in_a_search_is_not_tried_again_by_the_same_command(data: Path, tmp_path: Path) -> None:
    flags = {**HEAD_ONLY, "data": str(data), "lr": "1e30,1e31"}
    for times in (1, 2):
        states = last_states(plan_sweep(flags, trials=1, out=tmp_path))
        assert [(state.status, state.failures) for state in states] == [(FAILED, times)]


@pytest.mark.usefixtures("in_process")
def test_the_study_compare_trains_four_rows_that_differ_in_head_lambda_and_its_learning_rate(
    data: Path, tmp_path: Path
) -> None:
    flags = {**HEAD_ONLY, "data": str(data), "lam": 0.4}
    states = last_states(plan_sweep(flags, study="compare", seeds=[5], out=tmp_path))
    configs = [RunRecord.load(tmp_path / "compare" / state.trial.name).config for state in states]
    assert [(c["head"], c["lam"], c["head_lr_mult"], c["seed"]) for c in configs] == [
        ("average", 0.4, 1.0, 5), ("average", 0.4, 10.0, 5), ("csra", 0.0, 10.0, 5), ("csra", 0.4, 10.0, 5),
    ]  # fmt: skip
    rest = [{k: v for k, v in c.items() if k not in ("head", "lam", "head_lr_mult")} for c in configs]
    assert all(config == rest[0] for config in rest)
    tables = comparison_tables(tmp_path / "compare")
    assert [table.title.partition(": ")[0] for table in tables] == [f"A = {CSRA}, B = {label}" for label in STEPS]
    assert all("n = 1 and 1 run" in "\n".join(table.footnotes) for table in tables)


def test_a_sweep_has_one_worker_per_gpu_unless_a_device_or_a_number_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    flags = {**HEAD_ONLY, "data": str(data), "lam": "0,0.5"}
    for device, jobs, expected in (
        ("auto", None, (8, 8)), ("cuda", None, (8, 8)), ("auto", 3, (3, 8)), ("cuda:1", None, (1, 0)),
        ("cpu", None, (1, 0)), ("cpu", 4, (4, 0)),
    ):  # fmt: skip
        one = SweepExecutor(plan_sweep({**flags, "device": device}, out=tmp_path), jobs)
        one._prepare()
        assert (one._workers, one._gpus) == expected, device


def test_torchrun_is_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_sweep({**HEAD_ONLY, "data": str(data), "lam": "0,0.5"}, out=tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="without torchrun"):
        next(SweepExecutor(plan).run())


def command(data: Path, out: Path, **more: Any) -> list[str]:
    flags = {**FAST, "data": data, "epochs": 25, "lam": "0:0.2:0.1", "threads": 1, **more}
    texts = [part for key, value in flags.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "mlrec", "sweep", *texts, "--out", str(out), "--name", "s"]


def start(arguments: list[str]) -> AbstractContextManager[subprocess.Popen[str]]:
    return started(arguments, text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)})


def until(folder: Path, process: subprocess.Popen[str], *, done: int, step: int, old: Path | None = None) -> Path:
    """Wait until so many runs are finished and another, not the `old` one, is at a step; return that one's folder."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        records = {path.parent: RunRecord.load(path.parent) for path in folder.glob(f"*/{directory.RECORD}")}
        running = [path for path, record in records.items() if record.status == "running" and path != old]
        if sum(record.status == "finished" for record in records.values()) >= done:
            for path in running:
                if any(entry["step"] >= step for entry in directory.log_entries(path)):
                    return path
        time.sleep(0.02)
    raise AssertionError(f"the sweep did not get that far: {process.poll()}")


def workers_of(pid: int) -> list[int]:
    """The worker processes of a command."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a command and its workers, so that none of them can react to the end of another."""
    workers = workers_of(process.pid)
    os.kill(process.pid, signal.SIGSTOP)
    for pid in (*workers, process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()


def finished_at(folder: Path) -> dict[Path, int]:
    """The finished runs and when their records were written."""
    records = list(folder.glob(f"*/{directory.RECORD}"))
    return {p.parent: p.stat().st_mtime_ns for p in records if RunRecord.load(p.parent).status == "finished"}


def assert_trained_once(run: Path, beginnings: list[str]) -> None:
    """Every step is in the log once, and the trial was begun this way."""
    assert RunRecord.load(run).status == "finished"
    steps = [entry["step"] for entry in directory.log_entries(run) if entry["event"] == "steps"]
    assert steps == list(range(1, len(steps) + 1)), run.name
    text = (run.parent / "logs" / f"{run.name}.log").read_text()
    assert text.count("epoch 25: mAP") == 1, run.name
    assert [line.split()[0] for line in text.splitlines() if " by pid " in line] == beginnings


@linux
@pytest.mark.usefixtures("in_process")
def test_a_killed_sweep_and_an_interrupted_one_are_resumed_by_the_same_command(data: Path, tmp_path: Path) -> None:
    folder, arguments = tmp_path / "s", command(data, tmp_path)
    with start(arguments) as first:
        broken = until(folder, first, done=1, step=20)
        kill_all(first)
    assert RunRecord.load(broken).status == "running"
    before = finished_at(folder)

    with start(arguments) as second:
        under_way = until(folder, second, done=1, step=1, old=broken)
        os.killpg(second.pid, signal.SIGINT)
        stdout, stderr = second.communicate(timeout=240)
    assert second.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    resume = stderr.splitlines()[-1].removeprefix("stopped; resume with the same command: ")
    assert shlex.split(resume) == ["mlrec", *arguments[3:]]
    assert RunRecord.load(under_way).status == "interrupted"

    flags = {**FAST, "data": str(data), "epochs": 25, "lam": "0:0.2:0.1"}
    states = last_states(plan_sweep({**flags, "device": "auto", "threads": 1}, out=tmp_path, name="s"))
    assert [(state.status, state.failures) for state in states] == [(FINISHED, 0)] * 3
    after = finished_at(folder)
    assert {path: after[path] for path in before} == before, "finished runs are not touched"
    for path in after:
        assert_trained_once(path, ["started"] if path in before else ["started", "resumed"])


@linux
@pytest.mark.long
@pytest.mark.parametrize("kind", ["sqlite", "journal"])
def test_after_a_kill_two_concurrent_commands_train_every_setting_once(data: Path, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "s"
    storage = f"sqlite:///{tmp_path}/study.db" if kind == "sqlite" else str(tmp_path / "journal")
    arguments = [*command(data, tmp_path, lam="0:0.4:0.1"), "--storage", storage]
    with start(arguments) as first:
        broken = until(folder, first, done=1, step=20)
        kill_all(first)
    before = finished_at(folder)
    with ExitStack() as stack:
        both = [stack.enter_context(start(arguments)) for _ in range(2)]
        output = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    after = finished_at(folder)
    assert len(after) == 5
    results = TrialQueue(storage, folder)._study.get_trials(states=(OptunaState.COMPLETE,))
    assert {entry.user_attrs[RUN]: entry.value for entry in results} == {
        path.name: Metrics.load(path / directory.METRICS).mAP for path in after
    }
    assert {path: after[path] for path in before} == before
    for path in after:
        assert_trained_once(path, ["started", "resumed"] if path == broken else ["started"])


@linux
@pytest.mark.long
def test_a_worker_that_dies_is_replaced_and_its_run_resumed(data: Path, tmp_path: Path) -> None:
    with start([*command(data, tmp_path, lam="0,0.1"), "--labels", "red"]) as process:
        broken = until(tmp_path / "s", process, done=0, step=20)
        for pid in workers_of(process.pid):
            os.kill(pid, signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    assert_trained_once(broken, ["started", "resumed"])
    lines = [line for line in stderr.splitlines() if broken.name in line]
    assert [line.split()[0] for line in lines] in (["0/2", "1/2"], ["1/2", "2/2"], ["0/2", "2/2"]), lines
    assert lines[0].endswith("retrying")
    assert lines[1].endswith("% over all labels"), "the last table is of one"
    assert ": failed" not in stderr
    assert "written" not in stdout


@linux
@pytest.mark.long
def test_a_signal_from_a_cluster_saves_the_running_trial(data: Path, tmp_path: Path) -> None:
    with start(command(data, tmp_path, lam="0,0.1", epochs=2000)) as process:
        under_way = until(tmp_path / "s", process, done=0, step=5)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=240)
    assert process.returncode == 143, stderr
    assert "resume with the same command: mlrec sweep" in stderr.splitlines()[-1]
    assert RunRecord.load(under_way).status == "interrupted"
