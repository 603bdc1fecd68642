"""Which of several processes this is, as torchrun tells it; no torch is needed to ask."""

from __future__ import annotations

import os


def rank() -> int:
    """This process's number; 0 is the one that writes and speaks, and the only one without torchrun."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """How many processes work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))
