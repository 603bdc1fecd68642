"""TensorBoard, for those who have it: the same lines as `log.jsonl`, drawn elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from mlrec.utils.errors import UsageError

FOLDER = "tensorboard"


class Board(Protocol):
    """Where numbers are drawn against steps; TensorBoard's writer is one."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """One number of one step."""

    def close(self) -> None:
        """Write what is pending."""


def open_board(folder: Path, step: int) -> Board:
    """TensorBoard's writer into a run folder; what it holds beyond `step` is dropped.

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
    """Draw the fractional numbers of a log line: "steps/loss", "epoch/loss", "val/mAP"."""
    group = values.get("split", event)
    for name, value in values.items():
        if isinstance(value, float):
            board.add_scalar(f"{group}/{name}", value, step)
