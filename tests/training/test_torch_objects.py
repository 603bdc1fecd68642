"""mlrec's data and metrics in loops of others: DataLoader, torchmetrics, Lightning, and two real processes."""

from __future__ import annotations

import copy
import pickle
import sys
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torchmetrics
from PIL import Image
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import mlrec
from mlrec import Manifest, Metric, evaluate, torch_dataset, torch_metric
from mlrec.utils.errors import DataError, MlrecError, PredictionsError, UsageError
from tests.metrics.scoring_oracles import random_case

LABELS = ["cat", "dog", "hen"]
LOGITS, TARGETS = random_case(5, samples=23, labels=3)
SCORES = torch.from_numpy(LOGITS.astype(np.float32))
TRUTH = torch.from_numpy(TARGETS)
EXPECTED = evaluate(SCORES, TRUTH, labels=LABELS)


def small_tensor(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(image.resize((4, 4))).copy()).permute(2, 0, 1)


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    for k in range(6):
        Image.new("RGB", (10 + k, 8), (40 * k, 0, 0)).save(tmp_path / f"{k}.png")
    targets = np.array([[1, 0, -1]] * 6, np.int8)
    return Manifest("n", "val", tmp_path, tuple(LABELS), tuple(f"{k}.png" for k in range(6)), targets)


def test_a_loader_with_workers_reads_images_and_targets(manifest: Manifest) -> None:
    dataset = torch_dataset(manifest, small_tensor)
    assert len(dataset) == 6
    batches = list(DataLoader(dataset, batch_size=4, num_workers=1, multiprocessing_context="fork"))
    images = torch.cat([images for images, _ in batches])
    assert images.shape == (6, 3, 4, 4)
    assert images[:, 0, 0, 0].tolist() == [0, 40, 80, 120, 160, 200]
    assert torch.cat([targets for _, targets in batches]).tolist() == [[1.0, 0.0, -1.0]] * 6
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[5][0], dataset[-1][0])
    plain, _ = torch_dataset(manifest)[2]
    assert plain.size == (12, 8)
    assert np.array_equal(np.asarray(plain), np.asarray(Image.open(manifest.path_of(2))))
    with pytest.raises(IndexError):
        dataset[6]
    manifest.path_of(1).unlink()
    with pytest.raises(DataError, match=r"1\.png"):
        dataset[1]


def test_torchmetrics_sees_a_metric_of_its_own() -> None:
    metric = torch_metric(LABELS)
    assert isinstance(metric, torchmetrics.Metric)
    for rows in (slice(0, 10), slice(10, 10), slice(10, None)):
        metric.update(SCORES[rows].requires_grad_(), TRUTH[rows])
    assert metric.compute().item() == EXPECTED.mAP
    assert metric.metrics() == EXPECTED
    for other in (copy.deepcopy(metric), pickle.loads(pickle.dumps(metric))):
        other.update(SCORES[:1], TRUTH[:1])
        assert other.metrics().counts["samples"] == 24
    metric.reset()
    first = metric(SCORES[:12], TRUTH[:12])  # forward: the value of the batch
    assert first.item() == evaluate(SCORES[:12], TRUTH[:12]).mAP
    metric(SCORES[12:], TRUTH[12:])
    assert metric.metrics() == EXPECTED
    both = torchmetrics.MetricCollection({"mAP": torch_metric(LABELS), "OF1": torch_metric(LABELS, value="OF1")})
    both.update(SCORES, TRUTH)
    assert {name: value.item() for name, value in both.compute().items()} == {"mAP": EXPECTED.mAP, "OF1": EXPECTED.OF1}
    known = TRUTH.clone()
    known[known == -1] = 0
    reference = torchmetrics.classification.MultilabelAveragePrecision(3, average="none")(SCORES, known)
    assert list(evaluate(SCORES, known).average_precision.values()) == pytest.approx(reference.tolist())


def test_faults_are_reported_with_the_batch() -> None:
    with pytest.raises(UsageError, match=r"value='map' is not one of .*; did you mean 'mAP'"):
        torch_metric(value="map")
    with pytest.raises(PredictionsError, match="targets contain invalid values"):
        torch_metric().update(SCORES, TRUTH + 5)


def test_a_missing_torchmetrics_is_one_line(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    monkeypatch.delitem(sys.modules, "mlrec.training.torch_metric", raising=False)
    with pytest.raises(MlrecError, match="requires torchmetrics; run pip install torchmetrics"):
        mlrec.torch_metric()


class Module(lightning.LightningModule):
    """Scores that are known, so that the metric is as well."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.metric = torch_metric(LABELS)
        self.whole: list[dict[str, float]] = []

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        return (batch[0] * self.weight).sum()

    def validation_step(self, batch: Any, _: int) -> None:
        scores, targets, places = batch
        self.metric.update(scores + 0 * self.weight, targets, ids=places)
        self.log("val", self.metric)

    def on_validation_epoch_end(self) -> None:
        self.whole.append(self.metric.metrics().flat("val/"))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


@pytest.mark.filterwarnings("ignore::UserWarning:lightning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_lightning_logs_the_metric_of_each_epoch(tmp_path: Path) -> None:
    module = Module()
    loader = DataLoader(TensorDataset(SCORES, TRUTH, torch.arange(23)), batch_size=5)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=2, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(module, loader, loader)
    assert trainer.callback_metrics["val"].item() == EXPECTED.mAP
    assert module.whole[1:] == [EXPECTED.flat("val/")] * 2, "after the sanity check, each epoch is of its samples only"


def in_process(rank: int, world: int, store: str, results: str) -> None:
    """One of two processes: its part by a distributed sampler, which repeats a sample, then an uneven part."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world)
    data = TensorDataset(SCORES, TRUTH, torch.arange(23))
    loader = DataLoader(data, batch_size=4, sampler=DistributedSampler(data, shuffle=False))
    plain, wrapped, uneven = Metric(LABELS), torch_metric(LABELS), torch_metric(LABELS)
    seen = 0
    for scores, targets, places in loader:
        plain.update(scores, targets, ids=places)
        wrapped.update(scores, targets, ids=places)
        seen += len(places)
    parts: list[Any] = [None] * world
    dist.all_gather_object(parts, plain)
    if rank == 1:
        uneven.update(SCORES.double(), TRUTH)  # the other process has no sample, and so no type of scores
    whole = [Metric().merge(*parts).compute(), wrapped.metrics(), uneven.metrics()]
    values = [wrapped.compute().item(), uneven.compute().item()]
    wrapped.update(SCORES[:0], TRUTH[:0], ids=torch.arange(0))  # after synchronization a process has its own samples
    Path(results, str(rank)).write_bytes(pickle.dumps((whole, values, seen, sum(map(len, wrapped.scores)))))
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_two_processes_give_the_metrics_of_one(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    arguments = (2, str(tmp_path / "store"), str(tmp_path / "results"))
    torch.multiprocessing.start_processes(in_process, arguments, nprocs=2, start_method="fork")
    for rank in range(2):
        whole, values, seen, own = pickle.loads((tmp_path / "results" / str(rank)).read_bytes())
        assert seen == own == 12, "24 in all: one sample twice"
        assert whole == [EXPECTED] * 3
        assert values == [EXPECTED.mAP] * 2


def test_a_path_is_no_manifest() -> None:
    with pytest.raises(DataError, match=r"expected a Manifest, got str; load it with Manifest\.load"):
        torch_dataset("data/pets/train.jsonl")  # type: ignore[arg-type]
