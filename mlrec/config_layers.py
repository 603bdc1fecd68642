"""Parse, check and merge layers of values (flags, files, a recipe) into a `Config`.

A flag overrides a file, a file overrides a recipe, and a recipe overrides the defaults of `mlrec.config`.

A recipe is a TOML file in `mlrec/recipes` for one training setup. `base = "NAME"` extends another recipe. The tables
`[data.KIND]` and `[head.NAME]` contain values that apply only to one kind of data or one head.
"""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from mlrec.config import (
    FIELDS,
    KINDS,
    NAME_LISTS,
    PARTS,
    TRACKERS,
    TYPES,
    Config,
    choices,
    current_keys,
    description_of,
    key_warning,
    nearest_key,
    old_keys,
    resolve_temperatures,
    value_kind,
)
from mlrec.utils.errors import ConfigError, ModelError, UsageError, nearest
from mlrec.utils.files import read_text, write_text
from mlrec.utils.plugins import is_part, part_names

BASE = "base"  # key of a file or recipe that names the recipe it extends
LARGEST = 2**32 - 1  # largest integer value
LONGEST_TEXT, LONGEST_LINE = 100_000, 5_000  # characters; parsing time is quadratic in the length of a dotted key
LINES_SHOWN = 10
OVERLAYS = {"head": ("head", PARTS["head"]), "data": ("reader", KINDS)}  # kind of part, and mlrec's built-in parts


@dataclass(frozen=True)
class Resolved:
    """A `Config` and the origin of each value.

    Attributes:
        config: The merged configuration.
        sources: Origin of the value of each key: "flag", a file name, "recipe NAME" or "default".
        recipe: Name of the recipe, if a recipe was used.
        warnings: One line for each key that was set under an old name.
    """

    config: Config
    sources: Mapping[str, str] = field(default_factory=dict)
    recipe: str | None = None
    warnings: tuple[str, ...] = ()


def resolve(
    *layers: tuple[str, Mapping[str, Any]], source_kind: str | None = None, recipe: str | None = None
) -> Resolved:
    """Merge layers of values into one `Config`; earlier layers override later layers.

    A layer may contain overlays: `[data.KIND]` with the values for one kind of dataset source, and `[head.NAME]` with
    the values for one head. With overlays, a single recipe covers all kinds and heads. The overlay for `source_kind` is
    applied first, then the overlay for the selected head; both override the other values of the same layer. Old key
    names are also accepted (see `config.OLD_KEYS`).

    Args:
        layers: Pairs that contain the name and the values of a layer. Error messages contain the name of the layer.
        source_kind: Kind of the dataset source, such as "coco".
        recipe: Name of the recipe, stored in the result.

    Raises:
        ConfigError: Keys are unknown, values are invalid, or valid values are inconsistent. The message lists all
            unknown keys and invalid values with the name of the layer. If there are none, the message states the first
            inconsistent value.
    """
    faults = [fault for source, layer in layers for fault in _faults(source, layer)]
    if faults:
        raise ConfigError(*_all_of(faults))
    warnings = [f"{source}: {key_warning(old, new)}" for source, layer in layers for old, new, _ in old_keys(layer)]
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
        raise ConfigError(f"{sources[key]}: {fault}")
    origins = {key: sources.get(key, "default") for key in FIELDS}
    return Resolved(config, origins, recipe, tuple(dict.fromkeys(warnings)))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: The file cannot be read, is not UTF-8, is too long for a configuration, has a line that is too
            long, or cannot be parsed (see `parse_toml`).
    """
    text = read_text(path, ConfigError)
    if len(text) > LONGEST_TEXT or max(map(len, text.splitlines()), default=0) > LONGEST_LINE:
        raise ConfigError(f"{path}: the file or one of its lines is too long for a configuration file; check the path")
    return parse_toml(text, str(path))


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """Parse TOML text; error messages start with `name`.

    Raises:
        ConfigError: The syntax is invalid, tables are nested too deeply, or a number is too long. For a syntax error,
            the message quotes the line.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        lines = text.splitlines()
        line = getattr(error, "lineno", None) or _line_of(str(error)) or len(lines)
        quoted = f": {lines[line - 1]}" if 0 < line <= len(lines) else ""
        raise ConfigError(f"{name}: {error}{quoted}") from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(
            f"{name}: tables are nested too deeply or a number is too long; simplify the configuration"
        ) from error


