"""Which device and precision a process takes; a machine with GPUs is simulated."""

from __future__ import annotations

import pytest
import torch

from mlrec.training.devices import prepare_device, resolve_device, resolve_precision
from mlrec.utils.errors import UsageError

LAUNCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "CUDA_VISIBLE_DEVICES")


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the GPUs that torch seems to see; two of them, unless the test changes the list."""
    names = ["first", "second"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(names))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(torch.cuda, "get_arch_list", list)
    for name in LAUNCH:
        monkeypatch.delenv(name, raising=False)
    return names


def processes(monkeypatch: pytest.MonkeyPatch, local_rank: int, count: int, *, torchrun: bool = True) -> None:
    values = {"LOCAL_RANK": local_rank, "RANK": local_rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    if torchrun:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")


@pytest.mark.parametrize(
    ("capability", "expected"),
    [((6, 1), "fp32"), ((7, 0), "fp16"), ((7, 5), "fp16"), ((8, 0), "bf16"), ((8, 9), "bf16"), ((10, 0), "bf16")],
)
def test_auto_precision_is_that_of_the_gpu_in_use(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    """bf16 is emulated before 8.0, and `is_bf16_supported` is true there, and asks about the current device."""
    of = {torch.device("cuda", 0): (9, 0) if expected != "bf16" else (7, 5), torch.device("cuda", 1): capability}
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", of.__getitem__)
    assert resolve_precision("auto", torch.device("cuda", 1)) == expected


def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch, gpus: list[str]) -> None:
    assert resolve_device("auto") == torch.device("cuda", 0)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    processes(monkeypatch, 1, 2)
    assert resolve_device("auto") == torch.device("cuda", 1)


def test_more_processes_than_gpus_are_refused_with_the_cause(monkeypatch: pytest.MonkeyPatch, gpus: list[str]) -> None:
    gpus.pop()
    processes(monkeypatch, 1, 4)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    with pytest.raises(UsageError) as caught:
        resolve_device("cuda")
    expected = "4 processes on this machine, but only 1 GPU visible (CUDA_VISIBLE_DEVICES=3); "
    assert str(caught.value) == expected + "use torchrun --nproc-per-node 1"


def test_a_task_that_sees_its_own_gpu_alone_takes_it(monkeypatch: pytest.MonkeyPatch, gpus: list[str]) -> None:
    """As under `srun --gpus-per-task 1`."""
    gpus.pop()
    processes(monkeypatch, 3, 4, torchrun=False)
    assert resolve_device("auto") == torch.device("cuda", 0)


def test_one_named_gpu_for_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch, gpus: list[str]) -> None:
    processes(monkeypatch, 0, 2)
    with pytest.raises(UsageError, match="all 2 processes of this machine would use one GPU; use --device cuda"):
        resolve_device("cuda:1")


def test_a_gpu_that_is_not_there_is_refused(gpus: list[str]) -> None:
    with pytest.raises(UsageError, match="cuda:2: this machine has 2 GPUs, numbered from 0"):
        resolve_device("cuda:2")


def test_the_gpu_in_use_becomes_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    prepare_device(torch.device("cuda", 1), "bf16")
    prepare_device(torch.device("cpu"), "fp32")
    assert chosen == [torch.device("cuda", 1)]


@pytest.mark.cuda
def test_the_gpu_of_this_machine_has_the_precision_that_is_chosen() -> None:
    device = resolve_device("auto")
    assert device.type == "cuda"
    assert (resolve_precision("auto", device) == "bf16") == (torch.cuda.get_device_capability(device) >= (8, 0))
    prepare_device(device, "bf16")
    assert torch.cuda.current_device() == device.index
