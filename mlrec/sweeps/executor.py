"""Running of the trials of a sweep in worker processes, by default one process per GPU."""

from __future__ import annotations

import math
import multiprocessing
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from typing import Any
from urllib.parse import quote

from mlrec.reports.results import result_of
from mlrec.run_folders.record import Run
from mlrec.run_folders.sweep_file import FILE, Entry, SweepFile
from mlrec.sweeps.grid import Trial, combinations
from mlrec.sweeps.plan import SweepPlan
from mlrec.sweeps.progress import TrialState, state_of
from mlrec.sweeps.search import proposals
from mlrec.sweeps.trial_queue import MAX_FAILURES, Attempts, TrialQueue, is_claimed
from mlrec.sweeps.worker import WorkerTask, record_of, run_worker
from mlrec.utils import processes
from mlrec.utils.errors import RunError, UsageError
from mlrec.utils.signals import Interrupted, deferred_signals

DATABASE = "optuna.db"
POLL = 0.5  # seconds between two looks at the trials
PATIENCE = 120.0  # seconds that a worker gets to save its run and end
LINGER = 10.0  # seconds that a worker gets to end after the last trial
STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)  # exit codes of workers that were asked to end
OVER = ("finished", "failed")

States = tuple[TrialState, ...]


@dataclass
class SweepExecutor:
    """Executor that runs all trials of a sweep in worker processes and monitors them.

    Attributes:
        plan: Plan of the sweep.
        jobs: Number of worker processes on this machine. By default, one per GPU, or one if there is no GPU or the
            sweep sets another device or a specific GPU. To add workers, run the same command again in another process
            or on another machine.
        storage: Optuna storage shared by all workers: URL of a database, or path of a journal file. The default is an
            SQLite file in the sweep folder.
        retry_failed: Whether to restart trials that have reached the maximum number of failures.
        labels: Labels whose mAP is used to choose tuned or searched values; by default, all labels.
        command: Command line, stored in the run records and shown as the command to resume the sweep. The default is
            the command line of this process.
    """

    plan: SweepPlan
    jobs: int | None = None
    storage: str | None = None
    retry_failed: bool = False
    labels: Sequence[str] | None = None
    command: Sequence[str] = field(default_factory=lambda: tuple(sys.argv))

    def run(self) -> Iterator[States]:
        """Train the unfinished trials, and yield the states of all trials in the stage about twice per second.

        Tuning trials are a separate stage, which is run first.

        Raises:
            UsageError: The number of jobs is invalid, or the command was started by torchrun.
            RunError: The storage cannot be opened, a worker exited before it took a trial, or all tuning trials of a
                setting failed.
            Interrupted: SIGINT or SIGTERM was received; running trials are saved, and the same command resumes them.
        """
        self._prepare()
        with deferred_signals() as self._stop:
            if self.plan.max_trials is not None:
                yield from self._train(_searched(self.plan))
                return
            choices: Mapping[str, Mapping[str, Any]] = {}
            if self.plan.tuning:
                yield from self._train(self.plan.tuning)
                choices = self._choices()
            yield from self._train(self.plan.trials(choices), before=self.plan.tuning)

    def current_states(self) -> list[TrialState]:
        """Return the states of the trials that are known before the sweep starts.

        If the sweep tunes values, the states of the tuning trials are returned. For a search, the states of the
        existing trials are returned. The default storage is not created if it does not exist.
        """
        plan = self.plan
        trials: Sequence[Trial]
        if plan.max_trials is not None:
            trials = _searched(plan)
        else:
            trials = plan.tuning or plan.trials({})
        attempts: dict[str, Attempts] = {}
        if self.storage is not None or (plan.folder / DATABASE).is_file():
            attempts = TrialQueue(self._storage(), plan.folder).attempts()
        return [state_of(trial, plan.folder, attempts.get(trial.name, Attempts())) for trial in trials]

    def _prepare(self) -> None:
        """Open the queue, read the failures of earlier commands, and set the number of workers."""
        if self.jobs is not None and self.jobs < 1:
            raise UsageError(f"--jobs must be at least 1, got {self.jobs}")
        if processes.world_size() > 1:
            raise UsageError("a sweep starts its own worker processes; run mlrec sweep without torchrun")
        self._queue = TrialQueue(self._storage(), self.plan.folder)
        self._queue.release()  # what a command that was killed here left running
        self._earlier = {name: attempts.failures for name, attempts in self._queue.attempts().items()}
        self._gpus = _count_gpus(self.plan)
        self._workers = self.jobs or max(1, self._gpus)

    def _storage(self) -> str:
        path = self.plan.folder.absolute() / DATABASE
        return self.storage or f"sqlite:///{quote(str(path))}"

    def _train(self, trials: Sequence[Trial], before: Sequence[Trial] = ()) -> Iterator[States]:
        """Run the trials of a stage until all are finished; a search adds trials while it runs.

        Args:
            trials: Trials in this stage.
            before: Trials of an earlier stage, which are also listed in `sweep.json`.
        """
        trials = list(trials)
        self._save([*before, *trials])
        pool = WorkerPool(self._task(trials))
        try:
            while True:
                if self._stop.number is not None:
                    hint = shlex.join(["mlrec", *self.command[1:]])
                    raise Interrupted(f"stopped; resume with the same command: {hint}", self._stop.number)
                states = self._step(pool, trials)
                fresh = self._proposed(states)
                if fresh:
                    trials += fresh
                    self._save(trials)
                    continue
                yield states
                if all(state.status in OVER for state in states):
                    pool.join()
                    return
                time.sleep(POLL)
        finally:
            pool.stop(self._queue)

    def _choices(self) -> dict[str, Mapping[str, Any]]:
        """Return, for each setting, the tuned values with the highest mAP on held-out data.

        Raises:
            RunError: All tuning trials of a setting failed.
        """
        plan, values = self.plan, combinations(self.plan.tune)
        best: dict[str, Mapping[str, Any]] = {}
        for number, setting in enumerate(plan.settings):
            own = plan.tuning[number * len(values) : (number + 1) * len(values)]
            scores = [self._score(trial) for trial in own]
            if max(scores) < 0:
                raise RunError(
                    f"{setting.words}: no tuning run finished, so {', '.join(plan.tune)} cannot be chosen; check "
                    f"the logs in {plan.folder}/logs"
                )
            best[setting.words] = values[scores.index(max(scores))]
        return best

    def _task(self, trials: Sequence[Trial]) -> WorkerTask:
        by_name = {trial.name: trial for trial in trials}
        return WorkerTask(self.plan, by_name, self._storage(), self._workers, self._gpus, tuple(self.command))

    def _save(self, trials: Sequence[Trial]) -> None:
        """Write the list of trials to `sweep.json` in the sweep folder."""
        plan = self.plan
        entries = [Entry(trial.name, trial.label, _as_json(trial.values), trial.stage) for trial in trials]
        SweepFile(plan.title, entries, list(plan.notes), list(plan.tune)).save(plan.folder)

    def _step(self, pool: WorkerPool, trials: Sequence[Trial]) -> States:
        """Check the workers, queue the trials that are due, start workers for them, and return all states."""
        pool.reap(self._queue)
        self._queue.fail_silent()
        attempts = self._queue.enqueue(trials, self._is_due)
        known = {trial.name: attempts.get(trial.name, Attempts()) for trial in trials}
        pool.start(sum(known[trial.name].status == "waiting" for trial in trials), self._queue)
        return tuple(state_of(trial, self.plan.folder, known[trial.name]) for trial in trials)

    def _is_due(self, trial: Trial, attempts: Attempts) -> bool:
        """Return whether to queue a trial that is neither waiting nor running.

        A trial that failed before this command was started is retried once. A trial that fails during this command is
        not queued here. If the worker of a trial was killed, `TrialQueue` queues the trial again.
        """
        earlier = self._earlier.get(trial.name, 0)
        if attempts.failures != earlier or (earlier >= MAX_FAILURES and not self.retry_failed):
            return False
        record = record_of(self.plan.folder / trial.name)
        finished = record is not None and record.status == "finished"
        return not finished and not is_claimed(self.plan.folder, trial.name)

    def _proposed(self, states: States) -> list[Trial]:
        """Return the new search trials that are needed so that no worker is idle."""
        plan = self.plan
        if plan.max_trials is None:
            return []
        running = [state.trial.values for state in states if state.status not in OVER]
        count = min(self._workers - len(running), plan.max_trials - len(states))
        if count <= 0:
            return []
        over = [state.trial for state in states if state.status in OVER]
        results = [(trial.values, max(0.0, self._score(trial))) for trial in over]
        return [plan.search_trial(values) for values in proposals(plan.axes, results, count, running)]

    def _score(self, trial: Trial) -> float:
        """Return the mAP of a trial, or -1 if the trial is not finished or its mAP is undefined."""
        run = self.plan.folder / trial.name
        record = record_of(run)
        if record is None or record.status != "finished":
            return -1.0
        value = result_of(Run(run, record), labels=self.labels).values["mAP"]
        if value is None:
            return -1.0
        return value