def check_values(source: str, values: Mapping[str, Any]) -> None:
    """Check the values of one layer, including overridden values; error messages start with `source`.

    Raises:
        ConfigError: Keys are unknown or values are invalid; the message lists all errors.
    """
    faults = list(_faults(source, values))
    if faults:
        raise ConfigError(*_all_of(faults))


def parse_value(key: str, text: str) -> Any:
    """Parse the string that a flag or `--set` passes for `key` into a value.

    If a number or boolean is expected but the string cannot be parsed, the string is returned unchanged, and
    `check_values` rejects it.

    Raises:
        ConfigError: The key is unknown, or a list of numbers or names is invalid.

    Example:
        >>> parse_value("lr", "1e-2"), parse_value("ema", "true"), parse_value("scale", "0.5,1")
        (0.01, True, [0.5, 1.0])
    """
    if key not in FIELDS:
        raise ConfigError(f"unknown key '{key}'{nearest_key(key)}")
    if key in NAME_LISTS:
        return parse_names(text)
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


def parse_numbers(text: str, key: str) -> list[float]:
    """Parse `a,b,c` or `start:stop:step` (stop included) into floats.

    Raises:
        ConfigError: The string is neither a list of numbers nor a range; the message contains `key`.

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
            f"{key} = '{text}' is not a list of numbers; expected 'a,b,c' or 'start:stop:step'"
        ) from error


def parse_names(text: str) -> list[str]:
    """Parse `a,b,c` into names; a name that contains a comma is quoted as in a CSV file: `"a,b",c`.

    Raises:
        ConfigError: A name is empty, or a quote is not closed.

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
            f"'{text}' is not a list of names; expected 'a,b,c', with double quotes around names that contain a comma"
        )
    return parts


def recipe_names() -> list[str]:
    """Return the names of all recipes, with the paper's recipes first."""
    found = [entry.name.removesuffix(".toml") for entry in _recipe_folder().iterdir() if entry.name.endswith(".toml")]
    return sorted(found, key=lambda name: (not name.startswith("paper"), name))


def recipe_text(name: str) -> str:
    """Return the TOML text of a recipe, including comments.

    Raises:
        ConfigError: There is no recipe with that name.
    """
    if name not in recipe_names():
        raise ConfigError(f"no recipe '{name}'{nearest(name, recipe_names()) or '; see mlrec recipes list'}")
    return (_recipe_folder() / f"{name}.toml").read_text(encoding="utf-8")


def recipe_title(name: str) -> str:
    """Return the title of a recipe, which is its first comment line."""
    return recipe_text(name).splitlines()[0].lstrip("# ").rstrip()


def copy_recipe(name: str, path: Path | None = None) -> Path:
    """Write a recipe to a file for `mlrec train --config` and return the path of the file.

    Args:
        name: Name of a recipe.
        path: New file [default: NAME.toml].

    Raises:
        ConfigError: There is no recipe with that name.
        UsageError: The file already exists.
    """
    path = path or Path(f"{name}.toml")
    content = recipe_text(name)
    if path.exists():
        raise UsageError(f"{path}: the file already exists; choose a different file name")
    write_text(path, content)
    return path


