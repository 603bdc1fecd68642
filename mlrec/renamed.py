"""Old names of config keys, flags and commands, which are accepted for one release, with a warning.

This is the only module that maps old names to new names. `current_keys` is applied to files stored by earlier versions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")

KEYS = {
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

# For each command ("" for all commands): old flag → new flag.
FLAGS: dict[str, dict[str, str]] = {
    "": {
        "--no-decay": "--no-decay-norm-bias",
        "--no-no-decay": "--decay-norm-bias",
        **{
            f"--{old.replace('_', '-')}": f"--{new.replace('_', '-')}"
            for old, new in KEYS.items()
            if old not in INVERTED
        },
    },
    "attend": {"--head": "--temperature"},
    "duplicates": {"--sheet": "--contact-sheet", "--alike": "--min-similarity"},
    "stats": {"--picture": "--figure"},
    "lambda-sweep": {"--divide": "--normalize-logits"},
    "report": {"--each": "--per-run", "--extra": "--extra-rows"},
    "compare": {"--each": "--per-run"},
}
# Flags that have become separate commands: (command, flag) → (new command, whether the flag is kept).
COMMANDS = {
    ("eval", "--lam"): ("lambda-sweep", True),
    ("eval", "--by-size"): ("lambda-sweep", True),
    ("eval", "--backbone"): ("imagenet", True),
    ("report", "--compare"): ("compare", False),
    ("report", "--by-size"): ("compare", True),
    ("report", "--by-label"): ("compare", True),
}

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
        name = KEYS.get(key) or ALIASES.get(key, key)
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
    """Return metadata of config keys under current key names; unlike `current_keys`, no value is inverted."""
    return {KEYS.get(key, key): value for key, value in values.items()}


def first_keys(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return config values under their original names, so that hashes from earlier versions remain valid."""
    first = {new: old for old, new in KEYS.items()}
    named = {first.get(key, key): value for key, value in values.items()}
    return {key: _inverted(value) if key in INVERTED else value for key, value in named.items()}


def old_keys(values: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, str, bool]]:
    """Iterate over old names in config values and tables.

    Yields the old name, the current name, and whether both are set.
    """
    for key, value in values.items():
        name = KEYS.get(key) or ALIASES.get(key)
        if name is not None and (key in KEYS or name in values):
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


def current_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Replace old names in command-line arguments, of which the first is the command name.

    Returns:
        The arguments with current names, and one warning for each old name.

    Example:
        >>> current_arguments(["train", "--accum", "2"])
        (['train', '--grad-accum-steps', '2'], ['--accum was renamed to --grad-accum-steps; use the new name'])
    """
    if not arguments:
        return [], []
    command, warnings = arguments[0], []
    flags = [argument.partition("=")[0] for argument in _before_separator(arguments)]
    for (old, flag), (new, stays) in COMMANDS.items():
        if command == old and flag in flags:
            warnings.append(f"mlrec {old} {flag} is now the command mlrec {new}; use mlrec {new}")
            arguments = [new, *(part for part in arguments[1:] if stays or part != flag)]
            command = new
    names = {**FLAGS[""], **FLAGS.get(command, {})}
    options = len(_before_separator(arguments))
    current = [command]
    for argument in arguments[1:options]:
        flag, equals, value = argument.partition("=")
        new_flag = names.get(flag)
        if new_flag is not None:
            warnings.append(f"{flag} was renamed to {new_flag}; use the new name")
            argument = new_flag + equals + value
        current.append(argument)
    return current + arguments[options:], warnings


def _before_separator(arguments: list[str]) -> list[str]:
    """Return the arguments before `--`; later arguments are not flags."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _inverted(value: Any) -> Any:
    """Return the inverse of a boolean or of a string of booleans; other values are returned unchanged."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        opposite = {"true": "false", "false": "true"}
        return ",".join(opposite.get(part.strip().lower(), part) for part in value.split(","))
    return value
