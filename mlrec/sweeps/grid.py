"""Axes of a sweep, and the points of their grid; a point is one training run with a folder of its own."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlrec.config import TYPES, check_values, nearest_key, parse_names, parse_numbers, parse_value
from mlrec.errors import UsageError, printable

LONGEST_NAME = 100
REPEATED = ("seed", "fold")  # what a point is repeated over: never a setting of its own


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
        name: of its folder: its settings in words, and a hash of its whole configuration and data.
        label: of the variant that it is one of; "" where the settings say it all.
        settings: what it differs in from the others of its sweep, seed and fold included.
        flags: keys of `Config` to train with.
        stage: "tune" for a run that only chooses a value for later ones, else "run".
    """

    name: str
    label: str
    settings: Mapping[str, Any]
    flags: Mapping[str, Any]
    stage: str = "run"


@dataclass(frozen=True)
class Variant:
    """A row of a study: settings that belong together, and what to call them."""

    label: str = ""
    flags: Mapping[str, Any] = field(default_factory=dict)


def axis_values(key: str, text: str) -> list[Any]:
    """The values of `--set key=text`: `a,b,c` or `start:stop:step`; lists are set apart by semicolons.

    Raises:
        ConfigError: no such key, or no values for it.
        UsageError: a value twice.
    """
    kind = str(TYPES.get(key, ""))
    if "list[float]" in kind or "tuple[float" in kind:
        values = [parse_value(key, part) for part in text.split(";")]
    elif ":" in text and ("int" in kind or "float" in kind):
        values = [parse_value(key, f"{number:.12g}") for number in parse_numbers(text, key)]
    else:
        values = [parse_value(key, part) for part in parse_names(text)]
    if len({repr(value) for value in values}) < len(values):
        raise UsageError(f"{printable(key)} = {printable(text)}: a value stands there twice")
    return values


def divided(texts: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """Flags as typed → those with one value, and the axes: those with several.

    Raises:
        ConfigError: no such key, or no values for it.
    """
    values = {
        key: axis_values(key, text) if isinstance(text, str) and key in TYPES else [text] for key, text in texts.items()
    }
    unknown = [key for key in texts if key not in TYPES]
    if unknown:
        raise UsageError(f"unknown key '{printable(unknown[0])}'{nearest_key(unknown[0])}")
    fixed = {key: worth[0] for key, worth in values.items() if len(worth) == 1}
    return fixed, {key: worth for key, worth in values.items() if len(worth) > 1}


def check_texts(texts: Mapping[str, str], source: str) -> None:
    """Check every value of texts as typed, also of those that a flag replaces; `source` is what an error calls them.

    Raises:
        ConfigError: an unknown key, or a value that does not fit.
    """
    fixed, axes = divided(texts)
    for key, values in {**{key: [value] for key, value in fixed.items()}, **axes}.items():
        for value in values:
            check_values(source, {key: value})


def combinations(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations of the values of the axes, the last axis fastest."""
    return [dict(zip(axes, chosen, strict=True)) for chosen in itertools.product(*axes.values())]


def name_of(label: str, settings: Mapping[str, Any], identity: Any) -> str:
    """The folder of a point: words for a person, and ten digits that differ where anything of it does."""
    words = [label, *(f"{key}{shown(value)}" for key, value in settings.items())]
    legible = "-".join(re.sub(r"[^\w.+]+", "_", word).strip("_") for word in words if word)
    digits = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:10]
    return f"{legible[:LONGEST_NAME]}-{digits}".lstrip("-.")


def in_words(settings: Mapping[str, Any]) -> str:
    """`lam 0.1, seed 0`."""
    return ", ".join(f"{key} {shown(value)}" for key, value in settings.items())


def shown(value: Any) -> str:
    """A value in words: `on`, `0.1`, `1+inf`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list | tuple):
        return "+".join(map(shown, value))
    if isinstance(value, float):
        return "inf" if math.isinf(value) else f"{value:g}"
    return str(value)
