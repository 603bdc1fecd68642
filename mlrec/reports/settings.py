"""Run settings other than the method, and their differences between runs and from the paper."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import msgspec

from mlrec.config import FIELDS, PATHS
from mlrec.config_layers import recipe_chain, resolve
from mlrec.lineage import CUTMIX_TAG, Lineage
from mlrec.reports.render.table import UNDEFINED
from mlrec.run_folders.record import SplitRecord

Settings = Mapping[str, Any]
_MACHINE = {"device", "workers", "threads", "eval_batch_size", "compile", "deterministic", "channels_last"}
_OUTPUT = {"save_every", "eval_every", "trackers", "tensorboard"}
# Keys that do not change what is measured: runs that differ only in these are the same method.
NOT_THE_METHOD = {"seed", "data"} | _MACHINE | _OUTPUT
# Keys that define the method, or that have a column or a setting of another name.
METHOD = {"backbone", "head", "heads", "lam", "img_size", "normalize", "temperatures", "logit_scale", "pooling"}
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
# Recipes whose runs are comparable with the rows of the paper: its text, its public code, the baseline that its authors
# report, and the row with RandAugment. A recipe that sets a head or a backbone applies to these only.
EQUIVALENT = ("paper", "paper-code", "paper-baseline", "coco-vit-l16-csra-randaugment")
# Tags of the paper's weights. timm no longer has the original ones of ViT-L/16; AugReg weights replace them.
PAPER_WEIGHTS = {
    "resnet50": ("tv_in1k",),
    "resnet101": ("tv_in1k", CUTMIX_TAG),
    "vit_base_patch16_224": ("orig_in21k_ft_in1k",),
    "vit_base_patch16_384": ("orig_in21k_ft_in1k",),
    "vit_large_patch16_224": ("orig_in21k_ft_in1k", "augreg_in21k_ft_in1k"),
}
STAND_IN = (
    "AugReg weights (augreg_in21k_ft_in1k) replace the original ViT-L/16 weights of the paper, because timm no longer "
    "provides the original weights"
)
TRAINING = "training"  # for a model that was trained elsewhere, the only key besides its weights
UNKNOWN_TRAINING = f"{TRAINING} unknown"


def settings_of(config: Mapping[str, Any], lineage: Lineage, train: SplitRecord | None) -> Settings:
    """Return the settings that affect the metrics of a run.

    The method, the input size and the scored data are not included.

    Args:
        config: Values of all keys of `Config`.
        lineage: Origin of the initial weights.
        train: Training split. None for a model that mlrec did not train; the settings of such a model are unknown.
    """
    if train is None:
        return {WEIGHTS: lineage.label, TRAINING: "unknown"}
    settings = {key: _plain(config.get(key)) for key in KEYS if not _is_without_effect(key, config)}
    earlier = lineage.on_same_data(train.training())
    before = ", ".join(f"{training.dataset} {training.split}" for training in earlier) or None
    return settings | {WEIGHTS: lineage.label, BEFORE: before, SPLIT: train.split, DATA: train.digest[:8]}


def differing(settings: Sequence[Settings]) -> list[str]:
    """Return the sorted keys whose values are not the same in all settings.

    The hash of the training data is omitted if the names of the splits also differ.

    Args:
        settings: Settings of multiple runs.

    Example:
        >>> differing([{"epochs": 20, "lr": 0.1}, {"epochs": 40, "lr": 0.1}])
        ['epochs']
    """
    keys = sorted({key for one in settings for key in one})
    different = [key for key in keys if len({repr(one.get(key)) for one in settings}) > 1]
    if SPLIT in different and DATA in different:
        different.remove(DATA)
    return different


def settings_text(own: Settings, among: Sequence[Settings]) -> str:
    """Return, as text, the settings of a run that are not the same for all runs of its group.

    Args:
        own: Settings of the run. If mlrec did not train the model, all known settings are included in the text.
        among: Settings of all runs in the group.
    """
    if TRAINING in own:
        return in_words(own, sorted(own))
    return in_words(own, differing([one for one in among if TRAINING not in one]))


def in_words(settings: Settings, keys: Sequence[str]) -> str:
    """Return a text that lists keys and their values.

    Example:
        >>> in_words({"epochs": 80, "opt": "adamw"}, ["epochs", "opt"])
        'epochs 80, opt adamw'
    """
    return ", ".join(f"{key} {setting_text(key, settings.get(key))}" for key in keys)


@functools.cache
def recipe_values(recipe: str, kind: str, head: str) -> Mapping[str, Any]:
    """Return the values of all `Config` keys under a recipe, for a given kind of dataset and head."""
    layers = [(f"recipe {part}", tables) for part, tables in recipe_chain(recipe)]
    config = resolve(("head", {"head": head}), *layers, source_kind=kind).config
    values: dict[str, Any] = msgspec.to_builtins(config)
    return values


def compare_with_paper(
    config: Mapping[str, Any], settings: Settings, lineage: Lineage, kind: str, train: SplitRecord | None
) -> tuple[str, list[str]]:
    """Compare the training settings of a run with those of the paper.

    Args:
        config: Values of all keys of `Config`.
        settings: Settings of the run; see `settings_of`.
        lineage: Origin of the initial weights.
        kind: Kind of the dataset.
        train: Training split of the run.

    Returns:
        Recipe in `EQUIVALENT` that the run followed ("" if there is none), and one text for each kind of difference
        from the paper. There are no differences if the run followed a recipe in `EQUIVALENT` and started from the
        paper's weights, which must not have been trained on the same data before. If `train` is None, the only
        difference is that the training is unknown.
    """
    if train is None:
        return "", [UNKNOWN_TRAINING]
    by_recipe = {
        name: _recipe_differences(name, config, settings, kind) for name in EQUIVALENT if _applies(name, config)
    }
    followed = next((name for name, keys in by_recipe.items() if not keys), "")
    differences = []
    if not followed:
        differences.append(in_words(settings, by_recipe["paper"]))
    expected = PAPER_WEIGHTS.get(str(config.get("backbone", "")).partition(".")[0])
    if lineage.origin == "random" or (expected is not None and lineage.tag not in expected):
        differences.append(f"weights {lineage.label}")
    if settings.get(BEFORE):
        differences.append(f"{BEFORE} {settings[BEFORE]}")
    return followed, differences


def differing_settings(ours: Mapping[str, Any], theirs: Mapping[str, Any], kind: str) -> list[str]:
    """Return the settings, other than the method, in which two runs differ.

    A setting is ignored if both runs have the value that the paper recipe has for their head. If mlrec did not train
    one of the models, the result only states that the training is unknown.

    Args:
        ours: Settings of a run. The key "head" contains the head.
        theirs: Settings of the other run, which also contain the key "head".
        kind: Kind of the dataset.
    """
    if TRAINING in ours or TRAINING in theirs:
        return [UNKNOWN_TRAINING]
    keys = differing([without_head(one) for one in (ours, theirs)])
    return [key for key in keys if not (_as_paper(key, ours, kind) and _as_paper(key, theirs, kind))]


def without_head(facts: Mapping[str, Any]) -> Settings:
    """Return a copy of the settings without the key "head"."""
    return {key: value for key, value in facts.items() if key != "head"}


def _as_paper(key: str, settings: Mapping[str, Any], kind: str) -> bool:
    expected = recipe_values("paper", kind, str(settings["head"]))
    return key in expected and settings.get(key) == _plain(expected[key])


def _applies(recipe: str, config: Mapping[str, Any]) -> bool:
    named: dict[str, Any] = {}
    for _, tables in recipe_chain(recipe):
        own = {key: tables.get(key) for key in ("head", "backbone")}
        named = {key: value for key, value in own.items() if isinstance(value, str)} | named  # a table is an overlay
    plain = {"head": str(config.get("head")), "backbone": str(config.get("backbone")).partition(".")[0]}
    return all(plain[key] == value for key, value in named.items())


def _recipe_differences(recipe: str, config: Mapping[str, Any], settings: Settings, kind: str) -> list[str]:
    expected = recipe_values(recipe, kind, str(config.get("head")))
    keys = [key for key in KEYS if not _is_without_effect(key, config)]
    return [key for key in keys if settings.get(key) != _plain(expected[key])]


def _is_without_effect(key: str, config: Mapping[str, Any]) -> bool:
    switch, values = _WITHOUT_EFFECT.get(key, ("", ()))
    return config.get(switch) in values


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return list(value)
    return value


def setting_text(key: str, value: object) -> str:
    """Format the value of a setting as text; only the last component of an absolute path is kept.

    Example:
        >>> setting_text("ema", True), setting_text("crop_scale", [0.7, 1.0]), setting_text("lr", 0.1)
        ('on', '0.7-1', '0.1')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return UNDEFINED
    if isinstance(value, list):
        return "-".join(f"{number:g}" for number in value)
    if key in PATHS and PurePath(str(value)).is_absolute():
        return PurePath(str(value)).name
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
