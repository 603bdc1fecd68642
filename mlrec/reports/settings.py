"""Settings of a run beside its method: what two rows differ in, and in what a run differs from the paper's recipe."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import msgspec

from mlrec import recipes
from mlrec.config import FIELDS, PATHS, resolve
from mlrec.lineage import CUTMIX_TAG, Lineage
from mlrec.reports.render.table import UNDEFINED
from mlrec.runs.ancestry import training_of
from mlrec.runs.record import Scored

Settings = Mapping[str, Any]
# Keys that do not change what is measured: runs that differ in these alone are the same method.
NOT_THE_METHOD = {
    "seed", "data", "device", "workers", "threads", "eval_batch_size", "save_every", "eval_every", "compile",
    "tensorboard", "deterministic", "channels_last",
}  # fmt: skip
# Keys that are the method, or have a column or a setting of another name.
METHOD = {
    "backbone", "head", "heads", "lam", "img_size", "normalize", "temperatures", "logit_scale", "pooling",
}  # fmt: skip
_OTHERWISE_NAMED = {"split", "train_split", "select_split", "pretrained", "weights", "weights_origin", "init_from"}
KEYS = tuple(sorted(set(FIELDS) - NOT_THE_METHOD - METHOD - _OTHERWISE_NAMED))
WEIGHTS, BEFORE, SPLIT, DATA = "weights", "trained before on", "train_split", "train data"
# Keys that have an effect only if another key has none of these values.
_WITHOUT_EFFECT: dict[str, tuple[str, tuple[Any, ...]]] = {
    "ema_decay": ("ema", (False,)),
    "gamma_neg": ("loss", ("bce", "focal")),
    "gamma_pos": ("loss", ("bce",)),
    "asl_clip": ("loss", ("bce", "focal")),
    "momentum": ("opt", ("adamw",)),
    "randaugment_magnitude": ("randaugment", (0,)),
    "lr_step_epochs": ("lr_schedule", ("cosine", "constant")),
    "step_gamma": ("lr_schedule", ("cosine", "constant")),
    "warmup_from_zero": ("warmup_epochs", (0,)),
}
# Recipes whose runs may stand beside the paper's rows: its own text, its public code, the baseline that its authors
# report, and the one row with RandAugment. A recipe that names a head or a backbone stands for these only.
EQUIVALENT = ("paper", "paper-code", "paper-baseline", "coco-vit-l16-csra-randaugment")
# Tags of the paper's weights. The original ones of ViT-L/16 are gone from timm; AugReg's are declared to stand in.
PAPER_WEIGHTS = {
    "resnet50": ("tv_in1k",),
    "resnet101": ("tv_in1k", CUTMIX_TAG),
    "vit_base_patch16_224": ("orig_in21k_ft_in1k",),
    "vit_base_patch16_384": ("orig_in21k_ft_in1k",),
    "vit_large_patch16_224": ("orig_in21k_ft_in1k", "augreg_in21k_ft_in1k"),
}
STAND_IN = (
    "AugReg weights (augreg_in21k_ft_in1k) stand in for the paper's original ones of ViT-L/16, which timm dropped"
)
TRAINING = "training"  # the one key beside the weights of a model that was trained elsewhere
UNKNOWN_TRAINING = f"{TRAINING} unknown"


def settings_of(config: Mapping[str, Any], lineage: Lineage, train: Scored | None) -> Settings:
    """What the numbers of a run depend on beside method, size of the input and scored data, by key.

    Args:
        config: Every key of `Config` with its value.
        lineage: Where its starting weights come from.
        train: What it was trained on; None for a model that was trained elsewhere, whose settings are unknown.
    """
    if train is None:
        return {WEIGHTS: lineage.label, TRAINING: "unknown"}
    settings = {key: _plain(config.get(key)) for key in KEYS if not _is_without_effect(key, config)}
    earlier = lineage.on_same_data(training_of(train))
    before = ", ".join(f"{training.dataset} {training.split}" for training in earlier) or None
    return settings | {WEIGHTS: lineage.label, BEFORE: before, SPLIT: train.split, DATA: train.digest[:8]}


def differing(settings: Sequence[Settings]) -> list[str]:
    """Keys in which some of these settings differ, sorted; training data are named by split if that differs."""
    keys = sorted({key for one in settings for key in one})
    found = [key for key in keys if len({repr(one.get(key)) for one in settings}) > 1]
    return [key for key in found if key != DATA or SPLIT not in found]


def shown_beside(own: Settings, among: Sequence[Settings]) -> str:
    """In words, the settings in which runs shown together differ; of one trained elsewhere, all that is known."""
    if TRAINING in own:
        return in_words(own, sorted(own))
    return in_words(own, differing([one for one in among if TRAINING not in one]))


def in_words(settings: Settings, keys: Sequence[str]) -> str:
    """`epochs 80, opt adamw`: these keys and their values."""
    return ", ".join(f"{key} {setting_text(key, settings.get(key))}" for key in keys)


@functools.cache
def recipe_values(recipe: str, kind: str, head: str) -> Mapping[str, Any]:
    """Every key of `Config` as a recipe sets it for a kind of source and a head."""
    layers = [(f"recipe {part}", tables) for part, tables in recipes.chain(recipe)]
    config = resolve(("head", {"head": head}), *layers, source_kind=kind).config
    values: dict[str, Any] = msgspec.to_builtins(config)
    return values


def beside_paper(
    config: Mapping[str, Any], settings: Settings, lineage: Lineage, kind: str, train: Scored | None
) -> tuple[str, list[str]]:
    """How a run was trained compared with the paper.

    Args:
        config: Every key of `Config` with its value.
        settings: Its `settings_of`.
        lineage: Where its starting weights come from.
        kind: Kind of the data.
        train: What it was trained on.

    Returns:
        The recipe among `EQUIVALENT` that it followed, "" for none, and every difference from recipe paper in words:
        none if it followed a recipe and started from the paper's weights.
    """
    if train is None:
        return "", [UNKNOWN_TRAINING]
    apart = {name: _apart_from(name, config, settings, kind) for name in EQUIVALENT if _applies(name, config)}
    followed = next((name for name, keys in apart.items() if not keys), "")
    found = [] if followed else [in_words(settings, apart["paper"])]
    expected = PAPER_WEIGHTS.get(str(config.get("backbone", "")).partition(".")[0])
    if lineage.origin == "random" or (expected is not None and lineage.tag not in expected):
        found.append(f"weights {lineage.label}")
    if settings.get(BEFORE):
        found.append(f"{BEFORE} {settings[BEFORE]}")
    return followed, found


def alike_but_for_method(ours: Mapping[str, Any], theirs: Mapping[str, Any], kind: str) -> list[str]:
    """Settings in which two runs differ, except those that recipe paper sets for each head and both follow.

    Args:
        ours: Settings of a run, its head under "head".
        theirs: The same of the other one.
        kind: Kind of the data.
    """
    if TRAINING in ours or TRAINING in theirs:
        return [UNKNOWN_TRAINING]
    keys = differing([without_head(one) for one in (ours, theirs)])
    return [key for key in keys if not (_as_paper(key, ours, kind) and _as_paper(key, theirs, kind))]


def without_head(facts: Mapping[str, Any]) -> Settings:
    """Settings alone, of a mapping that holds the head as well."""
    return {key: value for key, value in facts.items() if key != "head"}


def _as_paper(key: str, settings: Mapping[str, Any], kind: str) -> bool:
    expected = recipe_values("paper", kind, str(settings["head"]))
    return key in expected and settings.get(key) == _plain(expected[key])


def _applies(recipe: str, config: Mapping[str, Any]) -> bool:
    named: dict[str, Any] = {}
    for _, tables in recipes.chain(recipe):
        own = {key: tables.get(key) for key in ("head", "backbone")}
        named = {key: value for key, value in own.items() if isinstance(value, str)} | named  # else an overlay
    plain = {"head": str(config.get("head")), "backbone": str(config.get("backbone")).partition(".")[0]}
    return all(plain[key] == value for key, value in named.items())


def _apart_from(recipe: str, config: Mapping[str, Any], settings: Settings, kind: str) -> list[str]:
    expected = recipe_values(recipe, kind, str(config.get("head")))
    keys = [key for key in KEYS if not _is_without_effect(key, config)]
    return [key for key in keys if settings.get(key) != _plain(expected[key])]


def _is_without_effect(key: str, config: Mapping[str, Any]) -> bool:
    switch, values = _WITHOUT_EFFECT.get(key, ("", ()))
    return config.get(switch) in values


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def setting_text(key: str, value: object) -> str:
    """A setting's value in words: `on`, `0.1`, `0.7-1`; of a path its name, without the folders of a machine."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return UNDEFINED
    if isinstance(value, list):
        return "-".join(f"{number:g}" for number in value)
    if key in PATHS and PurePath(str(value)).is_absolute():
        return PurePath(str(value)).name
    return f"{value:g}" if isinstance(value, float) else str(value)
