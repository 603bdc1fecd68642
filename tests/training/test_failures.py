"""Out of memory: every form that libraries give it is one line, with advice that fits the command."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch

from mlrec.config import Config
from mlrec.datasets.listing import items_of
from mlrec.training.devices import Precision
from mlrec.training.failures import explained, memory_explained
from mlrec.utils.errors import RunError, is_out_of_memory
from mlrec.workflows.deploy.predict import predict
from mlrec.workflows.evaluate.attend import compute_maps
from mlrec.workflows.evaluate.evaluate import evaluate_run
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.train import train
from tests.tiny import FAST, make_tiny

CPU = torch.device("cpu")
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


class OnnxRuntimeError(Exception):
    __module__ = "onnxruntime.capi.onnxruntime_pybind11_state"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        CUDA,
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported asynchronously"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, max allowed: 9.07 GB)."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA driver error: CUDA_ERROR_OUT_OF_MEMORY"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
        OnnxRuntimeError("Failed to allocate memory for requested buffer of size 268435456"),
    ],
)
def test_all_forms_of_out_of_memory_are_known(error: BaseException) -> None:
    assert is_out_of_memory(error)
    advice = "out of memory at 8 images of 32 px per batch; try --size 4"
    with pytest.raises(RunError, match=advice), memory_explained("--size", CPU, batch_size=8, size=32):
        raise error


def test_torch_itself_is_understood() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**58, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied (4x8 and 9x3)"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        RunError("out of memory at batch size 4"),
        OSError("out of memory"),
    ],
)
def test_other_errors_stay_as_they_are(error: Exception) -> None:
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)) as raised, memory_explained("--size", CPU, batch_size=8, size=32):
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("device", "precision", "batch", "advice"),
    [
        ("cpu", "fp32", 16, "out of memory at 16 images of 32 px per batch; try -b 8 or --precision bf16"),
        ("cpu", "bf16", 3, "out of memory at 3 images of 32 px per batch; try -b 1"),
        ("mps", "bf16", 1, "out of GPU memory at 1 images of 32 px per batch; try --device cpu"),
        ("mps", "fp32", None, "out of GPU memory before the first batch; try --precision bf16"),
    ],
)
def test_advice_of_scoring_needs_less_memory(device: str, precision: Precision, batch: int | None, advice: str) -> None:
    where = torch.device(device)
    with pytest.raises(RunError) as raised, memory_explained("-b", where, precision, batch_size=batch, size=32):
        raise CUDA
    assert str(raised.value) == advice


@pytest.mark.parametrize(
    ("batch", "accum", "world", "told"),
    [
        (16, 1, 1, "batch size 16 in 1 part, 64 px, bf16; try --grad-accum-steps 2 (parts of 8)"),
        (7, 1, 1, "batch size 7 in 1 part, 64 px, bf16; try --grad-accum-steps 7 (parts of 1)"),
        (24, 2, 1, "batch size 24 in 2 parts, 64 px, bf16; try --grad-accum-steps 4 (parts of 6)"),
        (
            16,
            2,
            4,
            "batch size 16 (4 in each of 4 processes) in 2 parts, 64 px, bf16; try --grad-accum-steps 4 (parts of 1)",
        ),
        (16, 4, 4, "batch size 16 (4 in each of 4 processes) in 4 parts, 64 px, bf16; try a smaller --img-size"),
    ],
)
def test_advice_of_training_is_a_config_that_trains_and_needs_less(
    batch: int, accum: int, world: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(world))
    config = Config(batch_size=batch, grad_accum_steps=accum, img_size=64)
    with pytest.raises(RunError) as raised, explained(config, CPU, "bf16"):
        raise CUDA
    assert str(raised.value) == f"out of memory at {told}"
    if "--grad-accum-steps" in told:
        advised = int(told.split("--grad-accum-steps ")[1].split()[0])
        assert batch % advised == 0
        assert -(-batch // world // advised) < -(-batch // world // accum)
        msgspec.structs.replace(config, grad_accum_steps=advised)


def full(*_: object, **__: object) -> None:
    raise CUDA


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("memory"))


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    return train({**FAST, "data": str(data), "epochs": 1, "freeze_backbone": True}, out=data.parents[1] / "runs").path


@pytest.mark.parametrize("place", ["make_state", "make_network", "build_model"])
def test_before_the_first_step_too(place: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"mlrec.training.setup.{place}", full)
    with pytest.raises(
        RunError, match=r"out of memory at batch size 4 in 1 part, 32 px, fp32; try --grad-accum-steps 2"
    ):
        train({**FAST, "data": str(data)}, out=tmp_path)


@pytest.mark.parametrize("frozen", [False, True])
def test_scoring_within_training_names_its_own_flag(
    frozen: bool, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlrec.training.prediction.normalize", full)
    with pytest.raises(RunError, match=r"at 4 images of 32 px per batch; try --eval-batch-size 2 or --precision bf16"):
        train({**FAST, "data": str(data), "epochs": 1, "freeze_backbone": frozen}, out=tmp_path)


def test_scoring_commands_name_their_flag(run: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlrec.training.prediction.normalize", full)
    here, images = RuntimeOptions(workers=0, device="cpu"), data / "val.jsonl"
    for command in (
        lambda: evaluate_run(run, machine=here),
        lambda: list(predict(run, images, machine=here)),
        lambda: compute_maps(run, items_of([str(images)]), machine=here),
    ):
        with pytest.raises(RunError, match=r"at 4 images of 32 px per batch; try --batch-size 2 or --precision bf16"):
            command()
