"""`mlrec doctor`: check with a short training run that this machine can train on a dataset."""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from mlrec import __version__
from mlrec.datasets import dataset as folders
from mlrec.datasets.dataset import Dataset, Info, label_gaps, load_or_latest
from mlrec.datasets.manifest import Manifest
from mlrec.datasets.split_names import disjoint
from mlrec.utils import processes
from mlrec.utils.errors import DataError, MlrecError, counted
from mlrec.utils.progress import NOTHING, SILENT, Progress, logged_from
from mlrec.utils.signals import Interrupted, stopped_says
from mlrec.utils.texts import shared
from mlrec.workflows.train.train import TrainPlan, named_config, resolve_plan, train

if TYPE_CHECKING:
    from mlrec.models.classifier import Classifier

Verdict = Literal["ok", "warning", "error"]
PACKAGES = ("torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - torch passes batches between processes here
NO_DATA = "no dataset is prepared"
SMALL_DISK, SMALL_SHARED = 5e9, 1e9  # bytes; Docker gives 64 MB of shared memory
NO_DISK = 1e8  # bytes; less is enough for the smallest backbones only
IMAGES_TRIED, SAMPLES_TRAINED = 32, 16
# settings of the short training: no download, a few seconds on any machine
SHORT = {
    "backbone": "resnet18",
    "pretrained": False,
    "img_size": 64,
    "batch_size": 4,
    "epochs": 1,
    "warmup_epochs": 0.0,
}


@dataclass(frozen=True)
class Check:
    """Result of one check by `mlrec doctor`.

    Attributes:
        name: Name of the check.
        verdict: Result of the check: "ok", "warning" or "error".
        found: Finding of the check, as text.
        advice: Advice on how to fix the problem, or an empty string.
    """

    name: str
    verdict: Verdict
    found: str
    advice: str = ""


def _checked(name: str, found: str, advice: str) -> Check:
    """Return a check result: "warning" if there is advice, otherwise "ok"."""
    if advice:
        return Check(name, "warning", found, advice)
    return Check(name, "ok", found)


@dataclass(frozen=True)
class Diagnosis:
    """Results of all checks by `mlrec doctor`."""

    checks: list[Check]

    @property
    def verdict(self) -> Verdict:
        """Worst verdict of all checks."""
        order: list[Verdict] = ["ok", "warning", "error"]
        return max((check.verdict for check in self.checks), key=order.index, default="ok")

    def in_words(self) -> str:
        """Return one line that states whether training is possible."""
        bad = [check.name for check in self.checks if check.verdict == "error"]
        odd = [check.name for check in self.checks if check.verdict == "warning"]
        if bad:
            return f"not ready to train: {', '.join(bad)}"
        if any(check.found == NO_DATA for check in self.checks):
            return "this machine can train; prepare a dataset first: mlrec prepare"
        if odd:
            return f"ready to train, with warnings: {', '.join(odd)}"
        return "ready to train"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-compatible data that `mlrec doctor --json` prints."""
        return {"verdict": self.verdict, "summary": self.in_words(), "checks": [asdict(check) for check in self.checks]}


def doctor(
    data: Path | str | None = None,
    *,
    device: str | None = None,
    workers: int | None = None,
    flags: Mapping[str, Any] | None = None,
    file: Path | None = None,
    recipe: str | None = None,
    out: Path | str = "runs",
    data_root: Path | str = "data",
    progress: Progress = SILENT,
) -> Diagnosis:
    """Check the environment, disk, data and weights, and run a few training steps in a temporary folder.

    Splits, device and weights are resolved by the same functions as in `train`, with the same keys. Weights are looked
    up on the hub but not downloaded. The temporary folder is removed at the end.

    Args:
        data: Folder of a prepared dataset [default: `data` in the config, otherwise the most recently prepared dataset,
            otherwise synthetic images].
        device: Training device [default: as in training].
        workers: Number of dataloader workers [default: as in training].
        flags: Additional keys of `Config`, see `train`.
        file: TOML file with keys of `Config`; see `train`.
        recipe: Name of a recipe, see `train`.
        out: Folder of runs, for which permissions and disk space are checked.
        data_root: Folder of prepared datasets.
        progress: Progress display with one step per group of checks.

    Raises:
        ConfigError: A key or a value is invalid.
    """
    own = {"data": data and str(data), "device": device, "workers": workers}
    keys = {**(flags or {}), **{key: value for key, value in own.items() if value is not None}}
    config = named_config(keys, file, recipe)
    checks: list[Check] = []
    dataset: list[Dataset] = []
    plans: list[TrainPlan] = []
    models: list[Classifier] = []
    parts: list[tuple[str, Callable[[], Iterator[Check]]]] = [
        ("packages", _packages),
        ("device", lambda: _device(config.device)),
        ("decoder", _decoder),
        ("machine", lambda: _machine(Path(out), config.workers, config.device)),
        ("data", lambda: _data(config.data, Path(data_root), dataset)),
        ("settings", lambda: _settings(keys, file, recipe, dataset, plans)),
        ("weights", lambda: _weights(plans, models)),
        ("speed", lambda: _speed(plans, models)),
        ("training", lambda: _training(dataset, config.device, config.workers)),
    ]
    with progress.task("checking", len(parts)) as step:
        for name, part in parts:
            try:
                with stopped_says("stopped before all checks were done"):
                    checks.extend(part())
            except Interrupted:
                raise
            except MlrecError as error:
                checks.append(Check(name, "error", str(error).partition("\n")[0]))
            except Exception as error:  # noqa: BLE001 - any error is a finding
                checks.append(
                    Check(
                        name,
                        "error",
                        f"{type(error).__name__}: {error}",
                        "run mlrec --debug doctor",
                    )
                )
            step(facts=name)
    return Diagnosis(checks)


def _packages() -> Iterator[Check]:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    yield Check("packages", "ok", f"mlrec {__version__}, python {platform.python_version()}, {', '.join(versions)}")
    torch, _ = importlib.import_module("torch"), importlib.import_module("torchvision")
    try:
        boxes = torch.ops.torchvision.nms(torch.tensor([[0.0, 0, 1, 1]]), torch.ones(1), 0.5)
        fits = len(boxes) == 1
    except (RuntimeError, AttributeError):
        fits = False
    if not fits:
        yield Check(
            "torchvision",
            "error",
            "not compatible with this torch",
            "install torch and torchvision together, in one command",
        )


def _device(name: str) -> Iterator[Check]:
    import torch

    from mlrec.training.devices import resolve_device, resolve_precision

    device = resolve_device(name)
    precision = resolve_precision("auto", device)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        count = torch.cuda.device_count()
        name = torch.cuda.get_device_name(device)
        text = f"{counted(count, 'GPU')}, using {name}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"
        advice = ""
        if free <= total / 2:
            advice = "other programs are using GPU memory; check nvidia-smi"
        yield _checked("device", f"{device}: {text}, CUDA {torch.version.cuda}", advice)
    elif device.type == "cpu" and shutil.which("nvidia-smi"):
        advice = "check the driver with nvidia-smi"
        if torch.version.cuda is None:
            advice = "install a CUDA build of torch"
        yield Check("device", "warning", "cpu, although an NVIDIA GPU seems to be present", advice)
    else:
        yield Check("device", "ok", f"{device.type}, {counted(torch.get_num_threads(), 'thread')}")
    product = torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)
    if (product == 8).all():
        yield Check("precision", "ok", f"{precision} by default")
    else:
        yield Check("precision", "error", "a matrix product is wrong", "check the driver, or use --device cpu")


def _decoder() -> Iterator[Check]:
    """Compare both decoders on a JPEG image."""
    from PIL import Image

    from mlrec.datasets.images.decode import decode_bytes

    ramp = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(ramp).save(stream, "JPEG", quality=95)
    begun = time.perf_counter()
    fast = decode_bytes(stream.getvalue(), "test.jpg", "fast").pixels.astype(np.int16)
    seconds = time.perf_counter() - begun
    difference = int(np.abs(fast - decode_bytes(stream.getvalue(), "test.jpg", "pil").pixels).max())
    text = f"simplejpeg and Pillow differ by at most {difference} of 255 ({1000 * seconds:.1f} ms)"
    if difference <= 8:
        yield Check("decoder", "ok", text)
    else:
        yield Check("decoder", "warning", text, "train with --image-backend pil")


def _machine(out: Path, workers: int | None, device: str = "auto") -> Iterator[Check]:
    from mlrec.training.dataloader import default_workers
    from mlrec.training.devices import resolve_device

    cores = processes.cores()
    if workers is None:
        workers = default_workers(resolve_device(device))
    advice = ""
    if cores < 2:
        advice = f"decoding on {cores} core is slow; use --freeze-backbone to cache features"
    yield _checked("workers", f"{counted(workers, 'dataloader worker')}, {cores} cores", advice)
    if SHARED_MEMORY.is_dir():
        free = shutil.disk_usage(SHARED_MEMORY).free
        advice = ""
        if workers > 0 and free < SMALL_SHARED:
            advice = "in a container, use --shm-size 8g or --ipc=host; otherwise, reduce --workers"
        yield _checked("shared memory", f"{free / 1e9:.1f} GB free", advice)
    yield _disk(out)


def _disk(out: Path) -> Check:
    folder = next(parent for parent in (out.absolute(), *out.absolute().parents) if parent.is_dir())
    if not os.access(folder, os.W_OK):
        return Check("disk", "error", f"{folder} is not writable", "choose a different --out")
    free = shutil.disk_usage(folder).free
    text = f"{free / 1e9:.1f} GB free at {folder}"
    if free >= SMALL_DISK:
        return Check("disk", "ok", text)
    advice = "a run needs space for weights and two checkpoints, about 1 GB for a ResNet-101"
    return Check("disk", "error" if free < NO_DISK else "warning", text, advice)


def _data(path: str | None, root: Path, found: list[Dataset]) -> Iterator[Check]:
    try:
        dataset = load_or_latest(path, root)
    except DataError as error:
        if path is not None or any(root.glob(f"*/{folders.DATASET_FILE}")):
            raise
        yield Check("data", "warning", NO_DATA, f"{error}; synthetic images are used instead")
        return
    manifests = {name: dataset.manifest(name) for name in dataset.info.splits}
    sizes = ", ".join(f"{name} {len(manifest):,}" for name, manifest in manifests.items())
    yield Check("data", "ok", f"{dataset.path}: {counted(len(dataset.info.labels), 'label')}; {sizes}")
    for name, manifest in manifests.items():
        yield from _split(name, manifest)
    for overlap in _overlaps(list(manifests.values())):
        yield Check(
            "splits", "warning", overlap, "scores on these splits are too high; split the data again with mlrec split"
        )
    found.append(dataset)


def _split(name: str, manifest: Manifest) -> Iterator[Check]:
    """Check that the AP of every label is defined, and decode some images."""
    from mlrec.datasets.images.decode import decode

    for line in label_gaps(manifest).lines():
        yield Check(
            f"labels of {name}",
            "warning",
            line,
            "these labels are excluded from mAP; annotate more samples, or split again",
        )
    places = np.unique(np.linspace(0, max(len(manifest) - 1, 0), min(IMAGES_TRIED, len(manifest))).astype(np.intp))
    bad, begun = [], time.perf_counter()
    for place in places:
        try:
            decode(manifest.root / manifest.images[place])
        except DataError as error:
            bad.append(str(error))
    each = 1000 * (time.perf_counter() - begun) / max(len(places), 1)
    if bad:
        advice = "mount or copy the images to the folder in the manifest, or run mlrec prepare again"
        yield Check(
            f"images of {name}", "error", f"{len(bad)} of {len(places)} tested images cannot be read: {bad[0]}", advice
        )
    else:
        yield Check(f"images of {name}", "ok", f"{len(places)} tested, {each:.1f} ms each")


def _overlaps(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Find pairs of splits that share images but must be disjoint, see `split_names.disjoint`."""
    for first, second in combinations(manifests, 2):
        if not disjoint(first.split, second.split):
            continue
        both = shared(first.images, second.images)
        if both:
            count = counted(len(both), "image")
            yield f"{first.split} and {second.split} share {count} (first: {min(both)})"


def _settings(
    flags: Mapping[str, Any], file: Path | None, recipe: str | None, found: list[Dataset], plans: list[TrainPlan]
) -> Iterator[Check]:
    """Resolve the settings of the run that `train` would start."""
    if not found:
        return
    from mlrec.training.setup import resolve_runtime

    with logged_from(NOTHING):
        plan = resolve_plan(flags, file=file, recipe=recipe, dataset=found[0])
    resolve_runtime(plan.config, plan.train)
    plans.append(plan)
    name = plan.resolved.recipe
    yield Check("settings", "ok", f"recipe {name}: train on {plan.train.split}, score {plan.scored.split}")


def _weights(plans: list[TrainPlan], models: list[Classifier]) -> Iterator[Check]:
    """Build the model that `train` would build; weights on the hub are only looked up."""
    if not plans:
        return
    from mlrec.models.backbones import paper_weights, pretrained_settings
    from mlrec.models.hub import find_weights
    from mlrec.training.setup import build_model

    plan, config = plans[0], plans[0].config
    from_hub = config.pretrained and config.init_from is None and config.weights is None
    local = msgspec.structs.replace(config, pretrained=config.pretrained and not from_hub)
    model = build_model(local, plan.train, paper=plan.paper)
    source = model.backbone.origin or f"{model.backbone.name}: random initialization"
    if from_hub:
        name = config.backbone
        if plan.paper:
            name = paper_weights(name)
        source = f"{model.backbone.name}: {find_weights(name, pretrained_settings(name))}"
    models.append(model)
    yield Check("weights", "ok", f"{source}; {config.img_size} px, {counted(_parameters(model), 'parameter')}")


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _speed(plans: list[TrainPlan], models: list[Classifier]) -> Iterator[Check]:
    """Check whether the data pipeline or the device would limit the speed of the run that `train` would start."""
    if not models:
        return
    from mlrec.training.dataloader import default_workers
    from mlrec.training.setup import resolve_runtime
    from mlrec.training.throughput import Speed, computing_seconds, decoding_seconds

    plan, config, model = plans[0], plans[0].config, models.pop()
    device, precision, _ = resolve_runtime(config, plan.train)
    decoding = decoding_seconds(plan.train, config, model.preprocessing)
    computing = computing_seconds(model, plan.train, config, device, precision)
    workers = config.workers
    if workers is None:
        workers = default_workers(device)
    speed = Speed(decoding, computing, workers, processes.cores(), str(device))
    yield Check("speed", "warning" if speed.data_limits else "ok", speed.in_words(), speed.advice())


def _training(found: list[Dataset], device: str, workers: int | None) -> Iterator[Check]:
    """Train for one epoch on a few samples, with dataloader workers, a checkpoint and an evaluation."""
    from mlrec.models.checkpoint import load_model
    from mlrec.run_folders.directory import log_entries

    with tempfile.TemporaryDirectory(prefix="mlrec-doctor-") as scratch:
        source = found[0].info.name if found else "synthetic images"
        data = _small_dataset(found, Path(scratch))
        flags: dict[str, Any] = {**SHORT, "data": str(data), "device": device}
        if workers is not None:
            flags["workers"] = workers
        start = time.perf_counter()
        run = train(flags, recipe="paper", out=Path(scratch) / "runs", command=["mlrec", "doctor"])
        seconds = time.perf_counter() - start
        losses = [entry["loss"] for entry in log_entries(run.path) if entry["event"] == "epoch"]
        load_model(run.path)
    if not losses or losses[-1] is None or not np.isfinite(losses[-1]):
        yield Check("training", "error", "the loss is NaN or infinite", "report this with the output of doctor --json")
    else:
        text = f"{counted(SAMPLES_TRAINED, 'sample')} of {source} trained, scored, saved and loaded in {seconds:.1f} s"
        yield Check("training", "ok", f"{text}, loss {losses[-1]:.3f}")


def _small_dataset(found: list[Dataset], scratch: Path) -> Path:
    """Write a small dataset: a few samples from the first split with positives, or synthetic images."""
    if not found:
        manifest = _synthetic(scratch / "images")
    else:
        splits = [found[0].manifest(name) for name in found[0].info.splits]
        manifest = next((m for m in splits if m.sparse_targets.counts(1).any()), splits[0])
    positive = np.flatnonzero(manifest.sparse_targets.per_sample(1))[:SAMPLES_TRAINED]
    parts = [manifest.subset(positive, "train"), manifest.subset(positive[: SAMPLES_TRAINED // 2], "val")]
    target = scratch / "data"
    target.mkdir()
    info = Info("doctor", {"kind": "csv"}, "paper", list(manifest.labels), {part.split: len(part) for part in parts})
    folders.write(target, info, parts)
    return target


def _synthetic(path: Path) -> Manifest:
    """Draw images in one of two colors."""
    from PIL import Image

    path.mkdir()
    names, targets = [], np.tile(np.eye(2, dtype=np.int8), (SAMPLES_TRAINED // 2, 1))
    for k, (red, _) in enumerate(targets):
        names.append(f"{k}.jpg")
        pixels = np.full((48, 64, 3), (200, 30, 30) if red else (30, 30, 200), np.uint8)
        Image.fromarray(pixels).save(path / names[-1], "JPEG")
    return Manifest("doctor", "train", path, ("red", "blue"), tuple(names), targets)
