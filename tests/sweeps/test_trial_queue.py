"""The queue: each trial is handed out once, a dead worker's trial once more, and no two processes hold one claim."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlrec.sweeps import trial_queue
from mlrec.sweeps.grid import Trial
from mlrec.sweeps.trial_queue import GRACE, Attempts, TrialFailed, TrialQueue, claimed, is_claimed
from mlrec.utils.errors import RunError
from tests.processes import started

TRIALS = [Trial(f"run{k}", "", {"lam": k / 10, "temperatures": [1.0, 2.0]}, {}) for k in range(12)]
NAMES = {trial.name for trial in TRIALS}
HOLD = "import sys, time; from pathlib import Path; from mlrec.sweeps.trial_queue import claimed\n"
HOLD += "with claimed(Path(sys.argv[1]), 'a') as free: print(free, flush=True); time.sleep(600)"
TAKE = "import os, sys; from pathlib import Path; from mlrec.sweeps.trial_queue import TrialQueue\n"
TAKE += "TrialQueue(sys.argv[1], Path(sys.argv[2])).train_next(lambda name: os._exit(9))"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="file locks of POSIX")


@pytest.fixture(params=["journal", "sqlite"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "journal") if request.param == "journal" else f"sqlite:///{tmp_path}/study.db"


def always(_trial: Trial, _attempts: Attempts) -> bool:
    return True


def test_concurrent_commands_queue_each_trial_once_and_workers_train_it_once(storage: str, tmp_path: Path) -> None:
    def worker(_: int) -> list[str]:
        queue, names = TrialQueue(storage, tmp_path), list[str]()
        while queue.train_next(lambda name: names.append(name) or 0.5):  # type: ignore[func-returns-value]
            pass
        return names

    first = TrialQueue(storage, tmp_path)
    first.enqueue(TRIALS[:4], always)
    with ThreadPoolExecutor(4) as pool:
        known = list(pool.map(lambda _: TrialQueue(storage, tmp_path).enqueue(TRIALS, always), range(4)))
    assert all(attempts == {name: Attempts("waiting") for name in NAMES} for attempts in known)
    assert len(first._study.get_trials()) == len(TRIALS)
    with ThreadPoolExecutor(3) as pool:
        names = [name for names in pool.map(worker, range(3)) for name in names]
    assert sorted(names) == sorted(NAMES)


def test_failures_are_counted_with_their_error_and_a_skipped_trial_is_not_a_failure(
    storage: str, tmp_path: Path
) -> None:
    def fail(_name: str) -> float:
        raise TrialFailed("loss is nan")

    queue = TrialQueue(storage, tmp_path)
    for failures in (1, 2):
        queue.enqueue(TRIALS[:1], always)
        assert queue.train_next(fail)
        assert queue.attempts() == {"run0": Attempts(None, failures, "loss is nan")}
    queue.enqueue(TRIALS[:1], always)
    assert queue.train_next(lambda _: None)
    assert queue.attempts()["run0"].failures == 2
    assert not queue.train_next(lambda _: 0.5)
    assert TrialQueue(storage, tmp_path).values("run0", ["lam", "lr"]) == {"lam": 0.0}


def test_the_trial_of_a_dead_worker_is_queued_once_more(storage: str, tmp_path: Path) -> None:
    queue = TrialQueue(storage, tmp_path)
    queue.enqueue(TRIALS[:1], always)
    for status in ("waiting", None):
        worker = subprocess.Popen([sys.executable, "-c", TAKE, storage, str(tmp_path)])
        assert not queue.has_worked(worker.pid)
        assert worker.wait() == 9
        assert queue.has_worked(worker.pid)
        assert queue.attempts()["run0"].status == "running"
        queue.crashed(worker.pid, "it was killed")
        assert queue.attempts()["run0"].status == status
        assert queue.attempts()["run0"].error == "it was killed"
    assert queue.attempts()["run0"].failures == trial_queue.MAX_FAILURES


def test_running_trials_of_a_killed_command_are_released_without_a_failure(storage: str, tmp_path: Path) -> None:
    queue = TrialQueue(storage, tmp_path)
    queue.enqueue(TRIALS[:2], always)
    subprocess.run([sys.executable, "-c", TAKE, storage, str(tmp_path)], check=False)

    def look(name: str) -> float:
        assert queue.busy() >= {os.getpid()}
        queue.release()  # as another command does that starts now
        assert queue.attempts() == {"run0": Attempts(), name: Attempts("running")}
        return 0.5

    assert queue.train_next(look)


def test_a_silent_machine_loses_its_trial_and_a_living_one_does_not(
    storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = TrialQueue(storage, tmp_path)
    queue.enqueue(TRIALS[:1], always)

    def train(_name: str) -> float:
        monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
        entry = queue._running()[0]
        deadline = time.monotonic() + 60
        while not beats(entry._trial_id) and time.monotonic() < deadline:
            time.sleep(0.01)
        queue.release()
        queue.fail_silent()
        assert queue.attempts()["run0"] == Attempts("running"), "its heart beats"
        silence(entry._trial_id)
        queue.fail_silent()
        assert queue.attempts()["run0"].status == "waiting"
        assert "silent" in queue.attempts()["run0"].error
        return 0.5  # it was stopped, not dead; its worker goes on

    def beats(trial_id: int) -> bool:
        if storage.startswith("sqlite"):
            with sqlite3.connect(tmp_path / "study.db") as database:
                return bool(database.execute("SELECT * FROM trial_heartbeats").fetchall())
        return trial_queue.BEAT in queue._storage.get_trial(trial_id).system_attrs

    def silence(trial_id: int) -> None:
        if storage.startswith("sqlite"):
            with sqlite3.connect(tmp_path / "study.db") as database:
                database.execute(f"UPDATE trial_heartbeats SET heartbeat = datetime('now', '-{GRACE + 9} seconds')")
        else:
            now = time.time()
            monkeypatch.setattr(trial_queue.time, "time", lambda: now + GRACE + 9)

    assert queue.train_next(train)


def test_another_process_holds_a_claim_until_it_is_killed(tmp_path: Path) -> None:
    assert not is_claimed(tmp_path, "a")
    with started([sys.executable, "-c", HOLD, str(tmp_path)], text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert is_claimed(tmp_path, "a")
        assert not is_claimed(tmp_path, "b")
        with claimed(tmp_path, "a") as free:
            assert not free
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not is_claimed(tmp_path, "a")
        with claimed(tmp_path, "a") as free:
            assert free


def test_a_storage_that_cannot_be_opened_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"--storage nosuchdb://x.*use a journal file or a database URL"):
        TrialQueue("nosuchdb://x", tmp_path)
