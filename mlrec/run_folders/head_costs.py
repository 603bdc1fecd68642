"""`HeadCosts`: parameter counts, FLOPs and step times of several heads on the same backbone.

The costs are stored in a sweep folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from mlrec.utils.errors import RunError
from mlrec.utils.files import read_own_json, write_json

FILE = "head_costs.json"
Ratio = tuple[float, float, float]  # median, and lower and upper limit of the 95% interval


class HeadCost(msgspec.Struct, frozen=True, kw_only=True):
    """Parameter count, FLOPs and step times of one head.

    Attributes:
        head: Name of the head in tables.
        run: Name of the run folder whose head was measured; "" outside a sweep.
        parameters: Number of learnable parameters in the head.
        flops: FLOPs of the head in the forward pass for one image; a multiply-add counts as two FLOPs.
        forward_ms, training_ms: Median time of one evaluation step and of one training step of the whole model, in
            milliseconds.
        forward_ratio, training_ratio: Step time divided by the step time of the first head: median over paired
            measurements, then the lower and upper end of its 95% confidence interval. None for the first head.
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
    """Costs of heads that were measured together; time ratios are relative to the first head.

    Attributes:
        backbone: Name of the backbone.
        img_size: Side length of the input in pixels.
        num_labels: Number of labels.
        batch_size: Batch size.
        steps: Number of measured steps per head.
        backbone_parameters, backbone_flops: Parameter count and FLOPs of the backbone without a head, counted as in
            `HeadCost`.
        environment: Versions, device, precision and threads.
        heads: Cost of each head.
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
        """Return the JSON-compatible data that `mlrec bench head --json` prints."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        del content["environment"]
        return content | self.environment

    def save(self, folder: Path) -> None:
        """Write the costs to a sweep folder."""
        write_json(folder / FILE, msgspec.to_builtins(self))

    @classmethod
    def load(cls, folder: Path) -> HeadCosts | None:
        """Read the costs in a sweep folder, or return None if the costs have not been measured.

        Raises:
            RunError: The file was not written by `mlrec bench head`.
        """
        if not (folder / FILE).is_file():
            return None
        return read_own_json(folder / FILE, cls, RunError, "measure again with mlrec bench head")
