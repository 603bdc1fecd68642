"""`mlrec sweep`: plans, failures, restarts, and what a table says of it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlrec.datasets.folder import Dataset
from mlrec.errors import ConfigError, RunError, UsageError
from mlrec.runs import directory, log
from mlrec.runs.record import RunRecord
from mlrec.sweeps.grid import Point
from mlrec.sweeps.queue import Queue
from mlrec.sweeps.states import Folder, State, state_of
from mlrec.workflows import sweep_worker
from mlrec.workflows.interrupt import Stop
from mlrec.workflows.report import runs_at
from mlrec.workflows.sweep import run_sweep
from mlrec.workflows.sweep_crew import _as_told, _Crew, _over, watch
from mlrec.workflows.sweep_plan import SweepPlan, plan_sweep
from mlrec.workflows.sweep_progress import dry_run, failures
from mlrec.workflows.sweep_report import study_report
from mlrec.workflows.sweep_worker import Work
from tests.processes import started
from tests.tiny import FAST, make_tiny

REPOSITORY = Path(__file__).parents[2]
HEAD_ONLY = {**FAST, "freeze_backbone": True, "threads": 1, "epochs": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("sweep"))


def finished(plan: SweepPlan, **options: Any) -> tuple[State, ...]:
    return list(run_sweep(plan, **options))[-1]


def test_a_grid_is_every_combination_with_every_seed(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data), "lam": "0:0.2:0.1", "heads": "1,2"}
    plan = plan_sweep(flags, seeds=[0, 1], out=tmp_path)
    points = plan.final({})
    assert len(points) == len({point.name for point in points}) == 12
    assert points[0].settings == {"lam": 0.0, "heads": 1, "seed": 0}
    assert points[0].flags["lr"] == FAST["lr"]
    assert plan.folder.path == tmp_path / "sweep-lam-heads"
    again = plan_sweep(flags, seeds=[0, 1], out=tmp_path).final({})
    assert [point.name for point in again] == [point.name for point in points]
    other = plan_sweep({**flags, "epochs": 3}, seeds=[0, 1], out=tmp_path).final({})
    assert not {point.name for point in other} & {point.name for point in points}
    assert not list(tmp_path.iterdir())


def test_what_makes_no_sense_is_refused_before_anything_is_done(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data)}
    with pytest.raises(UsageError, match="nothing to sweep over"):
        plan_sweep(flags, out=tmp_path)
    with pytest.raises(ConfigError, match="lam"):
        plan_sweep({**flags, "lam": "0,-1"}, out=tmp_path)
    with pytest.raises(UsageError, match="did you mean 'table7'"):
        plan_sweep(flags, study="table77", out=tmp_path)
    with pytest.raises(UsageError, match="--trials N searches"):
        plan_sweep({**flags, "lr": "0.1,0.2"}, trials=3, seeds=[0, 1], out=tmp_path)
    with pytest.raises(UsageError, match="--tune goes with --seeds"):
        plan_sweep(flags, tune={"lr": "0.1,0.2"}, folds=2, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_study_is_crossed_with_seeds_and_flags_win_over_its_defaults(data: Path, tmp_path: Path) -> None:
    flags = {**FAST, "data": str(data), "lam": "0.2"}
    points = plan_sweep(flags, study="table6", out=tmp_path).final({})
    assert [(p.label, p.flags["lam"], p.flags["seed"]) for p in points[::3]] == [
        ("average only", 0.0, 0), ("spatial only", 0.2, 0), ("average + spatial", 0.2, 0),
    ]  # fmt: skip
    assert [point.flags["seed"] for point in points[:3]] == [0, 1, 2]


def test_folds_and_tuning_end_in_one_table(tmp_path: Path) -> None:
    data = make_tiny(tmp_path)
    flags = {**HEAD_ONLY, "data": str(data), "lam": "0,0.5"}
    folds = plan_sweep(flags, folds=2, out=tmp_path / "runs", name="folds")
    assert {"cv2-fold0-train", "cv2-fold1-val"} <= set(Dataset.load(data).info.splits)
    tuned = plan_sweep(flags, tune={"lr": "0.02,0.2"}, seeds=[3], out=tmp_path / "runs", name="tuned")
    assert [point.flags["split"] for point in tuned.tuning] == ["tune-val"] * 4
    assert "then come 2 runs with the values chosen" in dry_run(tuned).footnotes[-2]

    states = finished(folds)
    assert [(s.status, s.point.settings["fold"]) for s in states] == [("finished", 0), ("finished", 1)] * 2
    table = study_report(folds.folder.path)
    assert [row.cells[:2] for row in table.rows] == [(0.0, table.rows[0].cells[1]), (0.5, table.rows[1].cells[1])]
    assert table.columns[3].key == "seeds"
    assert [row.cells[3] for row in table.rows] == [2, 2]

    states = finished(tuned)
    assert [s.status for s in states] == ["finished"] * 2
    for k, state in enumerate(states):
        held = [state_of(point, tuned.folder).mAP or 0.0 for point in tuned.tuning[2 * k : 2 * k + 2]]
        best = [0.02, 0.2][held.index(max(held))]
        assert RunRecord.load(tuned.folder.run(state.point.name)).config["lr"] == best == state.point.settings["lr"]
        assert RunRecord.load(tuned.folder.run(state.point.name)).config["split"] == "val"
    assert {run.path.name for run in runs_at([tuned.folder.path])} == {state.point.name for state in states}
    one = tuned.folder.run(tuned.tuning[0].name)
    assert [run.path for run in runs_at([one])] == [one], "it is shown when it is named"
    assert "lr: chosen for each row on data held out" in "\n".join(study_report(tuned.folder.path).footnotes)


def test_a_point_that_has_failed_since_it_was_offered_is_not_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was taken and over between the look at its files and the offer."""
    tried = []

    def fails(_task: Work, folder: Folder, point: Point, _shared: object) -> None:
        tried.append(point.name)
        folder.note_failure(point.name, "no loss")

    monkeypatch.setattr(sweep_worker, "_result", fails)
    journal = str(tmp_path / "journal")
    task = Work({name: Point(name, "", {}, {}) for name in "ab"}, tmp_path, journal, "s", None, None, None, ())
    queue = Queue(journal, "s")
    Folder(tmp_path).note_failure("a", "no loss")
    for failures_told in ({}, {"a": 1}):
        queue.offer({"a": {}, "b": {}}, failures_told)
        with pytest.raises(SystemExit):
            sweep_worker.work(task)
    assert tried == ["b", "a"]
    assert not queue.waiting()


