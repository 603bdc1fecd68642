"""The workers of one `mlrec sweep`, and the loop that watches over points and workers until all is done."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing.context import SpawnProcess

from mlrec.errors import RunError
from mlrec.sweeps.claims import last_holder
from mlrec.sweeps.grid import Point
from mlrec.sweeps.queue import Queue
from mlrec.sweeps.states import TRIES, Folder, State, state_of
from mlrec.workflows.interrupt import Stop
from mlrec.workflows.sweep_worker import Work, work

POLL = 0.5  # seconds between two looks
SETTLE = 3.0  # a point that a worker has taken from the queue shows in the files after a moment
PATIENCE = 120.0  # seconds for a worker to save and leave
GRACEFUL = (0, 128 + signal.SIGTERM, -signal.SIGTERM)


def watch(
    task: Work, points: Sequence[Point], jobs: int, stop: Stop, earlier: Mapping[str, int]
) -> Iterator[tuple[State, ...]]:
    """Have all points trained, here or by others; how they stand, again and again, at last with none open.

    Points whose worker died are offered anew, the first time; so are those that failed before this command, `earlier`
    by name and so often. A worker that died is replaced.

    Raises:
        RunError: a worker cannot even start.
    """
    folder, queue = Folder(task.folder), Queue(task.storage, task.study)
    crew, open_since = _Crew(task, jobs), dict[str, float]()
    try:
        while stop.number is None:
            states = tuple(state_of(point, folder) for point in points)
            if crew.bury(folder, states):
                states = tuple(state_of(point, folder) for point in points)
            now = time.monotonic()
            due = {s.point.name: s for s in states if s.status != "running" and not _over(s, earlier)}
            open_since = {name: open_since.get(name, now - SETTLE if not open_since else now) for name in due}
            queue.offer(
                {name: state.point.settings for name, state in due.items() if now - open_since[name] >= SETTLE},
                {name: state.failure.times for name, state in due.items() if state.failure},
            )
            crew.hire(len(queue.waiting()))
            yield tuple(_as_told(state, earlier) for state in states)
            if all(_over(state, earlier) for state in states):
                return
            time.sleep(POLL)
    finally:
        crew.dismiss()


def _over(state: State, earlier: Mapping[str, int]) -> bool:
    """Whether nothing more is to be done for a point: finished, or failed and not to be tried again."""
    if state.failure is None:
        return state.status == "finished"
    again = state.failure.crash or state.failure.times <= earlier.get(state.point.name, 0)
    return state.status == "failed" and not (again and state.failure.times < TRIES)


def _as_told(state: State, earlier: Mapping[str, int]) -> State:
    """The state as it is shown: what failed but is tried again has not failed, it waits."""
    again = state.status == "failed" and not _over(state, earlier)
    return replace(state, status="waiting") if again else state


class _Crew:
    """Processes of this machine that work for one sweep."""

    def __init__(self, task: Work, jobs: int) -> None:
        self._task, self._jobs = task, jobs
        self._processes: list[SpawnProcess] = []

    def hire(self, waiting: int) -> None:
        """Start workers for points that wait, as many as there may be."""
        for _ in range(min(waiting, self._jobs - len(self._processes))):
            process = multiprocessing.get_context("spawn").Process(target=work, args=(self._task,))
            before = signal.getsignal(signal.SIGINT)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # workers inherit it: Ctrl-C reaches all, this process acts
            try:
                process.start()
            finally:
                signal.signal(signal.SIGINT, before)
            self._processes.append(process)

    def bury(self, folder: Folder, states: Sequence[State]) -> bool:
        """Note what workers that died were at; whether any did.

        Raises:
            RunError: one died before it was at anything.
        """
        dead = [process for process in self._processes if process.exitcode is not None]
        for process in dead:
            self._processes.remove(process)
            code = process.exitcode or 0
            lost = [s.point.name for s in states if _holds(process, folder, s.point.name)]
            for name in lost:
                if code not in GRACEFUL:
                    folder.note_failure(name, _cause(code), crash=True)
            if not lost and code not in GRACEFUL and not any(s.failure for s in states):
                raise RunError(f"a worker ended before it trained anything: {_cause(code)}; what it said stands above")
        return bool(dead)

    def dismiss(self) -> None:
        """Have every worker save what it is at, and leave."""
        for process in self._processes:
            process.terminate()
        deadline = time.monotonic() + PATIENCE
        for process in self._processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                process.kill()
        self._processes = []


def _holds(process: SpawnProcess, folder: Folder, name: str) -> bool:
    found = last_holder(folder.claim(name))
    return found is not None and found.here and found.pid == process.pid


def _cause(code: int) -> str:
    if code == -signal.SIGKILL:
        return (
            "its worker was killed (SIGKILL), as the kernel does when memory runs out; "
            "try a smaller --batch-size or --img-size, or fewer --jobs"
        )
    if code < 0:
        return f"its worker was ended by {signal.Signals(-code).name}"
    return f"its worker ended with exit code {code}"