class WorkerPool:
    """Worker processes on this machine for one stage of a sweep.

    If the workers share GPUs, the worker in slot k uses GPU k modulo the number of GPUs.
    """

    def __init__(self, task: WorkerTask) -> None:
        self._task = task
        self._workers: dict[int, SpawnProcess] = {}

    def start(self, waiting: int, queue: TrialQueue) -> None:
        """Start workers in free slots until each waiting trial has a worker or no slot is free."""
        free = [slot for slot in range(self._task.jobs) if slot not in self._workers]
        if not waiting or not free:
            return
        busy = queue.busy()
        starting = sum(process.pid not in busy for process in self._workers.values())
        for slot in free[: max(0, waiting - starting)]:
            process = multiprocessing.get_context("spawn").Process(target=run_worker, args=(self._task, slot))
            handler = signal.getsignal(signal.SIGINT)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C reaches all, and this process handles it
            try:
                process.start()
            finally:
                signal.signal(signal.SIGINT, handler)
            self._workers[slot] = process

    def reap(self, queue: TrialQueue) -> None:
        """Remove exited workers. If a worker has crashed, its trial is marked as failed in the queue.

        Raises:
            RunError: A worker died before it took a trial.
        """
        for slot, process in list(self._workers.items()):
            code, pid = process.exitcode, process.pid
            if code is None or pid is None:
                continue
            del self._workers[slot]
            if code in STOPPED:
                queue.release(pid)
            elif code != 0:
                if not queue.has_worked(pid):
                    raise RunError(
                        f"a worker exited before it started a run ({_cause(code)}); check the worker's output above"
                    )
                queue.crashed(pid, _cause(code))

    def join(self) -> None:
        """Wait briefly for workers to record the last results and exit."""
        deadline = time.monotonic() + LINGER
        for process in self._workers.values():
            process.join(max(0.0, deadline - time.monotonic()))

    def stop(self, queue: TrialQueue) -> None:
        """Stop all workers; each worker saves its current run before it exits."""
        for process in self._workers.values():
            process.terminate()
        deadline = time.monotonic() + PATIENCE
        for process in self._workers.values():
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()
            if process.pid is not None:
                queue.release(process.pid)
        self._workers = {}


def _count_gpus(plan: SweepPlan) -> int:
    """Return the number of GPUs that workers can share, or 0 if another device or a specific GPU is set."""
    if plan.base.config.device not in ("auto", "cuda") or "device" in plan.axes:
        return 0
    import torch

    return torch.cuda.device_count()


def _searched(plan: SweepPlan) -> list[Trial]:
    """Return the trials that the search has created so far."""
    if not (plan.folder / FILE).is_file():
        return []
    entries = SweepFile.load(plan.folder).runs
    return [plan.search_trial(entry.settings) for entry in entries if entry.settings.keys() == plan.axes.keys()]


def _cause(code: int) -> str:
    if code == -signal.SIGKILL:
        return (
            "the worker was killed (SIGKILL), possibly by the kernel because memory ran out; try a smaller "
            "--batch-size or --img-size, or fewer --jobs"
        )
    if code < 0:
        return f"the worker was terminated by {signal.Signals(-code).name}"
    return f"the worker exited with code {code}"


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace infinite temperatures with the string "inf", because JSON has no infinity."""
    return {key: _plain(value) for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return "inf"
    return value
