"""Checkpoints written next to training, from a copy of the state in host memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlrec.training import state
from mlrec.training.state import State


class CheckpointWriter:
    """Writes one checkpoint at a time in a thread of its own; training waits for the copy only.

    The file is as that of `state.save`: whole under its name, or not there. A process that is killed while it is
    written resumes from the one before.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, folder: Path, current: State, identity: Mapping[str, Any]) -> None:
        """Copy the state, and begin to write the copy once the checkpoint before it is written.

        Raises:
            MlrecError: the one before could not be written.
        """
        self.wait()
        copy = current.snapshot()

        def write() -> None:
            try:
                state.save(folder, copy, identity)
                current.saved = copy.step
            except Exception as error:  # noqa: BLE001 - raised by `wait`, where training can end
                self._error = error

        self._thread = threading.Thread(target=write, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Return when the newest checkpoint is on the disk.

        Raises:
            MlrecError: it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
