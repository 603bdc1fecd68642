"""The device and precision of a process (GPUs are simulated), and the advice of errors such as out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch

from mlrec.config import Config
from mlrec.datasets.listing import items_of
from mlrec.models.csra import CSRA
from mlrec.training import devices
from mlrec.training.devices import (
    Precision,
    default_eval_batch,
    explained,
    memory_explained,
    prepare_device,
    resolve_device,
    resolve_precision,
)
from mlrec.utils.errors import RunError, UsageError, is_out_of_memory
from mlrec.workflows.deploy.predict import predict
from mlrec.workflows.evaluate.attend import compute_maps
from mlrec.workflows.evaluate.evaluate import evaluate_run
from mlrec.workflows.runtime import RuntimeOptions
from mlrec.workflows.train.train import train
from tests.tiny import FAST, make_tiny

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
    expected = "4 processes are running on this machine, but only 1 GPU is visible (CUDA_VISIBLE_DEVICES=3); "
    assert str(caught.value) == expected + "use torchrun --nproc-per-node 1"


def test_a_task_that_sees_its_own_gpu_alone_takes_it(monkeypatch: pytest.MonkeyPatch, gpus: list[str]) -> None:
    """As under `srun --gpus-per-task 1`."""
    gpus.pop()
    processes(monkeypatch, 3, 4, torchrun=False)
    assert resolve_device("auto") == torch.device("cuda", 0)


def test_one_named_gpu_for_several_processes_is_refused(monkeypatch: pytest.MonkeyPatch, gpus: list[str]) -> None:
    processes(monkeypatch, 0, 2)
    with pytest.raises(UsageError, match="all 2 processes on this machine would use the same GPU; use --device cuda"):
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


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((7, 0), ["sm_75", "sm_80", "sm_90", "sm_100", "sm_120", "compute_120"], False),  # V100, torch for CUDA 13
        ((7, 0), ["sm_70", "sm_80"], True),
        ((8, 9), ["sm_80", "sm_90"], True),  # L4, kernels of A100
        ((8, 0), ["sm_86", "sm_90"], False),
        ((9, 0), ["sm_80", "sm_90a"], True),
        ((12, 1), ["sm_90", "compute_90"], True),  # compiles for itself
        ((6, 1), ["sm_75", "compute_75"], False),
        ((9, 0), ["gfx90a", "gfx942"], True),  # ROCm
        ((9, 0), [], True),
    ],
)
def test_a_gpu_without_kernels_in_this_torch_is_refused_before_the_first_operation(
    monkeypatch: pytest.MonkeyPatch, gpus: list[str], capability: tuple[int, int], built: list[str], runs: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "GPU X")
    if runs:
        assert resolve_device("auto") == torch.device("cuda", 0)
        return
    cause = (
        rf"GPU X has compute capability {capability[0]}\.{capability[1]}, "
        "but this torch build .* has kernels only for .*cpu"
    )
    with pytest.raises(UsageError, match=cause):
        resolve_device("auto")


@pytest.fixture
def process_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restore what `prepare_device` sets for the whole process."""
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = convolutions


@pytest.mark.usefixtures("process_settings")
@pytest.mark.parametrize(("precision", "tf32"), [("fp32", False), ("tf32", True), ("bf16", True), ("fp16", True)])
def test_products_in_float32_use_tf32_except_in_fp32(precision: Precision, tf32: bool) -> None:
    prepare_device(torch.device("cuda", 0), precision)
    assert torch.backends.cudnn.allow_tf32 is tf32
    assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
    with devices.exact_float32():
        assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.allow_tf32 is tf32


def as_tf32(values: torch.Tensor) -> torch.Tensor:
    """Round float32 to the 11 significant bits of TF32, to nearest."""
    return ((values.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_tf32_in_the_head_changes_logits_as_little_as_the_last_bits_of_features(half: torch.dtype) -> None:
    """TF32 is simulated: products of rounded numbers, sums in float64."""
    torch.manual_seed(0)
    features = torch.randn(4, 2048, 14, 14).relu()
    rounded = features.to(half).to(torch.float32)
    assert torch.equal(as_tf32(rounded), rounded)
    weight = torch.nn.functional.normalize(torch.randn(8, 80, 2048), dim=-1)

    def logits(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        head = CSRA(2048, 80, heads=8, lam=0.5, normalize=False).to(torch.float64)
        head.weight.data = weight.to(torch.float64)
        with torch.no_grad():
            return head(features.to(torch.float64))

    exact = logits(features, weight)
    of_features = (logits(rounded, weight) - exact).square().mean().sqrt()
    of_tf32 = (logits(rounded, as_tf32(weight)) - logits(rounded, weight)).square().mean().sqrt()
    assert of_tf32 < {torch.bfloat16: 0.4, torch.float16: 3}[half] * of_features
    assert of_tf32 < 5e-4 * exact.std()


@pytest.mark.parametrize(("device", "expected"), [("cpu", (2, 16, 256)), ("mps", (2, 16, 256)), ("cuda", (16, 64, 64))])
def test_the_batch_of_an_evaluation_depends_on_device_and_training_only(
    monkeypatch: pytest.MonkeyPatch, device: str, expected: tuple[int, ...]
) -> None:
    """Not on free memory: the last bits of scores depend on the batch."""
    monkeypatch.delattr(torch.cuda, "mem_get_info")
    where = torch.device(device)
    assert tuple(default_eval_batch(size, where) for size in (2, 16, 256)) == expected
    assert RuntimeOptions(batch_size=5).batch_size_for({"eval_batch_size": 7, "batch_size": 9}, where) == 5
    assert RuntimeOptions().batch_size_for({"eval_batch_size": 7, "batch_size": 9}, where) == 7
    for trained, size in zip((2, 16, 256), expected, strict=True):
        assert RuntimeOptions().batch_size_for({"batch_size": trained}, where) == size
    assert RuntimeOptions().batch_size_for({}, where) == expected[1]


@pytest.mark.cuda
def test_the_gpu_of_this_machine_has_the_precision_that_is_chosen() -> None:
    device = resolve_device("auto")
    assert device.type == "cuda"
    assert (resolve_precision("auto", device) == "bf16") == (torch.cuda.get_device_capability(device) >= (8, 0))
    prepare_device(device, "bf16")
    assert torch.cuda.current_device() == device.index


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
