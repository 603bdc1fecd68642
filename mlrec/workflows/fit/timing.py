"""Measured speeds of `mlrec fit`: features per image, and training per step."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlrec.utils.progress import NOTHING, logged_from
from mlrec.workflows.train.train import resolve_plan

RECIPE = "demo"  # of all candidates; the keys that matter are given as flags
PROBED = 32  # images whose features are computed to measure the speed
PACE_STEPS, PACE_WARM = 12, 3  # steps that measure the speed of training, and those before them
PACE_ERROR = 0.1  # relative error of the forecast from which the number of epochs is changed


class OtherPace(Exception):  # noqa: N818 - not an error: training starts again with another number of epochs
    """Raised if training is slower or faster than estimated; `seconds` is the measured time per step."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


@dataclass
class Pace:
    """Callback that measures the time per step.

    The callback raises `OtherPace` if the run would not finish in time, or if there is time for more epochs.

    Attributes:
        total: Number of steps in the run.
        allowed: Maximum duration of the run in seconds.
        can_grow: Whether epochs may be added if time permits.
        times: Values of the monotonic clock in seconds, one after each step.
    """

    total: int
    allowed: float
    can_grow: bool
    times: list[float] = field(default_factory=list)

    def on_step(self, event: object) -> None:  # noqa: ARG002 - only the time matters
        """Record the time of a step."""
        self.times.append(time.monotonic())
        if len(self.times) != PACE_WARM + PACE_STEPS:
            return
        seconds = (self.times[-1] - self.times[PACE_WARM - 1]) / PACE_STEPS
        needed = seconds * self.total
        too_short = self.can_grow and needed < (1 - 3 * PACE_ERROR) * self.allowed
        if needed > (1 + PACE_ERROR) * self.allowed or too_short:
            raise OtherPace(seconds)


@logged_from(NOTHING)
def probe(keys: Mapping[str, Any]) -> float:
    """Measure the time in seconds for decoding an image and computing its features.

    The result is the mean over the first images in the training split.
    """
    from mlrec.training import setup
    from mlrec.training.devices import resolve_device, resolve_precision
    from mlrec.training.features import compute_features

    plan = resolve_plan(keys, recipe=RECIPE)
    device = resolve_device(plan.config.device)
    precision = resolve_precision(plan.config.precision, device)
    setup.prepare_process(plan.config, device, precision)
    model = setup.build_model(plan.config, plan.train, paper=plan.paper)
    part = plan.train.subset(range(min(PROBED, len(plan.train))))
    compute_features(model, part.subset(range(min(4, len(part)))), plan.config, device=device, precision=precision)
    begun = time.monotonic()
    compute_features(model, part, plan.config, device=device, precision=precision)
    return (time.monotonic() - begun) / len(part)
