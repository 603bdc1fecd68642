"""Workers share cores and GPUs; those that die are reported."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlrec.sweeps import executor, worker
from mlrec.sweeps.executor import DATABASE, WorkerPool
from mlrec.sweeps.plan import SweepPlan, plan_sweep
from mlrec.sweeps.worker import Worker, WorkerTask
from mlrec.utils import processes
from mlrec.utils.errors import RunError
from tests.tiny import FAST, make_tiny

HEAD_ONLY = {**FAST, "freeze_backbone": True, "threads": 1, "epochs": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("sweep"))


def task_for(plan: SweepPlan, *, jobs: int = 1, gpus: int = 0) -> WorkerTask:
    trials = {trial.name: trial for trial in plan.trials({})}
    return WorkerTask(plan, trials, f"sqlite:///{plan.folder}/{DATABASE}", jobs, gpus, ())


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
        assert one._core_flags(plan.trials({})[0]) == expected


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
    with pytest.raises(RunError, match=r"before it started a run \(the worker exited with code 1\)"):
        pool.reap(queue)  # type: ignore[arg-type]
