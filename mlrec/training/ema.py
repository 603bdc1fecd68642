"""Average of the model weights over training steps.

The average is exponential, or uniform over the final epochs (SWA).
"""

from __future__ import annotations

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, nn


class WeightAverage(ModelEmaV3):
    """Average of model weights, based on timm's exponential moving average.

    The lists of tensors to average are created once per epoch. timm creates lists of tensors in each step with two
    `state_dict()` calls, which take milliseconds for a large ViT.

    Args:
        model: Model to average; the average is initialized with the current weights.
        decay: Maximum decay per step, with warm-up as in timm.

    Attributes:
        uniform_from: Step after which the average is the uniform mean of the weights after each later step, as in
            stochastic weight averaging (SWA; Izmailov et al., UAI 2018). If None, the average is always exponential.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__(model, decay=decay, use_warmup=True)
        self.uniform_from: int | None = None
        self._lists: tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]] | None = None

    def get_decay(self, step: int | None = None) -> float:
        """Return the weight w of the previous average after `step` steps; the model has the weight 1 - w."""
        if step is None or self.uniform_from is None or step <= self.uniform_from:
            decay: float = super().get_decay(step)
            return decay
        return 1 - 1 / (step - self.uniform_from)

    def forget_tensors(self) -> None:
        """Discard the lists of tensors, so that the next update creates them again.

        This method must be called if tensors of the model may have been replaced.
        """
        self._lists = None

    def apply_update_(self, model: nn.Module, decay: float) -> None:
        """Update the average with the current weights of the model."""
        if self._lists is None:
            pairs = list(zip(self.module.state_dict().values(), model.state_dict().values(), strict=True))
            floats = [pair for pair in pairs if pair[0].is_floating_point()]
            others = [pair for pair in pairs if not pair[0].is_floating_point()]
            self._lists = (
                [own for own, _ in floats],
                [given for _, given in floats],
                [own for own, _ in others],
                [given for _, given in others],
            )
        averages, values, own_counts, counts = self._lists
        torch._foreach_lerp_(averages, values, weight=1.0 - decay)
        if counts:
            torch._foreach_copy_(own_counts, counts)
