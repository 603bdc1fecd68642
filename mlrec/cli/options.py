"""Flags that multiple commands share, and flags that are created from the fields of `Config`.

The help texts and default values of the fields are in `mlrec.config`.
"""

from __future__ import annotations

import functools
import inspect
import logging
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from mlrec import config, config_layers
from mlrec.cli import console
from mlrec.config import ALIASES, current_keys, key_warning, old_keys
from mlrec.metrics.conventions import ScoreKind
from mlrec.utils.errors import UsageError

logger = logging.getLogger(__name__)
LONGEST_METAVAR = 34  # characters; at 80 columns, longer metavars leave too little room for the help text

Json = Annotated[bool, typer.Option("--json", help="Print only the result, as JSON.")]
Full = Annotated[bool, typer.Option("--full", help="Print all columns, footnotes and labels.")]
Top3 = Annotated[
    bool, typer.Option("--top3", help="Also print metrics for the three highest-scoring labels of each image.")
]
Top = Annotated[
    int | None,
    typer.Option(
        help="Also print metrics, such as F1@K, for the K highest-scoring labels of each image.", metavar="K", min=1
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(help='Labels to score; names that contain a comma must be quoted: "a,b",c.', metavar="A,B,..."),
]
Logits = Annotated[bool, typer.Option("--logits", help="Treat the scores in a .csv file as logits.")]
Probabilities = Annotated[
    bool,
    typer.Option(
        "--probabilities", help="Treat the scores in a .csv file as probabilities [default: detected from the values]."
    ),
]
Conventions = Annotated[
    str,
    typer.Option(
        help="Scoring conventions: mlrec, csra, csra-wider, macro-f1, voc2010, voc2007-11pt or topk-pure.",
        metavar="NAME",
    ),
]
Dataset = Annotated[
    Path | None,
    typer.Argument(help="Folder of a prepared dataset [default: the most recently prepared dataset].", metavar="DATA"),
]
Data = Annotated[
    Path | None,
    typer.Option(
        help="Folder of a prepared dataset [default: the dataset of the run, or the most recently prepared dataset]."
    ),
]
DataFlag = Annotated[
    Path | None, typer.Option("--data", help="Folder of a prepared dataset; same as the argument DATA.")
]
Tuned = Annotated[bool, typer.Option("--tuned", help="Use the thresholds and calibration from mlrec tune.")]
Out = Annotated[Path, typer.Option(help="Parent folder of the run folders.", rich_help_panel="Output")]
RunsRoot = Annotated[Path, typer.Option(help="Folder to search for runs.")]
Seeds = Annotated[str, typer.Option(help="Random seeds; each head is trained once with each seed.", metavar="A,B,...")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Config key and its value; the flag can be repeated.", metavar="KEY=VALUE"),
]
Resamples = Annotated[int, typer.Option(help="Number of bootstrap resamples (0 disables confidence intervals).", min=0)]

Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PATHS...",
        help="Images, folders, globs, .txt lists of paths, .jsonl files of splits, tar shards, or Parquet files.",
    ),
]
TrainedModel = Annotated[
    Path | None,
    typer.Argument(help="Run folder, imported model, or .safetensors file [default: the last run].", metavar="RUN"),
]
Model = Annotated[
    Path | None,
    # torchrun interprets --run as an abbreviation of its own --run-path, even after the program name
    typer.Option("--run", "--model", help="Run folder, imported model, or model file [default: the last run]."),
]
Boxes = Annotated[
    Path | None,
    typer.Option(help="CSV file with boxes to use instead of whole images; columns: filename,x,y,width,height[,id]."),
]

BatchSize = Annotated[
    int | None,
    typer.Option(
        help="Batch size [default: the evaluation batch size of the run].",
        min=1,
        rich_help_panel="System",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Number of dataloader workers [default: one per CPU core if a GPU is used, otherwise 0].",
        min=0,
        rich_help_panel="System",
    ),
]
DecodeThreads = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Number of image decoding threads [default: one per CPU core].",
        min=0,
        rich_help_panel="System",
    ),
]
Device = Annotated[
    str, typer.Option(help="Device: auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE", rich_help_panel="System")
]
Precision = Annotated[
    str, typer.Option(help="Precision: auto, fp32, tf32, bf16 or fp16.", metavar="NAME", rich_help_panel="System")
]


def one_dataset(argument: Path | None, flag: Path | None) -> Path | None:
    """Return the dataset that the user passed as an argument or with --data.

    Raises:
        UsageError: The argument and --data are both set and differ.
    """
    if argument is not None and flag is not None and argument != flag:
        raise UsageError(f"DATA ({argument}) and --data ({flag}) differ; pass only one of them")
    if argument is None:
        return flag
    return argument


def model_or_last(model: Path | None, runs: Path) -> Path:
    """Return `model` if it is set; otherwise log and return the path of the newest finished run."""
    if model is not None:
        return model
    from mlrec.run_folders.record import latest_run

    path = latest_run(runs).path
    logger.info(f"run: {path} (finished last)")
    return path


def names(text: str | None) -> list[str] | None:
    """Parse `a,b,c` into a list of names in Unicode form NFC; returns None for None.

    A name that contains a comma must be quoted.
    """
    if text is None:
        return None
    return [unicodedata.normalize("NFC", name) for name in config_layers.parse_names(text)]


