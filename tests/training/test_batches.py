"""Order, augmentation and sharing of batches: functions of (seed, epoch, sample), whoever makes them."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mlrec.config import Config
from mlrec.datasets.images import decode as decoding
from mlrec.datasets.manifest import Manifest
from mlrec.models.preprocessing import Preprocessing
from mlrec.training import dataloader
from mlrec.training.dataloader import Batch, batch_starts, epoch_order, eval_batches, steps_per_epoch, train_batches
from mlrec.training.transforms import tensors
from mlrec.utils import processes
from mlrec.utils.errors import DataError, MlrecError
from tests.conftest import Notes
from tests.processes import started

SMALL = Preprocessing(32)


def config(**keys: object) -> Config:
    return Config(**({"batch_size": 4, "img_size": 32, "workers": 0, "seed": 5} | keys))  # type: ignore[arg-type]


def same(left: list[Batch], right: list[Batch]) -> bool:
    return len(left) == len(right) and all(
        torch.equal(a.images, b.images) and torch.equal(a.targets, b.targets) and torch.equal(a.samples, b.samples)
        for a, b in zip(left, right, strict=True)
    )


def with_boxes(manifest: Manifest) -> Manifest:
    """Three persons in each of the first four pictures, apart in the manifest."""
    images = tuple(manifest.images[k % 4] for k in range(12))
    boxes = np.array([[k, k / 2, 20 + k, 15 + k] for k in range(12)], dtype=np.float64)
    ids = tuple(f"{name}#{k // 4}" for k, name in enumerate(images))
    return replace(manifest, images=images, targets=manifest.targets[:12], boxes=boxes, sample_ids=ids)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_whatever_the_workers(pictures: Manifest, workers: int) -> None:
    strong = config(randaugment=2, cutout=0.3)
    alone = list(train_batches(pictures, strong, SMALL, epoch=0, epochs=2))
    helped = list(train_batches(pictures, config(randaugment=2, cutout=0.3, workers=workers), SMALL, epoch=0, epochs=2))
    assert same(alone, helped)
    assert same(
        list(eval_batches(pictures, SMALL, batch_size=4, workers=0)),
        list(eval_batches(pictures, SMALL, batch_size=4, workers=workers)),
    )


@pytest.mark.parametrize(("epoch", "start"), [(0, 2), (1, 0), (1, 1)])
def test_a_resumed_epoch_goes_on_where_it_stopped(pictures: Manifest, epoch: int, start: int) -> None:
    whole = list(train_batches(pictures, config(), SMALL, epoch=0, epochs=2))
    rest = list(train_batches(pictures, config(), SMALL, epoch=epoch, start=start, epochs=2 - epoch))
    assert same(rest, whole[epoch * 3 + start :])


def test_every_sample_comes_once_an_epoch_and_never_the_same_way(pictures: Manifest) -> None:
    first, second = (list(train_batches(pictures, config(), SMALL, epoch=k)) for k in (0, 1))
    orders = [torch.cat([batch.samples for batch in epoch]).tolist() for epoch in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(13))
    assert orders[0] != orders[1]
    assert not same(first, list(train_batches(pictures, config(seed=6), SMALL, epoch=0)))
    views = {image.numpy().tobytes() for batch in first + second for image in batch.images}
    assert len(views) == 26
    for batch in first:
        assert torch.equal(batch.targets, torch.from_numpy(pictures.targets)[batch.samples])


def test_loading_takes_nothing_from_torchs_own_stream(pictures: Manifest) -> None:
    before = torch.get_rng_state()
    list(train_batches(pictures, config(workers=1), SMALL, epoch=0))
    list(eval_batches(pictures, SMALL, batch_size=4, workers=0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("samples", "size", "world", "sizes"),
    [
        (13, 4, 1, [4, 4, 5]),  # a trailing one is merged
        (14, 4, 1, [4, 4, 4, 2]),
        (12, 4, 1, [4, 4, 4]),
        (1, 4, 1, [1]),  # a set of one still trains
        (13, 4, 3, [4, 4, 5]),
        (15, 4, 2, [4, 4, 7]),  # three cannot give two to each of two processes
        (9, 16, 3, [9]),
    ],
)
def test_a_trailing_remainder_too_small_is_merged(samples: int, size: int, world: int, sizes: list[int]) -> None:
    starts = batch_starts(samples, size, world)
    assert np.diff([*starts, samples]).tolist() == sizes
    assert steps_per_epoch(samples, size, world) == len(sizes)


def test_no_samples_no_batches() -> None:
    assert steps_per_epoch(0, 4) == 0


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_global_batch(pictures: Manifest, world: int) -> None:
    six = config(batch_size=6)
    alone = list(train_batches(pictures, six, SMALL, epoch=3))
    parts = [list(train_batches(pictures, six, SMALL, epoch=3, rank=k, world=world)) for k in range(world)]
    for step, whole in enumerate(alone):
        assert torch.equal(torch.cat([part[step].samples for part in parts]), whole.samples)
        assert torch.equal(torch.cat([part[step].images for part in parts]), whole.images)
    for step in zip(*parts, strict=True):
        counts = [len(batch.samples) for batch in step]
        assert min(counts) >= 2
        assert max(counts) - min(counts) <= 1
        assert [batch.share for batch in step] == pytest.approx([world * n / sum(counts) for n in counts])


def test_more_processes_than_samples_is_an_error(pictures: Manifest) -> None:
    with pytest.raises(DataError, match="2 samples for 3 processes"):
        list(train_batches(pictures.subset([0, 1]), config(), SMALL, epoch=0, world=3))


@pytest.mark.parametrize("samples", [1, 2, 9, 11, 13])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_evaluation_deals_equal_batches_and_marks_what_fills_them(pictures: Manifest, samples: int, world: int) -> None:
    some = pictures.subset(range(samples))
    alone = list(eval_batches(some, SMALL, batch_size=4, workers=0))
    dealt = [list(eval_batches(some, SMALL, batch_size=4, workers=0, rank=k, world=world)) for k in range(world)]
    for k, batch in enumerate(alone):
        assert same([batch], [dealt[k % world][k // world]])
        assert len(batch.samples) == min(4, samples)
    places = torch.cat([batch.samples for batch in alone])
    assert places[places >= 0].tolist() == list(range(samples))
    assert sum(len(part) for part in dealt) == len(alone)


def test_persons_of_an_image_are_cut_from_one_decoding(pictures: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    people = with_boxes(pictures)
    decoded: Counter[str] = Counter()

    def counting(path: object, how: str = "fast") -> decoding.Stored:
        decoded[str(path)] += 1
        return decoding.load(path, how)  # type: ignore[arg-type]

    monkeypatch.setattr(dataloader, "load", counting)
    (batch,) = eval_batches(people, SMALL, batch_size=12, workers=0)
    assert set(decoded.values()) == {1}
    for k in range(12):
        expected = tensors(decoding.decode_box(people.path_of(k), people.boxes[k]), None, 32, "bilinear")  # type: ignore[index]
        assert torch.equal(batch.images[k], expected)
    decoded.clear()
    epoch = list(train_batches(people, config(batch_size=6), SMALL, epoch=0))
    assert len(epoch) == 2
    assert set(decoded.values()) == {1}
    order = epoch_order(people, 5, 0)
    assert [people.images[k] for k in order] == [
        name for name in dict.fromkeys(people.images[k] for k in order) for _ in range(3)
    ]


def test_the_pil_path_shows_the_same_views(pictures: Manifest) -> None:
    fast = list(train_batches(pictures, config(), SMALL, epoch=0))
    slow = list(train_batches(pictures, config(image_backend="pil"), SMALL, epoch=0))
    for a, b in zip(fast, slow, strict=True):
        assert torch.equal(a.samples, b.samples)
        assert (a.images.int() - b.images.int()).abs().max() <= 6  # two JPEG decoders


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_one_line_with_its_name(pictures: Manifest, workers: int) -> None:
    broken = replace(pictures, images=("gone.jpg", *pictures.images[1:]), sample_ids=())
    with pytest.raises(DataError, match=r"gone\.jpg: no such image file") as caught:
        list(train_batches(broken, config(workers=workers), SMALL, epoch=0))
    assert "\n" not in str(caught.value)


def test_an_empty_box_names_the_sample(pictures: Manifest) -> None:
    people = with_boxes(pictures)
    assert people.boxes is not None
    people.boxes[5] = (3, 3, 0, 4)
    with pytest.raises(DataError, match=r"the box of '01\.jpg#1' is empty"):
        list(eval_batches(people, SMALL, batch_size=4, workers=0))


class _Deadly(dataloader.ImageBatches):
    """Dies as a process killed by the kernel does."""

    def __getitem__(self, key: object) -> Batch:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class _Hanging(dataloader.ImageBatches):
    """Never comes back."""

    def __getitem__(self, key: object) -> Batch:
        signal.pause()
        raise AssertionError


@pytest.mark.parametrize(
    ("kind", "message"),
    [(_Deadly, "a dataloader worker was killed.*reduce --workers"), (_Hanging, "a dataloader worker hangs")],
)
def test_a_dead_or_hanging_worker_ends_with_a_remedy(
    pictures: Manifest, monkeypatch: pytest.MonkeyPatch, kind: type[dataloader.ImageBatches], message: str
) -> None:
    monkeypatch.setattr(dataloader, "TIMEOUT", 1.0)
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.2)  # else the hanging one has 5 s to end
    monkeypatch.setattr("mlrec.training.dataloader.ImageBatches", kind)
    with pytest.raises(MlrecError, match=message):
        list(eval_batches(pictures, SMALL, batch_size=4, workers=1))


class _Asked(dataloader.ImageBatches):
    """Tells how it makes way for others."""

    def __getitem__(self, key: object) -> MlrecError:
        return MlrecError(f"niceness {os.nice(0)}")


def test_loader_processes_make_way_for_a_model_on_the_cpu(pictures: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlrec.training.dataloader.ImageBatches", _Asked)
    here = os.nice(0)
    for device, more in ((torch.device("cpu"), dataloader.NICE), (torch.device("mps"), 0)):
        with pytest.raises(MlrecError, match=f"niceness {min(19, here + more)}$"):
            list(eval_batches(pictures, SMALL, batch_size=4, workers=1, device=device))


@pytest.mark.parametrize(
    ("device", "cores", "local", "expected"),
    [
        ("cuda", 8, "1", 8),
        ("cuda", 64, "1", 16),
        ("mps", 8, "4", 2),
        ("cuda", 1, "1", 0),
        ("cuda", 2, "4", 0),
        ("cpu", 8, "1", 0),
    ],
)
def test_loader_processes_by_default(
    monkeypatch: pytest.MonkeyPatch, device: str, cores: int, local: str, expected: int
) -> None:
    """By the device of the model, whatever else the machine has."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(processes, "cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert dataloader.default_workers(torch.device(device)) == expected


