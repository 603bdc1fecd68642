"""Setup of process and model on simulated devices."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mlrec.config import Config
from mlrec.training import devices, features, loop, setup, timing
from mlrec.training.devices import explained
from mlrec.utils.errors import RunError

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")


@pytest.fixture
def process_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give back what `prepare_process` sets for the whole process."""
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    benchmark, matmul = torch.backends.cudnn.benchmark, torch.get_float32_matmul_precision()
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = benchmark
    torch.set_float32_matmul_precision(matmul)


@pytest.mark.usefixtures("process_settings")
def test_deterministic_is_strict_and_ends_with_its_run() -> None:
    """With warn_only the backward pass of attention keeps its kernels, which are not deterministic."""
    setup.prepare_process(Config(deterministic=True), CUDA, "bf16")
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.backends.cudnn.benchmark
    setup.prepare_process(Config(), CUDA, "bf16")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.usefixtures("process_settings")
def test_kernels_are_searched_in_long_trainings_only() -> None:
    """On an H100 the search took about a minute of each training of 300 steps, whose steps took 15 seconds."""
    setup.prepare_process(Config(epochs=6, batch_size=16), CUDA, "bf16", 913)
    assert not torch.backends.cudnn.benchmark
    setup.prepare_process(Config(epochs=30, batch_size=16), CUDA, "bf16", 82_081)
    assert torch.backends.cudnn.benchmark
    setup.prepare_process(Config(epochs=30, batch_size=16, deterministic=True), CUDA, "bf16", 82_081)
    assert not torch.backends.cudnn.benchmark


def test_an_operation_without_a_deterministic_form_is_named() -> None:
    text = "upsample_bicubic2d_backward_out_cuda does not have a deterministic implementation, but you set 'torch...'"
    with (
        pytest.raises(RunError, match="--deterministic: upsample_bicubic2d_backward_out_cuda in this backbone"),
        explained(Config(deterministic=True), CUDA, "bf16"),
    ):
        raise RuntimeError(text)


@pytest.mark.parametrize(
    ("device", "deterministic", "exact"),
    [(CPU, False, True), (CUDA, True, True), (CUDA, False, False), (MPS, False, False), (MPS, True, False)],
)
def test_a_resumed_run_says_when_it_is_not_bit_exact(device: torch.device, deterministic: bool, exact: bool) -> None:
    note = setup.resume_note(Config(deterministic=deterministic), device)
    assert (note is None) == exact
    if note is not None:
        assert note.startswith(f"resuming on {device.type} without --deterministic: ")


@pytest.mark.parametrize(
    ("device", "asked", "expected"),
    [
        (CPU, True, torch.channels_last),
        (CUDA, True, torch.channels_last),
        (MPS, True, torch.contiguous_format),  # wrong gradients of BatchNorm
        (CPU, False, torch.contiguous_format),
    ],
)
def test_the_memory_format(device: torch.device, asked: bool, expected: torch.memory_format) -> None:
    assert devices.memory_format(device, channels_last=asked) is expected


@pytest.mark.parametrize(("device", "due"), [(CPU, True), (CUDA, False), (MPS, False)])
def test_losses_are_fetched_from_a_gpu_of_any_kind_rarely(device: torch.device, due: bool) -> None:
    state = SimpleNamespace(step=3, batch=3)
    assert loop._sync_is_due(state, device, Config(), 100) is due  # type: ignore[arg-type]


@pytest.mark.parametrize(("device", "waits"), [(CPU, 0), (CUDA, 1), (MPS, 1)])
def test_timing_waits_for_a_gpu_of_any_kind(monkeypatch: pytest.MonkeyPatch, device: torch.device, waits: int) -> None:
    waited: list[torch.device] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", waited.append)
    timing._wait(device)
    assert len(waited) == waits


VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            300000.
Pages inactive:                           20000.
Pages speculative:                         3000.
Pages throttled:                              0.
Pages wired down:                        100000.
Pages purgeable:                            400.
"Translation faults":                 123456789.
"""


@pytest.mark.parametrize(("report", "expected"), [(VM_STAT, 16384 * 33400), ("", None)])
def test_free_memory_of_macos(monkeypatch: pytest.MonkeyPatch, report: str, expected: int | None) -> None:
    """It has neither /proc nor SC_AVPHYS_PAGES."""
    monkeypatch.setattr(features.os, "sysconf_names", {"SC_PAGE_SIZE": 1})
    monkeypatch.setattr(features.sys, "platform", "darwin")
    monkeypatch.setattr(Path, "exists", lambda _: False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=report))
    assert features._free_memory() == expected
