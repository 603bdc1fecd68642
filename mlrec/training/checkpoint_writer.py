"""`CheckpointWriter`: checkpoints written in the background, from a copy of the state in host memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlrec.training import state
from mlrec.training.state import State


class CheckpointWriter:
    """Writes one checkpoint at a time in a background thread; training waits only for the copy.

    A checkpoint appears under its name only when it is complete, see `state.save`. If a run is killed while a
    checkpoint is written, it is resumed from the previous checkpoint.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def start(self, folder: Path, current: State, identity: Mapping[str, Any]) -> None:
        """Copy the state and start to write it, after the previous checkpoint has been written.

        Raises:
            MlrecError: The previous checkpoint could not be written.
        """
        self.wait()
        copy = current.snapshot()

        def write() -> None:
            try:
                state.save(folder, copy, identity)
                current.saved = copy.step
            except Exception as error:  # noqa: BLE001 - `wait` raises it in the training thread
                self._error = error

        self._thread = threading.Thread(target=write, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Wait until the newest checkpoint is on the disk.

        Raises:
            MlrecError: It could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error