@pytest.mark.parametrize(("device", "pinned"), [("cpu", False), ("mps", False), ("cuda", True)])
def test_memory_is_pinned_for_a_model_on_cuda_only(
    pictures: Manifest, monkeypatch: pytest.MonkeyPatch, device: str, pinned: bool
) -> None:
    """On a machine with a GPU, which is simulated."""
    options: dict[str, object] = {}

    def loader(*_: object, **given: object) -> Iterator[Batch]:
        options.update(given)
        return iter(())

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(dataloader, "DataLoader", loader)
    monkeypatch.setattr(dataloader, "own_cores", lambda: 3)
    list(eval_batches(pictures, SMALL, batch_size=4, device=torch.device(device)))
    assert options["pin_memory"] is pinned
    assert options["num_workers"] == (0 if device == "cpu" else 3)


ORPHANS = """
import multiprocessing, sys, time
from pathlib import Path
import torch
from mlrec.datasets.manifest import Manifest
from mlrec.models.preprocessing import Preprocessing
from mlrec.training.dataloader import eval_batches

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    manifest = Manifest.load(Path(sys.argv[2]))
    batches = eval_batches(manifest, Preprocessing(32), batch_size=3, workers=2)
    total = sum(int(batch.images.to(torch.int64).sum()) for batch in (next(batches) for _ in range(4)))
    print(total, *(child.pid for child in multiprocessing.active_children()), flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.long), "forkserver"])
def test_loader_processes_work_and_end_with_their_parent_however_they_are_started(
    pictures: Manifest, tmp_path: Path, method: str
) -> None:
    """forkserver is the default of Linux from Python 3.14 on: the parent of a loader process is then that server."""
    script, file = tmp_path / "script.py", tmp_path / "pictures.jsonl"
    script.write_text(ORPHANS)
    pictures.save(file)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    with started([sys.executable, str(script), method, str(file)], text=True, env=environment) as process:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        assert len(words) == 3, "the loader processes ended themselves"
        here = list(eval_batches(pictures, Preprocessing(32), batch_size=3, workers=0))[:4]
        assert int(words[0]) == sum(int(batch.images.to(torch.int64).sum()) for batch in here)
        process.kill()
        deadline = time.monotonic() + 30
        alive = [Path("/proc", pid) for pid in words[1:]]
        while any(map(Path.exists, alive)) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(map(Path.exists, alive))


def test_small_shared_memory_means_fewer_workers_and_a_hint(monkeypatch: pytest.MonkeyPatch, notes: Notes) -> None:
    monkeypatch.setattr(dataloader.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 64_000_000})())
    assert dataloader.fitting(8, 10_000_000) == 2
    assert (
        "64 MB free, but 8 dataloader workers would need 240 MB; the number of workers was reduced to 2"
        in notes.warnings[0]
    )
    assert "--shm-size" in notes.warnings[0]
    assert dataloader.fitting(2, 10_000_000) == 2
    assert dataloader.fitting(0, 10**12) == 0
    assert len(notes.warnings) == 1


def test_few_open_files_mean_fewer_workers_and_a_hint(monkeypatch: pytest.MonkeyPatch, notes: Notes) -> None:
    raised: list[tuple[int, int]] = []
    each, used = dataloader.FILES_PER_WORKER, len(list(dataloader.OPEN_FILES.iterdir())) + dataloader.OTHER_FILES
    monkeypatch.setattr(dataloader.resource, "setrlimit", lambda _, limits: raised.append(limits))

    def limits(soft: int, hard: int) -> None:
        monkeypatch.setattr(dataloader.resource, "getrlimit", lambda _: (soft, hard))

    limits(used + 2 * each + 3, used + 2 * each + 3)
    assert dataloader.fitting_files(2) == 2
    assert not notes.warnings
    assert dataloader.fitting_files(4) == 2
    assert "ulimit -n" in notes.warnings[0]
    limits(20, 20)
    assert dataloader.fitting_files(0) == 0
    assert dataloader.fitting_files(2) == 0
    limits(20, 4096)
    assert dataloader.fitting_files(2) == 2
    ((soft, hard),) = raised
    assert (soft >= used + 2 * each, hard) == (True, 4096)


def test_shared_memory_that_runs_out_ends_with_a_remedy(pictures: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(MlrecError, match="out of shared memory"):
        list(eval_batches(pictures, SMALL, batch_size=4, workers=1))


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)", "--shm-size"),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that ...", "--shm-size"),
        ("Too many open files. Communication with the workers is no longer possible.", "ulimit -n"),
    ],
)
def test_errors_of_the_machine_say_what_to_do(text: str, remedy: str) -> None:
    assert remedy in str(dataloader._worker_error(RuntimeError(text)))


def test_errors_of_the_program_stay_what_they_are() -> None:
    error = RuntimeError("shape mismatch")
    assert dataloader._worker_error(error) is error
