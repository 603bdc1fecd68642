"""`mlrec sweep` as processes: killed, interrupted and started again, by one command and by two at once."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from mlrec.runs import directory, log
from mlrec.runs.record import RunRecord
from tests.processes import started
from tests.tiny import FAST, make_tiny

REPOSITORY = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("sweep"))


def command(data: Path, out: Path, **more: Any) -> list[str]:
    flags = {**FAST, "data": data, "epochs": 25, "lam": "0:0.4:0.1", "threads": 1, **more}
    texts = [part for key, value in flags.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "mlrec", "sweep", *texts, "--out", str(out), "--name", "s"]


def start(arguments: list[str]) -> AbstractContextManager[subprocess.Popen[str]]:
    return started(
        arguments, text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    )  # fmt: skip


def until(folder: Path, process: subprocess.Popen[str], *, done: int, step: int) -> Path:
    """Wait until so many runs are finished and another is at a step; return that one's folder."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        records = {path.parent: RunRecord.load(path.parent) for path in folder.glob(f"*/{directory.RECORD}")}
        running = [path for path, record in records.items() if record.status == "running"]
        if sum(record.status == "finished" for record in records.values()) >= done:
            for path in running:
                if any(entry["step"] >= step for entry in log.entries(path)):
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
    records = [path for path in folder.glob(f"*/{directory.RECORD}")]
    return {p.parent: p.stat().st_mtime_ns for p in records if RunRecord.load(p.parent).status == "finished"}


def assert_trained_once(run: Path, beginnings: list[str]) -> None:
    """Every step is in the log once, and the trial was begun this way."""
    assert RunRecord.load(run).status == "finished"
    steps = [entry["step"] for entry in log.entries(run) if entry["event"] == "steps"]
    assert steps == list(range(1, len(steps) + 1)), run.name
    text = (run.parent / "logs" / f"{run.name}.log").read_text()
    assert text.count("epoch 25: mAP") == 1, run.name
    assert [line.split()[0] for line in text.splitlines() if " by pid " in line] == beginnings


def test_a_killed_sweep_is_resumed_by_the_same_command_and_an_interrupted_one_prints_it(
    data: Path, tmp_path: Path
) -> None:
    folder, arguments = tmp_path / "s", command(data, tmp_path)
    with start(arguments) as first:
        broken = until(folder, first, done=1, step=20)
        kill_all(first)
    assert RunRecord.load(broken).status == "running"
    before = finished_at(folder)

    with start(arguments) as second:
        under_way = until(folder, second, done=len(before) + 1, step=1)
        os.killpg(second.pid, signal.SIGINT)
        stdout, stderr = second.communicate(timeout=240)
    assert second.returncode == 130, stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    resume = stderr.splitlines()[-1].removeprefix("stopped; resume with the same command: ")
    assert shlex.split(resume) == ["mlrec", *arguments[3:]]
    assert RunRecord.load(under_way).status == "interrupted"

    after = finished_at(folder)
    assert {path: after[path] for path in before} == before, "finished runs are not touched"
    assert_trained_once(broken, ["started", "resumed"])
    for path in before:
        assert_trained_once(path, ["started"])


@pytest.mark.long
@pytest.mark.parametrize("storage", ["sqlite", "journal"])
def test_after_a_kill_two_commands_at_once_train_every_setting_exactly_once(
    data: Path, tmp_path: Path, storage: str
) -> None:
    folder, arguments = tmp_path / "s", command(data, tmp_path)
    if storage == "journal":
        arguments += ["--storage", str(tmp_path / "journal")]
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
    assert {path: after[path] for path in before} == before
    for path in after:
        assert_trained_once(path, ["started", "resumed"] if path == broken else ["started"])


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
    assert lines[0].endswith("it is tried again")
    assert lines[1].endswith("% over all labels"), "the last table is of one"
    assert ": failed" not in stderr
    assert "written" not in stdout


@pytest.mark.long
def test_a_signal_from_a_cluster_saves_the_run_under_way(data: Path, tmp_path: Path) -> None:
    with start(command(data, tmp_path, lam="0,0.1", epochs=2000)) as process:
        under_way = until(tmp_path / "s", process, done=0, step=5)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=240)
    assert process.returncode == 143, stderr
    assert "resume with the same command: mlrec sweep" in stderr.splitlines()[-1]
    assert RunRecord.load(under_way).status == "interrupted"
