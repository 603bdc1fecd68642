"""Axes of a sweep, and the settings and trials that result from them."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlrec.config import TYPES, current_keys, nearest_key, value_kind
from mlrec.config_layers import check_values, parse_names, parse_numbers, parse_value
from mlrec.utils.errors import UsageError

LONGEST_NAME = 100


@dataclass(frozen=True)
class Setting:
    """Configuration that is trained once per seed and fold; each setting is one row of the results table.

    Attributes:
        label: Name of the study variant; "" if the values alone identify the setting.
        values: Values of the axes, except for keys that the study variant sets.
        flags: Values of the `Config` keys that the sweep sets for this setting. Seed, splits and tuned values are added
            for each trial.
    """

    label: str
    values: Mapping[str, Any]
    flags: Mapping[str, Any]

    @property
    def words(self) -> str:
        """Description of the setting, which is unique within the sweep."""
        return ": ".join(part for part in (self.label, in_words(self.values)) if part)


@dataclass(frozen=True)
class Trial:
    """One training run in a sweep.

    Attributes:
        name: Name of the run folder. The name contains the label and the values, shortened to 100 characters, and a
            hash of the configuration and the data.
        label: Label of the setting.
        values: Values of the setting and the tuned or searched values. The fold is included if the sweep has multiple
            folds, and the seed if the sweep has multiple seeds; a tuning trial has neither.
        flags: Values of the `Config` keys that the sweep sets for this trial.
        stage: "tune" if the trial is used only to choose a value for other trials, otherwise "run".
    """

    name: str
    label: str
    values: Mapping[str, Any]
    flags: Mapping[str, Any]
    stage: str = "run"

    @property
    def words(self) -> str:
        """Description of the trial for tables and messages."""
        text = " · ".join(part for part in (self.label, in_words(self.values)) if part)
        if self.stage == "tune":
            return f"{text} (tuning)"
        return text or self.name


def axis_values(key: str, text: str) -> list[Any]:
    """Parse the values of `--set key=text`.

    Args:
        key: Configuration key, a field of `Config`.
        text: Values as `a,b,c` or, for numbers, `start:stop:step`. If a value is itself a list, the values are
            separated by semicolons.

    Returns:
        Parsed values. A value that cannot be parsed remains a string, which `check_values` rejects.

    Raises:
        ConfigError: The key is unknown, or a list or range is invalid.
        UsageError: A value is listed twice.

    Example:
        >>> axis_values("lam", "0:0.2:0.1")
        [0.0, 0.1, 0.2]
    """
    kind = value_kind(key) if key in TYPES else str
    if kind in (list, tuple):
        values = [parse_value(key, part) for part in text.split(";")]
    elif ":" in text and kind in (int, float):
        values = [parse_value(key, f"{number:.12g}") for number in parse_numbers(text, key)]
    else:
        values = [parse_value(key, part) for part in parse_names(text)]
    if len({repr(value) for value in values}) < len(values):
        raise UsageError(f"{key} = {text}: duplicate value")
    return values


def split_axes(texts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Separate keys with one value from keys with multiple values (axes).

    Args:
        texts: Dict from key to value. Values are texts typed by the user, or parsed values.

    Returns:
        A dict from key to value for keys with one value, and a dict from key to values for the axes. Old key names are
        replaced.

    Raises:
        ConfigError: A list or range is invalid.
        UsageError: A key is unknown, or a value is listed twice.

    Example:
        >>> split_axes({"heads": "2", "lam": "0,0.5"})
        ({'heads': 2}, {'lam': [0.0, 0.5]})
    """
    texts = current_keys(texts)
    for key in texts:
        if key not in TYPES:
            raise UsageError(f"unknown key '{key}'{nearest_key(key)}")
    values = {key: axis_values(key, text) if isinstance(text, str) else [text] for key, text in texts.items()}
    fixed = {key: options[0] for key, options in values.items() if len(options) == 1}
    return fixed, {key: options for key, options in values.items() if len(options) > 1}


def check_texts(texts: Mapping[str, str], source: str) -> None:
    """Check that all values are valid, including values that are overridden by a flag.

    Args:
        texts: Dict from key to value, as typed by the user.
        source: Name of the source in error messages.

    Raises:
        ConfigError: A value is invalid.
        UsageError: A key is unknown, or a value is listed twice.
    """
    fixed, axes = split_axes(texts)
    for key, values in {**{key: [value] for key, value in fixed.items()}, **axes}.items():
        for value in values:
            check_values(source, {key: value})


def combinations(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Return all combinations of the axis values, with the last axis varying fastest."""
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def run_name(label: str, values: Mapping[str, Any], identity: Any) -> str:
    """Return the name of a run folder, from the label, the values and a ten-digit hash of `identity`."""
    words = [label, *(f"{key}{shown(value)}" for key, value in values.items())]
    legible = "-".join(re.sub(r"[^\w.+]+", "_", word).strip("_") for word in words if word)
    digits = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:10]
    return f"{legible[:LONGEST_NAME]}-{digits}".lstrip("-.")


def in_words(values: Mapping[str, Any]) -> str:
    """Format values as text, such as `lam 0.1, seed 0`."""
    return ", ".join(f"{key} {shown(value)}" for key, value in values.items())


def shown(value: Any) -> str:
    """Format the value of a configuration key as text.

    Example:
        >>> shown(True), shown(0.1), shown([1.0, float("inf")])
        ('on', '0.1', '1+inf')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return "+".join(map(shown, value))
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
