"""Help output of commands, with flags grouped in panels and readable metavars."""

from __future__ import annotations

import inspect
import io
import re
import shutil
import sys
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from typer.core import TyperCommand, TyperGroup

from mlrec.config import PANELS

if TYPE_CHECKING:
    from rich.console import Console

WIDEST = 100  # columns; longer lines are hard to read
LABEL_WIDTH = 32
METAVARS = {int: "INT", float: "FLOAT", Path: "PATH"}
EXAMPLE = "Example:"
RANGE = re.compile(r"[-\d.<=]*x[-\d.<>=]+")
Rows = list[tuple[str, str]]


class HelpCommand(TyperCommand):
    """A command whose help is formatted by this module."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help text to `formatter`, as required by Typer."""
        formatter.write(_drawn(self, ctx, []))


class HelpGroup(TyperGroup):
    """Command group whose help lists the commands in panels."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help text to `formatter`, as required by Typer."""
        named = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [(name, command) for name, command in named if command is not None and not command.hidden]
        formatter.write(_drawn(self, ctx, shown))


def set_metavars(command: Callable[..., Any]) -> Callable[..., Any]:
    """Set readable metavars for the flags and arguments of a command, such as INT, PATH or the choices."""
    signature = inspect.signature(command, eval_str=True)
    for parameter in signature.parameters.values():
        kind, info = typing.get_args(parameter.annotation)
        if info.metavar is None and not _is_bool(kind):
            info.metavar = _metavar(kind)
    # Annotation strings are evaluated only here; evaluating them again would create new flags without the metavars.
    command.__signature__ = signature  # type: ignore[attr-defined]
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return command


def _is_bool(kind: Any) -> bool:
    return kind is bool or bool in typing.get_args(kind)


def _metavar(kind: Any) -> str:
    """Return the metavar for a type; `| None` and `list` are ignored."""
    if typing.get_origin(kind) is Literal:
        return "|".join(typing.get_args(kind))
    inner = [part for part in typing.get_args(kind) if part is not type(None)]
    if inner:
        return _metavar(inner[0])
    return METAVARS.get(kind, "TEXT")


def _drawn(command: Any, ctx: Any, commands: list[tuple[str, Any]]) -> str:
    """Return the help text of a command, in colour on a terminal."""
    from rich.console import Console

    stream, terminal = io.StringIO(), sys.stdout.isatty()
    width = (
        min(shutil.get_terminal_size().columns, WIDEST) if terminal or not ctx.terminal_width else ctx.terminal_width
    )
    console = Console(file=stream, width=width, force_terminal=terminal, highlight=False, markup=False)
    console.print(f"Usage: {' '.join([ctx.command_path, *command.collect_usage_pieces(ctx)])}", style="bold")
    description, example = _parts_of(command.help or "")
    for paragraph in description:
        console.print()
        console.print(paragraph)
    console.print()
    for title, rows in _panels(command, ctx, commands).items():
        _draw_panel(console, title, rows)
    if example:
        console.print(EXAMPLE)
        for line in example.splitlines():
            console.print(f"  {line.strip()}", soft_wrap=True)  # not wrapped, so that users can copy it
    return stream.getvalue()


def _parts_of(text: str) -> tuple[list[str], str]:
    """Split a docstring into its paragraphs, each on one line, and its example."""
    body, _, example = text.partition(EXAMPLE)
    paragraphs = [" ".join(paragraph.split()) for paragraph in body.split("\n\n")]
    return [paragraph for paragraph in paragraphs if paragraph], example.strip()


def _panels(command: Any, ctx: Any, commands: Iterable[tuple[str, Any]]) -> dict[str, Rows]:
    """Return a dict from panel to rows; the panels for `Config` keys are in the order of `PANELS`."""
    order: tuple[str, ...] = PANELS
    if commands:
        order = ()
    panels: dict[str, Rows] = {title: [] for title in ("Arguments", "Options", *order)}
    for parameter in command.get_params(ctx):
        record = parameter.get_help_record(ctx)
        if record is None:
            continue
        usual = "Options"
        if parameter.param_type_name == "argument":
            usual = "Arguments"
        label = record[0]
        if usual == "Arguments":
            label = parameter.metavar
        panels.setdefault(parameter.rich_help_panel or usual, []).append((label, _without_range(record[1])))
    for name, subcommand in commands:
        summary = _parts_of(subcommand.help or "")[0][0]
        panels.setdefault(subcommand.rich_help_panel or "Commands", []).append((name, summary))
    return {title: rows for title, rows in panels.items() if rows}


def _without_range(text: str) -> str:
    """Remove the range that Typer adds to a help text, such as `[x>=1]`; error messages state the range."""
    body, bracket, extra = text.rpartition("  [")
    if not bracket:
        return text
    facts = [fact for fact in extra.rstrip("]").split("; ") if not RANGE.fullmatch(fact)]
    if facts:
        return f"{body} [{'; '.join(facts)}]"
    return body


def _draw_panel(console: Console, title: str, rows: Rows) -> None:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2), expand=True)
    label_width = min(LABEL_WIDTH, max(len(label) for label, _ in rows))
    grid.add_column(width=label_width, style="cyan")
    grid.add_column(ratio=1)
    for label, text in rows:
        grid.add_row(Text(label), Text(text))
    console.print(Panel(grid, title=title, title_align="left", border_style="dim"))