def score_kind(logits: bool, probabilities: bool) -> ScoreKind | None:
    """Return the kind of scores selected by `--logits` or `--probabilities`; None if neither flag is set.

    Raises:
        UsageError: Both flags are set.
    """
    if logits and probabilities:
        raise UsageError("--logits cannot be used with --probabilities; omit one of them")
    if logits:
        return "logits"
    if probabilities:
        return "probabilities"
    return None


def whole_numbers(text: str, flag: str, least: int = 0) -> list[int]:
    """Parse `a,b,c` or `start:stop:step` into integers; each integer must be at least `least`.

    Raises:
        UsageError: A number is not an integer, is less than `least`, or is listed twice.
        ConfigError: The text is neither a list of numbers nor a range.
    """
    numbers = config_layers.parse_numbers(text, flag)
    if not all(number.is_integer() and number >= least for number in numbers):
        raise UsageError(f"{flag} {text}: expected integers >= {least}, as 'a,b,c' or 'start:stop:step'")
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"{flag} {text}: the list contains a duplicate number; list each number once")
    return [int(number) for number in numbers]


def with_config_flags(command: Callable[..., None], *, as_typed: bool = False) -> Callable[..., None]:
    """Add the argument DATA and one flag for each key of `Config` to `command`.

    The flags that the user sets are passed to the command as the dict `flags`. Flag values are parsed unless `as_typed`
    is set. If `as_typed` is set, the values remain strings, for commands that accept multiple values per key.
    """
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "flags"]
    dataset = inspect.Parameter("dataset", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Dataset)
    keys = {name: _flag(name) for name in config.FIELDS}
    parameters = [dataset, *own, *keys.values()]

    def run(dataset: Path | None, **given: Any) -> None:
        typed = {key: given.pop(key) for key in keys}
        flags = {key: value for key, value in typed.items() if value is not None}
        data = one_dataset(dataset, None if flags.get("data") is None else Path(flags["data"]))
        if data is not None:
            flags["data"] = flags.get("data", str(data))
        command(**given, flags=flags if as_typed else {key: _value(key, value) for key, value in flags.items()})

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def with_settings(settings: list[str] | None, flags: dict[str, Any]) -> dict[str, Any]:
    """Merge the values from `--set key=value` with the values from flags.

    If `--set` and a flag set the same key, the flag overrides `--set`. Overridden values are also checked.

    Raises:
        ConfigError: A key is unknown or a value is invalid.
        UsageError: A setting does not have the form `key=value`, or a key is set twice with `--set`.
    """
    values = {key: config_layers.parse_value(key, text) for key, text in pairs(settings or [], "--set").items()}
    config_layers.check_values("--set", values)
    return values | flags


def pairs(settings: list[str], flag: str) -> dict[str, str]:
    """Parse `key=value` strings; each old key name is replaced by the current name, with a warning."""
    texts: dict[str, str] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"{flag} {setting}: expected key=value")
        typed = {key.strip(): text.strip()}
        for old, new, _ in old_keys(typed):
            console.Terminal().warn(f"{flag}: {key_warning(old, new)}")
        for name, value in current_keys(typed).items():
            if name in texts:
                raise UsageError(f"{flag} {setting}: the key is set twice; set the key only once")
            texts[name] = value
    return texts


def _value(key: str, value: Any) -> Any:
    if isinstance(value, str):
        return config_layers.parse_value(key, value)
    return value


@functools.cache  # several commands have the same flags
def _flag(key: str) -> inspect.Parameter:
    """Return the command-line flag for a key of `Config`; the flag has no default."""
    name = f"--{key.replace('_', '-')}"
    aliases = [f"--{alias.replace('_', '-')}" for alias, target in ALIASES.items() if target == key]
    subject, semicolon, note = config.description_of(key).removesuffix(".").partition(";")
    choices = "|".join(config.choices(key))
    listed = ""
    if len(choices) > LONGEST_METAVAR:
        listed, choices = f": {choices.replace('|', ', ')}", "NAME"
    text = f"{subject}{listed}{semicolon}{note}{_default_of(key)}."
    settings: dict[str, Any] = {"help": text, "show_default": False, "rich_help_panel": config.panel_of(key)}
    kind: Any
    if config.value_kind(key) is bool:
        kind, option = bool | None, typer.Option(f"{name}/--no-{key.replace('_', '-')}", **settings)
    else:
        kind, option = str | None, typer.Option(name, *aliases, metavar=choices or _metavar(key), **settings)
    return inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def _default_of(key: str) -> str:
    default = config.FIELDS[key].default
    if default is None or default is msgspec.NODEFAULT:
        return ""
    if isinstance(default, tuple):
        default = ",".join(f"{number:.3g}" for number in default)
    if isinstance(default, bool):
        default = "on" if default else "off"
    return f" [default: {default}]"


def _metavar(key: str) -> str:
    """Return a readable metavar for a key without fixed choices."""
    if key in (*config.PATHS, "data"):
        return "PATH"
    return {list: "A,B,...", tuple: "A,B", int: "INT", float: "FLOAT"}.get(config.value_kind(key), "TEXT")
