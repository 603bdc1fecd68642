"""Each waiting point is handed out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlrec.errors import RunError
from mlrec.sweeps.queue import Queue

POINTS = {f"run{k}": {"lam": k / 10, "temperatures": [1.0, 2.0]} for k in range(12)}


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_takers_at_once_get_every_point_exactly_once(tmp_path: Path, kind: str) -> None:
    storage = str(tmp_path / "deep" / "journal") if kind == "file" else f"sqlite:///{tmp_path}/study.db"
    Queue(storage, "s").offer(POINTS, {})
    Queue(storage, "s").offer(POINTS, {})  # the same command on another machine
    queues = [Queue(storage, "s") for _ in range(3)]
    assert queues[0].waiting() == set(POINTS)

    def drain(queue: Queue) -> list[str]:
        names = []
        while (taken := queue.take()) is not None:
            names.append(taken.name)
            queue.finish(taken, 0.5 if len(names) % 2 else None)
        return names

    with ThreadPoolExecutor(3) as pool:
        taken = [name for names in pool.map(drain, queues) for name in names]
    assert set(taken) == set(POINTS)
    if kind == "file":  # SQLite cannot promise it
        assert len(taken) == len(POINTS)
    assert Queue(storage, "s").take() is None


def test_a_point_may_be_offered_again_once_it_was_taken(tmp_path: Path) -> None:
    queue = Queue(str(tmp_path / "journal"), "s")
    queue.offer({"a": {}}, {})
    assert queue.take() is not None
    queue.offer({"a": {}}, {})
    again = queue.take()
    assert again is not None
    assert again.name == "a"


def test_a_storage_that_cannot_be_opened_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"--storage nosuchdb://x.*give a file"):
        Queue("nosuchdb://x", "s")
