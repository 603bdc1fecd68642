"""Training callbacks: user code that runs after a step, after an epoch, and at the end."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlrec.utils.errors import UsageError

METHODS = ("on_step", "on_epoch", "on_end")


@dataclass(frozen=True)
class TrainEvent:
    """State of a training run, as passed to a callback.

    Attributes:
        run: Folder of the run.
        epoch: Current epoch, counted from 1.
        step: Number of completed optimizer steps.
        loss: In `on_step`, mean loss over the steps since the last call (up to 20 steps on a GPU, one step on a CPU).
            In `on_epoch` and `on_end`, mean loss over the epoch.
        lr: Learning rate of the backbone in the last step.
        metrics: Defined metrics by name, as fractions. `on_epoch` receives the mAP on each split that was evaluated
            after the epoch, such as "val/mAP". `on_end` receives mAP, CP, CR, CF1, OP, OR and OF1 on the scored split.

    Example:
        >>> class EpochLog:
        ...     def on_epoch(self, event):
        ...         print(f"epoch {event.epoch}: loss {event.loss:.3f}, {event.metrics}")
        >>> EpochLog().on_epoch(TrainEvent(Path("runs/a"), 1, 90, 0.25, 0.01, {"val/mAP": 0.8}))
        epoch 1: loss 0.250, {'val/mAP': 0.8}
    """

    run: Path
    epoch: int = 0
    step: int = 0
    loss: float = math.nan
    lr: float = math.nan
    metrics: Mapping[str, float] = field(default_factory=dict)


class CallbackFailed(Exception):  # noqa: N818 - the error is in it
    """Wrapper for an exception raised by a callback.

    Because of the wrapper, training does not report the exception as an mlrec error.

    Attributes:
        error: Exception with the traceback of the user code.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Callbacks:
    """Callbacks of a run, and the latest event.

    Args:
        objects: Objects with any of the methods `on_step`, `on_epoch` and `on_end`.

    Raises:
        UsageError: An object has none of these methods.
    """

    def __init__(self, objects: Sequence[object] = ()) -> None:
        for one in objects:
            if not any(callable(getattr(one, method, None)) for method in METHODS):
                close = [name for name in dir(one) if difflib.get_close_matches(name, METHODS, n=1)]
                found = ""
                if close:
                    found = f" (found a similar name: {close[0]})"
                name = getattr(one, "__name__", type(one).__name__)
                raise UsageError(
                    f"callback {name} has none of the methods {', '.join(METHODS)}{found}; define at least one method"
                )
        self._objects = tuple(objects)
        self._event = TrainEvent(Path())

    def call(self, method: str, **facts: Any) -> None:
        """Call a method on all callbacks that define it.

        Args:
            method: Name in `METHODS`.
            **facts: Changed attributes of the event.

        Raises:
            CallbackFailed: A callback raised an exception.
        """
        self._event = replace(self._event, **facts)
        for one in self._objects:
            function = getattr(one, method, None)
            if function is not None:
                try:
                    function(self._event)
                except Exception as error:
                    raise CallbackFailed(error) from error
