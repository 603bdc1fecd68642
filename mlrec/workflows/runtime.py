"""`RuntimeOptions`: batch size, dataloader workers, device and precision of a command that runs a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlrec.config_layers import check_values

BATCH_SIZE = 16  # images per batch for a model without a config


@dataclass(frozen=True)
class RuntimeOptions:
    """How a model is run.

    Attributes:
        batch_size: Images per batch; None = as in training.
        workers: Dataloader workers; None = chosen for the machine.
        device: "auto", "cpu", "cuda", "cuda:1", "mps", ...
        precision: "auto", "fp32", "tf32", "bf16" or "fp16".

    Raises:
        ConfigError: Unknown device or precision.

    Example:
        >>> RuntimeOptions(device="cpu").batch_size_for({"batch_size": 64})
        64
    """

    batch_size: int | None = None
    workers: int | None = None
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        check_values("flag", {"device": self.device, "precision": self.precision})

    def batch_size_for(self, config: Mapping[str, Any]) -> int:
        """Return the batch size for a model trained with `config`: this one if set, otherwise that of its training."""
        sizes = (self.batch_size, config.get("eval_batch_size"), config.get("batch_size"))
        return next((size for size in sizes if isinstance(size, int) and size >= 1), BATCH_SIZE)
