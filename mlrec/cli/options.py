"""Flags that several commands share, and the flags of `Config`, made from its fields."""

from __future__ import annotations

import inspect
import typing
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from mlrec import config
from mlrec.metrics.conventions import ScoreKind
from mlrec.utils.errors import UsageError, printable
from mlrec.utils.progress import Progress

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout, and only that.")]
Top3 = Annotated[bool, typer.Option("--top3", help="Show the metrics of the three highest labels, too.")]
Labels = Annotated[
    str | None,
    typer.Option(
        help='Score these labels only: a,b,c; a name that holds a comma in quotes: "a,b",c.', metavar="A,B,..."
    ),
]
Logits = Annotated[bool, typer.Option("--logits", help="Scores of a .csv are logits.")]
Probabilities = Annotated[
    bool, typer.Option("--probabilities", help="Scores of a .csv are probabilities [default: by the values].")
]
Conventions = Annotated[str, typer.Option(help="How to score: mlrec, csra, csra-wider, macro-f1, voc2010, ...")]
Data = Annotated[Path | None, typer.Option(help="Folder of a prepared dataset [default: the one prepared last].")]
Tuned = Annotated[bool, typer.Option("--tuned", help="Use the thresholds that mlrec tune left beside the model.")]
Out = Annotated[Path, typer.Option(help="Folder that run folders are made in.")]
RunsRoot = Annotated[Path, typer.Option(help="Where runs lie when none is named.")]

Images = Annotated[
    list[str] | None, typer.Argument(metavar="PATHS...", help="Images, folders, globs, or a split's .jsonl.")
]
Model = Annotated[
    Path | None,
    typer.Option("--run", help="Folder of a run or of an imported model, or a model file [default: the last run]."),
]
Boxes = Annotated[
    Path | None, typer.Option(help="CSV of filename,x,y,width,height[,id]: look at these boxes, not at whole images.")
]


def model_or_last(model: Path | None, runs: Path, progress: Progress) -> Path:
    """The model that was named, or the run that finished last, which is told."""
    if model is not None:
        return model
    from mlrec.runs.record import latest_run

    path = latest_run(runs).path
    progress.say(f"run: {printable(path)} (finished last)")
    return path


def names(text: str | None) -> list[str] | None:
    """`a,b,c` as a list of names, normalised as in manifests; None stays None. A name with a comma is quoted."""
    if text is None:
        return None
    return [unicodedata.normalize("NFC", name) for name in config.parse_names(text)]


def score_kind(logits: bool, probabilities: bool) -> ScoreKind | None:
    """The kind of scores that `--logits` or `--probabilities` states; None without either.

    Raises:
        UsageError: both flags are given.
    """
    if logits and probabilities:
        raise UsageError("--logits and --probabilities exclude each other; give one")
    if logits:
        return "logits"
    return "probabilities" if probabilities else None


def whole_numbers(text: str, flag: str, least: int = 0) -> list[int]:
    """`a,b,c` or `start:stop:step` as whole numbers of at least `least`; `flag` is what an error calls them."""
    numbers = config.parse_numbers(text, flag)
    if not all(number.is_integer() and number >= least for number in numbers):
        raise UsageError(f"{flag} {printable(text)}: whole numbers from {least} on, as a,b,c or start:stop:step")
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"{flag} {printable(text)}: a number stands there twice")
    return [int(number) for number in numbers]


def with_config_flags(command: Callable[..., None], *, as_typed: bool = False) -> Callable[..., None]:
    """Give `command` one flag for each key of `Config`; those that were given reach it as the dict `flags`.

    Their values are parsed, or texts `as_typed` for a command that takes several for a key.
    """
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "flags"]
    parsed = {name: _flag(name, info) for name, info in config.TYPES.items()}

    def run(**given: Any) -> None:
        flags = {key: given.pop(key) for key in parsed}
        typed = {key: value for key, value in flags.items() if value is not None}
        command(**given, flags=typed if as_typed else {key: _value(key, value) for key, value in typed.items()})

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    run.__signature__ = inspect.Signature([*own, *parsed.values()])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in [*own, *parsed.values()]}
    return run


def with_settings(settings: list[str] | None, flags: dict[str, Any]) -> dict[str, Any]:
    """The values of `--set key=value` texts and of flags; a flag wins, but the value that it replaces is checked, too.

    Raises:
        ConfigError: a key or a value of a setting that does not fit.
    """
    values = {key: config.parse_value(key, text) for key, text in pairs(settings or [], "--set").items()}
    config.check_values("--set", values)
    return values | flags


def pairs(settings: list[str], flag: str) -> dict[str, str]:
    """`key=value` texts as a dict of texts; `flag` is what an error calls them."""
    texts: dict[str, str] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"{flag} {printable(setting)}: write key=value")
        if key.strip() in texts:
            raise UsageError(f"{flag} {printable(setting)}: the key is set twice; leave one out")
        texts[key.strip()] = text.strip()
    return texts


def _value(key: str, value: Any) -> Any:
    return config.parse_value(key, value) if isinstance(value, str) else value


def _flag(name: str, annotated: Any) -> inspect.Parameter:
    kind, *metas = typing.get_args(annotated)
    text = next(meta.description for meta in metas if meta.description) + _default_of(name)
    flag = f"--{name.replace('_', '-')}"
    if kind is bool:
        option = typer.Option(f"{flag}/--no-{name.replace('_', '-')}", help=text, show_default=False)
        return inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[bool | None, option]
        )
    option = typer.Option(flag, help=text, show_default=False, metavar=_metavar(kind))
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option]
    )


def _default_of(name: str) -> str:
    default = config.FIELDS[name].default
    if default is None or default is msgspec.NODEFAULT:
        return ""
    if isinstance(default, tuple):
        default = ",".join(f"{v:g}" for v in default)
    return f" [default: {str(default).lower() if isinstance(default, bool) else default}]"


def _metavar(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "|".join(typing.get_args(kind))
    text = str(kind)
    for word, shown in (("list[float]", "A,B,..."), ("tuple[float", "A,B"), ("int", "N"), ("float", "X")):
        if word in text:
            return shown
    return "TEXT"