def recipe_chain(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and values of a recipe and its base recipes, highest priority first.

    Raises:
        ConfigError: The recipe or a base recipe does not exist, or the base recipes form a cycle.
    """
    layers: list[tuple[str, dict[str, Any]]] = []
    following: Any = name
    while following is not None:
        if following in [known for known, _ in layers]:
            raise ConfigError(f"recipe {name}: the base recipes form a cycle; change the base of one of them")
        tables = parse_toml(recipe_text(following), f"recipe {following}")
        layers.append((following, {key: value for key, value in tables.items() if key != BASE}))
        following = tables.get(BASE)
    return layers


def _flatten(layer: Mapping[str, Any], head: str, source_kind: str | None) -> dict[str, Any]:
    flat = {key: value for key, value in layer.items() if not _is_overlay(key, value)}
    for table, name in (("data", source_kind), ("head", head)):
        if _is_overlay(table, layer.get(table)):
            flat.update(layer[table].get(name, {}))
    return flat


def _is_overlay(key: str, value: Any) -> bool:
    return key in OVERLAYS and isinstance(value, Mapping)


def _faults(source: str, layer: Mapping[str, Any]) -> Iterator[str]:
    """Return all errors in a layer, including errors in overlays that do not apply."""
    for old, new, both in old_keys(layer):
        if both:
            yield f"{source}: '{old}' and '{new}' are the same key; remove '{old}'"
    layer = current_keys(layer)
    for key, value in layer.items():
        if not _is_overlay(key, value):
            yield from _fault(source, key, value)
            continue
        kind, own = OVERLAYS[key]
        for name, table in value.items():
            if not is_part(kind, name, own) or not isinstance(table, Mapping):
                yield f"{source}: [{key}.{name}]: unknown table{nearest(name, part_names(kind, own))}"
                continue
            for inner, worth in table.items():
                yield from _fault(f"{source}: [{key}.{name}]", inner, worth)


def _fault(where: str, key: str, value: Any) -> Iterator[str]:
    if key not in FIELDS:
        yield f"{where}: unknown key '{key}'{nearest_key(key)}"
        return
    numbers: Iterable[Any] = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(n, float) and (math.isnan(n) or (math.isinf(n) and key != "temperatures")) for n in numbers):
        yield f"{where}: {key}: {value} is not a finite number"
        return
    if any(isinstance(n, int) and abs(n) > LARGEST for n in numbers):
        yield f"{where}: {key}: the number is larger than {LARGEST:,}"
        return
    try:
        msgspec.convert(value, TYPES[key], strict=True)
        if key in PARTS and not is_part(key, value, PARTS[key]):
            raise msgspec.ValidationError(f"unknown {key}")
    except msgspec.ValidationError as error:
        reason = str(error)
        if isinstance(value, str) and choices(key):
            reason = f"expected one of {', '.join(choices(key))}{nearest(value, choices(key))}"
        elif isinstance(value, str) and "regex" in reason:
            description = description_of(key).rstrip(".")
            reason = f"expected the {description[:1].lower()}{description[1:]}"
        shown = "a table" if isinstance(value, Mapping) else repr(value)  # may be nested too deeply for repr
        yield f"{where}: {key} = {shown}: {reason[:1].lower()}{reason[1:]}"


def _all_of(faults: Sequence[str]) -> Sequence[str]:
    """Format one or more faults as a message.

    A single fault is one line; multiple faults are a heading and one line for each of the first ten.
    """
    if len(faults) == 1:
        return faults
    lines = ["config errors:", *(f"  {fault}" for fault in faults[:LINES_SHOWN])]
    rest = faults[LINES_SHOWN:]
    if rest:
        lines.append(f"  ... and {len(rest)} more: {'; '.join(rest)}")
    return lines


def _disagreements(config: Config) -> Iterator[tuple[str, str]]:
    """Return inconsistent values, as pairs of the key to change and the reason."""
    for key in ("scale", "ratio"):
        pair = getattr(config, key)
        if not 0 < pair[0] <= pair[1]:
            yield key, f"{key} = {list(pair)}: expected 0 < smallest <= largest"
    if config.scale[1] > 1:
        yield "scale", f"scale = {list(config.scale)}: the upper limit of the area fraction must be at most 1"
    try:
        resolve_temperatures(config.heads, config.temperatures)
    except ModelError as error:
        yield "heads" if config.temperatures is None else "temperatures", str(error)
    if config.patience and config.select_split is None:
        yield (
            "patience",
            "patience requires select_split, a held-out split; otherwise the evaluated split would select the epoch",
        )
    if config.swa_epochs and not config.ema:
        yield "swa_epochs", "swa_epochs requires ema, which averages the weights"
    if config.swa_epochs > config.epochs:
        yield "swa_epochs", f"swa_epochs = {config.swa_epochs} is larger than epochs = {config.epochs}"
    if config.init_head and config.init_from is None:
        yield "init_head", "init_head requires init_from, the run or model file from which the head is initialized"
    if config.head_epochs and config.freeze_backbone:
        yield (
            "head_epochs",
            "head_epochs cannot be used with freeze_backbone, which never trains the backbone; use epochs",
        )
    if config.feature_copies and not config.freeze_backbone:
        yield (
            "feature_copies",
            "feature_copies requires freeze_backbone, because the features of a trained backbone change",
        )
    for name in config.trackers or ():
        if not is_part("tracker", name, TRACKERS):
            known = part_names("tracker", TRACKERS)
            yield "trackers", f"unknown tracker '{name}'; expected one of {', '.join(known)}{nearest(name, known)}"
    if config.batch_size % config.grad_accum_steps:
        yield (
            "grad_accum_steps",
            f"batch_size = {config.batch_size} is not divisible by grad_accum_steps = {config.grad_accum_steps}",
        )


def _line_of(message: str) -> int | None:
    words = message.replace(",", " ").replace(")", " ").split()
    return next((int(b) for a, b in pairwise(words) if a == "line" and b.isdigit()), None)


def _recipe_folder() -> Traversable:
    return resources.files("mlrec.recipes")
