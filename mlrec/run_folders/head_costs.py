"""`HeadCosts`: parameters, operations and time of heads on one backbone, stored in the folder of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from mlrec.utils.errors import RunError
from mlrec.utils.files import read_own_json, write_json

FILE = "head_costs.json"
Ratio = tuple[float, float, float]  # median, and both ends of its 95 % interval


class HeadCost(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of one head.

    Attributes:
        head: Name for tables.
        run: Name of the run folder whose head was measured; "" outside of a sweep.
        parameters: Number of learnable parameters of the head.
        flops: Floating-point operations of the head for one image, forward; a multiplication and an addition are two.
        forward_ms, training_ms: Median milliseconds of a step of the whole model, for evaluation and for training.
        forward_ratio, training_ratio: Median of the paired ratios to the first head; None for the first head itself.
    """

    head: str
    run: str = ""
    parameters: int
    flops: int
    forward_ms: float
    training_ms: float
    forward_ratio: Ratio | None
    training_ratio: Ratio | None


class HeadCosts(msgspec.Struct, frozen=True, kw_only=True):
    """Costs of heads that were measured side by side, the one that ratios refer to first.

    Attributes:
        backbone: Name of the backbone.
        img_size: Side of the input in pixels.
        num_labels: Number of labels.
        batch_size: Images per step.
        steps: Number of measured steps of each head.
        backbone_parameters, backbone_flops: Of the backbone alone, as in `HeadCost`.
        environment: Versions, device, precision and threads.
        heads: The costs.
    """

    backbone: str
    img_size: int
    num_labels: int
    batch_size: int
    steps: int
    backbone_parameters: int
    backbone_flops: int
    environment: dict[str, Any]
    heads: list[HeadCost]

    def to_dict(self) -> dict[str, Any]:
        """Return what `bench head --json` prints."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        del content["environment"]
        return content | self.environment

    def save(self, folder: Path) -> None:
        """Write the costs into the folder of a sweep."""
        write_json(folder / FILE, msgspec.to_builtins(self))

    @classmethod
    def load(cls, folder: Path) -> HeadCosts | None:
        """Read the costs of a sweep; None if they were not measured.

        Raises:
            RunError: The file has another format.
        """
        if not (folder / FILE).is_file():
            return None
        return read_own_json(folder / FILE, cls, RunError, "measure again with mlrec bench head")
