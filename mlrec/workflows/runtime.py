"""`RuntimeOptions`: batch size, dataloader workers, device and precision of a command that runs a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlrec.config_layers import check_values

if TYPE_CHECKING:
    import torch

BATCH_SIZE = 16  # images per batch for a model without a config


@dataclass(frozen=True)
class RuntimeOptions:
    """Runtime options of a model.

    Attributes:
        batch_size: Images per batch; None = 64 on CUDA, otherwise as in training.
        workers: Dataloader workers; None = chosen for the machine.
        device: "auto", "cpu", "cuda", "cuda:1", "mps", ...
        precision: "auto", "fp32", "tf32", "bf16" or "fp16".
        tta: Views of each image for test-time augmentation, see `training.tta.Views`; by default only the image.

    Raises:
        ConfigError: Unknown device or precision.

    Example:
        >>> import torch
        >>> RuntimeOptions().batch_size_for({"batch_size": 32}, torch.device("cpu"))
        32
    """

    batch_size: int | None = None
    workers: int | None = None
    device: str = "auto"
    precision: str = "auto"
    tta: str | None = None

    def __post_init__(self) -> None:
        check_values("flag", {"device": self.device, "precision": self.precision})

    def batch_size_for(self, config: Mapping[str, Any], device: torch.device) -> int:
        """Return the batch size for a model trained with `config`, the same as in the evaluation during its training.

        It is `batch_size` if set, otherwise `eval_batch_size` of the config, otherwise the default for its batch size
        and the device, see `default_eval_batch`.
        """
        from mlrec.training.devices import default_eval_batch

        for size in (self.batch_size, config.get("eval_batch_size")):
            if isinstance(size, int) and size >= 1:
                return size
        trained = config.get("batch_size")
        if not isinstance(trained, int) or trained < 1:
            trained = BATCH_SIZE
        return default_eval_batch(trained, device)
