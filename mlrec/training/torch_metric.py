"""`TorchMetric`: `mlrec.Metric` as a torchmetrics metric, for Lightning."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed
import torchmetrics
from numpy.typing import ArrayLike
from torch import Tensor

from mlrec.metrics.metric import Metric
from mlrec.metrics.summary import Metrics
from mlrec.utils.arrays import as_array

STATES = ("scores", "targets", "ids")


class TorchMetric(torchmetrics.Metric):
    """torchmetrics metric that returns one of the values in `Metrics`; see `mlrec.torch_metric`.

    Scores are stored unchanged on the CPU. Synchronization exchanges all scores between processes. The number of
    samples may differ between processes and may be 0.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    targets: list[Tensor]
    ids: list[Tensor]

    def __init__(self, settings: Metric, value: str) -> None:
        super().__init__(dist_sync_fn=_gathered)
        self.settings = settings  # a metric that contains no samples
        self.value = value
        for state in STATES:
            self.add_state(state, [], dist_reduce_fx=None)

    def update(self, scores: ArrayLike, targets: ArrayLike, ids: ArrayLike | None = None) -> None:
        """Add a batch, see `Metric.update`; `ids` must be integers, such as positions in the dataset."""
        copy.deepcopy(self.settings).update(scores, targets, ids)  # only validates the batch
        self.scores.append(torch.from_numpy(as_array(scores).copy()))
        self.targets.append(torch.from_numpy(as_array(targets).copy()))
        if ids is not None:
            self.ids.append(torch.from_numpy(as_array(ids).copy()))

    def metrics(self) -> Metrics:
        """Return all metrics over the samples from all processes."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=self.sync_on_compute):
            return self._metrics()

    def compute(self) -> Tensor:
        """Return the selected value; NaN if the value is undefined."""
        number = self._metrics().flat()[self.value]
        return torch.tensor(number, dtype=torch.float64)

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Replace the samples of this process with the samples from all processes."""
        for state in STATES:  # one tensor per state in every process, so that all processes exchange equally often
            batches = getattr(self, state)
            setattr(self, state, [torch.cat(batches) if batches else torch.empty(0)])
        super().sync(*args, **kwargs)

    def _metrics(self) -> Metrics:
        metric = copy.deepcopy(self.settings)
        have_ids = any(len(ids) for ids in self.ids)
        for k, (scores, targets) in enumerate(zip(self.scores, self.targets, strict=True)):
            if scores.ndim == 2:  # otherwise, this process has no samples
                metric.update(scores, targets, self.ids[k] if have_ids else None)
        return metric.compute()


def _gathered(tensor: Tensor, group: Any = None) -> list[Tensor]:
    """Return the tensors from all processes; shapes and dtypes may differ."""
    tensors: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(tensors, tensor, group)
    return tensors
