"""TensorBoard output (optional): the numbers of `log.jsonl`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from mlrec.utils.errors import UsageError

FOLDER = "tensorboard"


class Board(Protocol):
    """Writer of numbers by step; TensorBoard's `SummaryWriter` is one."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Add a number of a step."""

    def close(self) -> None:
        """Write pending numbers and close the file."""


def open_board(folder: Path, step: int) -> Board:
    """Open TensorBoard's writer in a run folder; numbers after `step` are dropped.

    Raises:
        UsageError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError("--tensorboard needs a package: pip install 'mlrec[tensorboard]'") from error
    board: Board = SummaryWriter(str(folder / FOLDER), purge_step=step + 1)
    return board


def draw(board: Board, event: str, *, step: int, **values: object) -> None:
    """Write the floats of a log line, as "steps/loss", "epoch/loss", "val/mAP"."""
    group = values.get("split", event)
    for name, value in values.items():
        if isinstance(value, float):
            board.add_scalar(f"{group}/{name}", value, step)