def test_a_failure_stops_nothing_else_and_is_given_up_the_second_time(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {**HEAD_ONLY, "data": str(data), "lr": "0.02,1e30,0.05"}
    plan = plan_sweep(flags, out=tmp_path)
    states = finished(plan)
    assert [state.status for state in states] == ["finished", "failed", "finished"]
    assert [state.failure.times for state in states if state.failure] == [1]
    (line,) = failures(states)
    assert line.startswith("lr 1e+30: loss is")
    assert "Traceback" not in plan.folder.log(states[1].point.name).read_text()
    assert "error: loss is" in plan.folder.log(states[1].point.name).read_text()
    written = {p: p.stat().st_mtime_ns for p in tmp_path.glob(f"*/*/{directory.RECORD}")}

    states = finished(plan_sweep(flags, out=tmp_path))
    assert [state.status for state in states] == ["finished", "failed", "finished"]
    assert states[1].failure is not None
    assert states[1].failure.times == 2
    changed = [p.parent.name for p, before in written.items() if p.stat().st_mtime_ns != before]
    assert changed == [states[1].point.name]

    monkeypatch.setattr(_Crew, "hire", lambda _, waiting: waiting == 0 or pytest.fail("failed twice, and tried again"))
    assert [s.status for s in finished(plan_sweep(flags, out=tmp_path))] == ["finished", "failed", "finished"]
    report = study_report(plan.folder.path)
    assert len(report.rows) == 2
    assert "not finished: 1 run" in report.footnotes[-1]


def test_a_search_makes_so_many_runs_and_goes_on_from_the_folders(data: Path, tmp_path: Path) -> None:
    flags = {**HEAD_ONLY, "data": str(data), "lr": "0.001,1", "head": "csra,average"}
    states = finished(plan_sweep(flags, trials=2, out=tmp_path))
    assert [state.status for state in states] == ["finished"] * 2
    assert all(0.001 <= state.point.settings["lr"] <= 1 for state in states)
    more = finished(plan_sweep(flags, trials=3, out=tmp_path))
    assert [state.point.name for state in more][:2] == [state.point.name for state in states]
    assert len({state.point.name for state in more}) == 3
    assert len(study_report(tmp_path / "sweep-lr-head").rows) == 3


def test_what_fails_in_a_search_is_not_tried_again_by_the_same_command(data: Path, tmp_path: Path) -> None:
    flags = {**HEAD_ONLY, "data": str(data), "lr": "1e30,1e31"}
    for times in (1, 2):
        states = finished(plan_sweep(flags, trials=2, out=tmp_path))
        assert [state.failure.times for state in states if state.failure] == [times, times]


def command(data: Path, out: Path, **more: Any) -> list[str]:
    flags = {**FAST, "data": data, "epochs": 60, "lam": "0:0.4:0.1", "threads": 1, **more}
    texts = [part for key, value in flags.items() for part in ("--set", f"{key}={value}")]
    return [sys.executable, "-m", "mlrec", "sweep", *texts, "--out", str(out), "--name", "s"]


def start(arguments: list[str]) -> AbstractContextManager[subprocess.Popen[str]]:
    return started(
        arguments, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip


def until(folder: Path, process: subprocess.Popen[str], *, done: int, step: int) -> Path:
    """Wait until so many runs are finished and another is at a step; that one's folder."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and process.poll() is None:
        records = {path.parent: RunRecord.load(path.parent) for path in folder.glob(f"*/{directory.RECORD}")}
        others = [path for path, record in records.items() if record.status == "running"]
        if len(records) - len(others) >= done:
            for path in others:
                if any(entry["step"] >= step for entry in log.entries(path)):
                    return path
        time.sleep(0.05)
    raise AssertionError(f"it did not come so far: {process.poll()}")


def children(pid: int) -> list[int]:
    """Processes whose parent is `pid` and who train."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in text if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")
def test_killed_in_mid_run_and_restarted_by_two_workers_every_point_is_done_exactly_once(
    data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "s"
    with start(command(data, tmp_path)) as first:
        broken = until(folder, first, done=1, step=20)
        whole = {p.parent for p in folder.glob(f"*/{directory.METRICS}")}
        workers = children(first.pid)
        os.kill(first.pid, signal.SIGSTOP)  # the parent shall not replace what is killed
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
    assert RunRecord.load(broken).status == "running"
    untouched = {path: (path / directory.RECORD).stat().st_mtime_ns for path in whole}

    with ExitStack() as stack:
        both = [stack.enter_context(start(command(data, tmp_path))) for _ in range(2)]
        told = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], told

    runs = [path.parent for path in folder.glob(f"*/{directory.RECORD}")]
    assert len(runs) == 5
    assert {path: (path / directory.RECORD).stat().st_mtime_ns for path in whole} == untouched
    workers_of = {}
    for path in runs:
        assert RunRecord.load(path).status == "finished"
        steps = [entry["step"] for entry in log.entries(path) if entry["event"] == "steps"]
        assert steps == list(range(1, len(steps) + 1)), path.name
        text = (folder / "logs" / f"{path.name}.log").read_text()
        assert text.count("epoch 60: mAP") == 1, path.name
        begun = [line for line in text.splitlines() if line.startswith(("started by pid", "resumed by pid"))]
        assert [line.split()[0] for line in begun] == ["started", "resumed"] if path == broken else ["started"]
        workers_of[path] = begun[-1].split()[3]
    assert len({pid for path, pid in workers_of.items() if path not in whole}) == 2, workers_of


@pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")
def test_a_worker_that_dies_is_replaced_and_its_run_resumed(data: Path, tmp_path: Path) -> None:
    with start([*command(data, tmp_path, lam="0,0.1"), "--labels", "red"]) as process:
        broken = until(tmp_path / "s", process, done=0, step=20)
        for pid in children(process.pid):
            os.kill(pid, signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    text = (tmp_path / "s" / "logs" / f"{broken.name}.log").read_text()
    assert "resumed by pid" in text
    lines = [line for line in stderr.splitlines() if broken.name in line]
    assert [line.split()[0] for line in lines] in (["0/2", "1/2"], ["1/2", "2/2"], ["0/2", "2/2"]), lines
    assert lines[0].endswith("it is tried again")
    assert lines[1].endswith("% over all labels"), "the last table is of one"
    assert ": failed" not in stderr
    assert "written" not in stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_run_under_way(data: Path, tmp_path: Path, number: int, code: int) -> None:
    with start(command(data, tmp_path, lam="0,0.1", epochs=2000)) as process:
        under_way = until(tmp_path / "s", process, done=0, step=5)
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    assert "the same command goes on" in stderr.splitlines()[-1]
    assert RunRecord.load(under_way).status == "interrupted"


def test_a_worker_that_died_counts_when_its_point_is_offered_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point, folder, offers = Point("run", "", {}, {}), Folder(tmp_path), []

    def bury(_crew: _Crew, _folder: Folder, _states: object) -> bool:
        folder.note_failure("run", "killed", crash=True)
        return True

    monkeypatch.setattr(_Crew, "bury", bury)
    monkeypatch.setattr(_Crew, "hire", lambda _crew, _waiting: None)
    monkeypatch.setattr(Queue, "offer", lambda _, points, failures: offers.append((set(points), dict(failures))))
    looks = watch(Work({}, tmp_path, str(tmp_path / "j"), "s", None, None, None, ()), [point], 1, Stop(), {})
    assert [state.status for state in next(looks)] == ["waiting"]
    assert offers == [({"run"}, {"run": 1})]


def test_a_killed_worker_leaves_a_hint_and_its_point_is_given_up_the_second_time(tmp_path: Path) -> None:
    point = Point("run", "", {}, {})
    folder, claim = Folder(tmp_path), Folder(tmp_path).claim("run") / directory.LOCK
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    claim.parent.mkdir(parents=True)
    claim.write_text(f"pid {gone.pid} on {socket.gethostname()} since 2026-01-01 00:00:00")
    crew = _Crew(Work({}, tmp_path, "", "", None, None, None, ()), 1)
    for times, over in ((1, False), (2, True)):
        crew._processes = [SimpleNamespace(pid=gone.pid, exitcode=-9)]  # type: ignore[list-item]
        crew.bury(folder, [state_of(point, folder)])
        state = state_of(point, folder)
        assert state.failure is not None
        assert (state.status, state.failure.times, state.failure.crash) == ("failed", times, True)
        assert "memory" in state.failure.error
        assert "--batch-size" in state.failure.error
        assert _over(state, {}) is over
        assert _as_told(state, {}).status == ("failed" if over else "waiting")
    crew._processes = [SimpleNamespace(pid=1, exitcode=1)]  # type: ignore[list-item]
    folder.forget_failure("run")
    with pytest.raises(RunError, match="before it trained anything"):
        crew.bury(folder, [state_of(point, folder)])
