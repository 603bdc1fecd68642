"""A sweep from plan to table, with its workers in this process; how workers share cores and GPUs, and how they die."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mlrec import processes
from mlrec.datasets.folder import Dataset
from mlrec.errors import RunError, UsageError
from mlrec.progress import SILENT
from mlrec.runs import directory
from mlrec.runs.record import RunRecord
from mlrec.sweeps import executor, worker
from mlrec.sweeps.executor import DATABASE, SweepExecutor, WorkerPool, current_states, run_sweep
from mlrec.sweeps.plan import SweepPlan, plan_sweep
from mlrec.sweeps.progress import TrialState, dry_run, failures, state_of
from mlrec.sweeps.studies import CSRA, STEPS
from mlrec.sweeps.study_tables import comparison_tables, study_report
from mlrec.sweeps.trial_queue import Attempts, TrialQueue
from mlrec.sweeps.worker import Worker, WorkerTask
from mlrec.workflows.interrupt import Stop
from mlrec.workflows.report import runs_at
from tests.tiny import FAST, make_tiny

HEAD_ONLY = {**FAST, "freeze_backbone": True, "threads": 1, "epochs": 1}
FINISHED, FAILED = "finished", "failed"


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
    return list(run_sweep(plan, **options))[-1]


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
    assert "then 1 runs follow with the values chosen" in dry_run(tuned, current_states(tuned)).footnotes[-2]

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
def test_a_failure_stops_nothing_else_and_is_given_up_the_second_time(data: Path, tmp_path: Path) -> None:
    flags = {**HEAD_ONLY, "data": str(data), "lr": "0.02,1e30,0.05"}
    plan = plan_sweep(flags, out=tmp_path)
    states = last_states(plan)
    assert [(state.status, state.failures) for state in states] == [(FINISHED, 0), (FAILED, 1), (FINISHED, 0)]
    (line,) = failures(states)
    assert line.startswith("lr 1e+30: loss is")
    log = states[1].log.read_text()
    assert "Traceback" not in log
    assert "error: loss is" in log
    before = written(tmp_path)

    states = last_states(plan_sweep(flags, out=tmp_path))
    assert [(state.status, state.failures) for state in states] == [(FINISHED, 0), (FAILED, 2), (FINISHED, 0)]
    after = written(tmp_path)
    assert [path.parent.name for path, time in after.items() if before[path] != time] == [states[1].trial.name]

    states = last_states(plan_sweep(flags, out=tmp_path))
    assert [(state.status, state.failures) for state in states] == [(FINISHED, 0), (FAILED, 2), (FINISHED, 0)]
    assert written(tmp_path) == after, "what failed twice is not tried again"
    report = study_report(plan.folder)
    assert len(report.rows) == 2
    assert "not finished, left out: 1 run" in report.footnotes[-1]

    assert last_states(plan_sweep(flags, out=tmp_path), retry_failed=True)[1].failures == 3


@pytest.mark.usefixtures("in_process")
def test_run_folders_are_the_truth_also_without_the_storage_and_on_another_device(data: Path, tmp_path: Path) -> None:
    flags = {**HEAD_ONLY, "data": str(data), "lam": "0,0.5"}
    plan = plan_sweep(flags, out=tmp_path)
    names = [state.trial.name for state in last_states(plan)]
    before = written(tmp_path)
    (plan.folder / DATABASE).unlink()
    again = last_states(plan_sweep({**flags, "device": "auto", "threads": 2}, out=tmp_path))
    assert [(state.status, state.trial.name) for state in again] == [(FINISHED, name) for name in names]
    assert written(tmp_path) == before
    shutil.rmtree(plan.folder / names[0])
    assert last_states(plan, storage=str(tmp_path / "journal"))[0].status == FINISHED
    assert [path for path, time in written(tmp_path).items() if before[path] != time] == [
        plan.folder / names[0] / directory.RECORD
    ]


@pytest.mark.usefixtures("in_process")
def test_an_interrupted_run_is_resumed_with_another_number_of_threads(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {**HEAD_ONLY, "data": str(data), "lam": "0,0.5", "epochs": 3, "save_every": 1}
    plan = plan_sweep(flags, out=tmp_path)
    run = plan.folder / plan.trials({})[0].name

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mlrec.workflows.running._score", killed)
        with pytest.raises(KeyboardInterrupt):
            list(run_sweep(plan))
    assert (run / directory.RESUME).is_file()
    assert last_states(plan_sweep({**flags, "threads": 2}, out=tmp_path))[0].status == FINISHED
    log = worker.log_of(plan.folder, run.name).read_text()
    assert [line.split()[0] for line in log.splitlines() if " by pid " in line] == ["started", "resumed"]
    assert "threads was 1, is 2" in log


@pytest.mark.usefixtures("in_process")
def test_a_search_makes_so_many_runs_and_continues_from_the_folders(data: Path, tmp_path: Path) -> None:
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
        states = last_states(plan_sweep(flags, trials=2, out=tmp_path))
        assert [(state.status, state.failures) for state in states] == [(FAILED, times)] * 2


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
    assert all("n = 1 and 1 runs" in "\n".join(table.footnotes) for table in tables)


def task_for(plan: SweepPlan, *, jobs: int = 1, gpus: int = 0) -> WorkerTask:
    trials = {trial.name: trial for trial in plan.trials({})}
    return WorkerTask(plan, trials, f"sqlite:///{plan.folder}/{DATABASE}", jobs, gpus, ())


def executor_for(plan: SweepPlan, jobs: int | None = None) -> SweepExecutor:
    return SweepExecutor(plan, jobs, None, False, None, (), Stop(), SILENT)


def test_a_sweep_has_one_worker_per_gpu_unless_a_device_or_a_number_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    flags = {**HEAD_ONLY, "data": str(data), "lam": "0,0.5"}
    for device, jobs, expected in (
        ("auto", None, (8, 8)), ("cuda", None, (8, 8)), ("auto", 3, (3, 8)), ("cuda:1", None, (1, 0)),
        ("cpu", None, (1, 0)), ("cpu", 4, (4, 0)),
    ):  # fmt: skip
        one = executor_for(plan_sweep({**flags, "device": device}, out=tmp_path), jobs)
        assert (one._jobs, one._gpus) == expected, device


@pytest.mark.parametrize(("visible", "names"), [(None, "01230"), ("4,6, 7,GPU-9a", ["4", "6", "7", "GPU-9a", "4"])])
def test_each_worker_sees_one_gpu(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, names: Any
) -> None:
    class Seeing:
        exit_code = 0

        def __init__(self, _task: WorkerTask) -> None:
            seen.append(os.environ["CUDA_VISIBLE_DEVICES"])

    seen: list[str] = []
    monkeypatch.setattr(worker, "Worker", Seeing)
    task = task_for(plan_sweep({**HEAD_ONLY, "data": str(data), "lam": "0,0.5"}, out=tmp_path), jobs=5, gpus=4)
    for slot in range(5):
        with monkeypatch.context() as patch:
            patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
            if visible is not None:
                patch.setenv("CUDA_VISIBLE_DEVICES", visible)
            with pytest.raises(SystemExit):
                worker.run_worker(task, slot)
            os.environ.pop("CUDA_VISIBLE_DEVICES")
    assert seen == list(names)


def test_workers_divide_the_cores(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 64)
    flags = {key: value for key, value in HEAD_ONLY.items() if key not in ("threads", "workers")}
    for more, jobs, gpus, expected in (
        ({}, 8, 8, {"threads": 8, "workers": 8}),
        ({}, 4, 0, {"threads": 16}),
        ({}, 1, 1, {}),
        ({}, 100, 0, {"threads": 1}),
        ({"threads": 3, "workers": 2}, 8, 8, {"threads": 3, "workers": 2}),
    ):
        plan = plan_sweep({**flags, **more, "data": str(data), "lam": "0,0.5"}, out=tmp_path)
        one = Worker(task_for(plan, jobs=jobs, gpus=gpus))
        assert one._machine_flags(plan.trials({})[0]) == {"device": "cpu", **expected}


def test_torchrun_is_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_sweep({**HEAD_ONLY, "data": str(data), "lam": "0,0.5"}, out=tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UsageError, match="without torchrun"):
        next(run_sweep(plan))


class FakeQueue:
    """What a pool asks of a queue, and what it tells it."""

    def __init__(self, training: set[int], worked: set[int]) -> None:
        self.training, self.worked, self.calls = training, worked, list[tuple[str, int]]()

    def busy(self) -> set[int]:
        return self.training

    def has_worked(self, pid: int) -> bool:
        return pid in self.worked

    def crashed(self, pid: int, error: str) -> None:
        assert "memory" in error
        assert "--batch-size" in error
        self.calls.append(("crashed", pid))

    def release(self, pid: int) -> None:
        self.calls.append(("released", pid))


def test_a_pool_starts_workers_for_waiting_trials_and_reports_those_that_died(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FakeProcess(SimpleNamespace):
        def start(self) -> None:
            self.pid, self.exitcode = 100 + len(begun), None
            begun.append(self)

    begun: list[FakeProcess] = []
    context = SimpleNamespace(Process=lambda target, args: FakeProcess(slot=args[1]))
    monkeypatch.setattr(executor.multiprocessing, "get_context", lambda _: context)
    plan = plan_sweep({**HEAD_ONLY, "data": str(data), "lam": "0,0.5"}, out=tmp_path)
    pool, queue = WorkerPool(task_for(plan, jobs=4)), FakeQueue(set(), {100, 101})
    for waiting, training, slots in ((2, set(), [0, 1]), (2, {100}, [0, 1, 2]), (9, {100, 101, 102}, [0, 1, 2, 3])):
        queue.training = training
        pool.start(waiting, queue)  # type: ignore[arg-type]
        assert [process.slot for process in begun] == slots
    begun[0].exitcode, begun[1].exitcode, begun[2].exitcode = -signal.SIGKILL, -signal.SIGTERM, 0
    pool.reap(queue)  # type: ignore[arg-type]
    assert queue.calls == [("crashed", 100), ("released", 101)]
    pool.start(1, queue)  # type: ignore[arg-type]
    assert [process.slot for process in begun] == [0, 1, 2, 3], "the fourth is still starting"
    begun[3].exitcode = 1
    with pytest.raises(RunError, match="before it trained anything: its worker ended with exit code 1"):
        pool.reap(queue)  # type: ignore[arg-type]
