"""`RuntimeOptions`: batch size, dataloader workers, device and precision for running a trained model."""

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
    """Options for running a trained model: batch size, workers, device and precision.

    Attributes:
        batch_size: Number of images per batch. If None, the `eval_batch_size` of the run is used. If `eval_batch_size`
            is not set, the batch size is the training batch size or, on CUDA, the smaller of 64 and 8 times the
            training batch size. For a model without a config, 16 is used as the training batch size.
        workers: Number of dataloader workers or, in `predict` and `attend`, of decoding threads; if None, the number
            depends on the machine.
        device: Name of the device: "auto", "cpu", "cuda", "cuda:1", "mps", ...
        precision: "auto", "fp32", "tf32", "bf16" or "fp16".
        tta: Views of each image for test-time augmentation, see `training.tta.Views`; by default only the image itself.

    Raises:
        ConfigError: The device or precision is unknown, or the batch size is below 1.

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
        if self.batch_size is not None:
            check_values("flag", {"batch_size": self.batch_size})

    def batch_size_for(self, config: Mapping[str, Any], device: torch.device) -> int:
        """Return the batch size for a model trained with `config`, the same as for evaluation during training.

        The result is `batch_size` if set, otherwise `eval_batch_size` from the config, otherwise the default for the
        training batch size and the device, see `default_eval_batch`.
        """
        from mlrec.training.devices import default_eval_batch

        for size in (self.batch_size, config.get("eval_batch_size")):
            if isinstance(size, int) and size >= 1:
                return size
        trained = config.get("batch_size")
        if not isinstance(trained, int) or trained < 1:
            trained = BATCH_SIZE
        return default_eval_batch(trained, device)
