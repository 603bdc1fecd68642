"""Which device and precision a process takes; a machine with GPUs is simulated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from mlrec.models.csra import CSRA
from mlrec.training import devices
from mlrec.training.devices import Precision, default_eval_batch, prepare_device, resolve_device, resolve_precision
from mlrec.utils.errors import UsageError
from mlrec.workflows.runtime import RuntimeOptions

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
    expected = "4 processes run on this machine, but only 1 GPU is visible (CUDA_VISIBLE_DEVICES=3); "
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
        rf"GPU X has compute capability {capability[0]}\.{capability[1]}, but this torch build .* has kernels for .*cpu"
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
