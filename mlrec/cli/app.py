"""Command-line interface of mlrec.

Each command is in a separate file. This module selects the command, reports each error in one line, sets the exit code,
and formats the help. Old command names are also accepted.
"""

from __future__ import annotations

import importlib
import inspect
import io
import os
import re
import select
import shutil
import signal
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from mlrec import __version__
from mlrec.cli import console
from mlrec.config import INVERTED, OLD_KEYS, PANELS
from mlrec.utils import processes, signals
from mlrec.utils.errors import MlrecError, UsageError, is_out_of_memory
from mlrec.utils.progress import logged_to

if TYPE_CHECKING:
    from rich.console import Console

CRASH_LOG = "mlrec-crash.log"
DISTRIBUTED = ("train", "eval", "lambda-sweep", "predict")  # commands that can run in several torchrun processes
WIDEST = 100  # columns; longer lines are hard to read
LABEL_WIDTH = 32
METAVARS = {int: "INT", float: "FLOAT", Path: "PATH"}
EXAMPLE = "Example:"
RANGE = re.compile(r"[-\d.<=]*x[-\d.<>=]+")
Rows = list[tuple[str, str]]


class _Unreported(Exception):  # noqa: N818 - it wraps an error
    """Wrapper for a broken pipe or an unexpected end of file, which Typer would not report clearly."""


class _Command(TyperCommand):
    """A command whose help is formatted by this module."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help text to `formatter`, as required by Typer."""
        formatter.write(_help_of(self, ctx, []))


class _Group(TyperGroup):
    """Command group that imports a command when it is used, and lists the commands in panels in its help."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - signature required by Click
        """Return the names of all commands, without importing them."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Import the module of a command and return the command."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            panel, place = COMMANDS[cmd_name]
            module, _, name = place.partition(":")
            function = getattr(importlib.import_module(f"mlrec.cli.{module}"), name)
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
            single.command(cmd_name, cls=_Command, rich_help_panel=panel)(_with_metavars(function))
            self.commands[cmd_name] = typer.main.get_command(single)
        return self.commands.get(cmd_name)

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the program and report usage errors in one line."""
        if not settings.get("standalone_mode", True):
            return super().main(*args, **settings)
        try:
            code = super().main(*args, **{**settings, "standalone_mode": False})
        except Exception as problem:
            if not hasattr(problem, "format_message"):  # not a usage error
                raise
            sys.exit(_report_usage(problem))
        sys.exit(code)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command; replace old command and flag names, with a warning."""
        arguments, warnings = current_arguments(args)
        for warning in warnings:
            console.Terminal().warn(warning)
        return super().resolve_command(ctx, arguments)

    def invoke(self, ctx: Any) -> Any:
        """Run a command, print log records, and wrap the errors that Typer would not report."""
        try:
            with logged_to(console.Records()):
                return super().invoke(ctx)
        except (BrokenPipeError, EOFError) as problem:
            raise _Unreported(problem) from problem

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help text to `formatter`, as required by Typer."""
        named = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [(name, command) for name, command in named if command is not None and not command.hidden]
        formatter.write(_help_of(self, ctx, shown))


app = typer.Typer(
    name="mlrec",
    cls=_Group,
    help="Multi-label image recognition with class-specific residual attention (CSRA).\n\n"
    "Start with mlrec demo, or run mlrec prepare, train, eval and report, in that order.\n\n"
    "Example: mlrec prepare voc2007 VOCdevkit && mlrec train && mlrec eval --top3",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _report_usage(problem: Any) -> int:
    """Report a usage error in one line and return the exit code."""
    command = "mlrec"
    if problem.ctx:
        command = problem.ctx.command_path
    if problem.__class__.__name__ == "NoArgsIsHelpError":
        sys.stderr.write(problem.ctx.get_help() + "\n")
    else:
        text = " ".join(problem.format_message().split())
        console.error(f"{text[:1].lower()}{text[1:].rstrip('.')}; see {command} --help")
    return int(problem.exit_code)


def _version(requested: bool) -> None:
    if requested:
        console.result(f"mlrec {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback if an error occurs.")] = False,
) -> None:
    if debug:
        os.environ["MLREC_DEBUG"] = "1"
    if processes.world_size() > 1 and ctx.invoked_subcommand not in DISTRIBUTED:
        raise UsageError(
            f"mlrec {ctx.invoked_subcommand} runs in one process, but WORLD_SIZE is {processes.world_size()}; "
            f"run the command without torchrun (torchrun is only supported by {', '.join(DISTRIBUTED)})"
        )


def main() -> None:
    """Run the command-line interface, then exit with code 0, 1, 2, 130 or 143."""
    console.tolerate_any_locale()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # ignored under nohup
            signal.signal(number, _stop)
    try:
        try:
            code = _command()
            signals.raise_lost()
            code = _flushed(code)
            _restore(before)
        except Exception as problem:  # noqa: BLE001 - every error is reported
            signals.raise_lost()  # a lost signal may be the cause, for example of a partially imported module
            _restore(before)  # a later signal must not print a second line
            code = _flushed(_reported(problem))
    except signals.SignalReceived as signalled:  # received during the command or shortly after it
        _restore(before)
        signals.handled()
        number = signalled.args[0]
        console.error("interrupted" if number == signal.SIGINT else "terminated")
        code = _flushed(128 + number)
    sys.exit(code)


def _command() -> int | str | None:
    """Run the command and return its exit code."""
    try:
        app()
    except SystemExit as leave:
        return leave.code
    return 0


def _reported(problem: Exception) -> int:
    """Report an error in one line and return the exit code."""
    if isinstance(problem, MlrecError):
        if os.environ.get("MLREC_DEBUG"):
            traceback.print_exception(problem)
        if getattr(problem, "speaks", processes.rank() == 0):
            console.error(*str(problem).split("\n"))
        return problem.exit_code
    if isinstance(problem, _Unreported):
        cause = problem.args[0]
        if isinstance(cause, BrokenPipeError) and _reader_left():
            return 1
        return _crashed(cause)
    if is_out_of_memory(problem):
        console.error("out of memory; use a smaller --batch-size, fewer --workers, or a machine with more memory")
        return 1
    if isinstance(problem, ModuleNotFoundError):
        return _not_installed(problem)
    if isinstance(problem, OSError) and problem.strerror:
        return _no_access(problem)
    return _crashed(problem)


def _restore(before: Mapping[signal.Signals, Any]) -> None:
    """Restore the default signal handlers, so that a signal ends the process as usual."""
    for number, handler in before.items():
        signal.signal(number, signal.SIG_IGN if handler is signal.SIG_IGN else signal.SIG_DFL)


def _stop(number: int, _frame: FrameType | None) -> None:
    """Stop the command and remove temporary files; a second signal ends the process immediately."""
    signal.signal(number, signal.SIG_DFL)
    signals.raise_signal(number)


def _reader_left() -> bool:
    """Return whether stdout or stderr is a pipe whose reader has exited, as after `| head -1`."""
    ends = select.poll()
    for number in (1, 2):
        ends.register(number, 0)
    return any(event & select.POLLERR for _, event in ends.poll(0))


def _no_access(problem: OSError) -> int:
    if os.environ.get("MLREC_DEBUG"):
        traceback.print_exception(problem)
    where = ""
    if problem.filename is not None:
        where = f"{problem.filename}: "
    console.error(f"{where}{problem.strerror}; check the path, permissions and disk space")
    return 1


def _not_installed(problem: ModuleNotFoundError) -> int:
    """Report that a dependency of mlrec is not installed."""
    name = (problem.name or "").partition(".")[0]
    if name in ("", "mlrec"):
        return _crashed(problem)
    console.error(f"this command requires {name}, which is not installed; reinstall mlrec with its dependencies")
    return 1


def _crashed(problem: Exception) -> int:
    text = "".join(traceback.format_exception(problem))
    if os.environ.get("MLREC_DEBUG"):
        sys.stderr.write(text)
    try:
        Path(CRASH_LOG).write_text(text, encoding="utf-8", errors="backslashreplace")
        details = f"details in {CRASH_LOG}"
    except OSError:
        details = "run mlrec --debug COMMAND to see the traceback"
    console.error(f"this is a bug in mlrec ({type(problem).__name__}: {problem}); {details}")
    return 1


def _flushed(code: int | str | None) -> int | str | None:
    """Flush stdout, so that Python does not report a closed pipe when it shuts down."""
    try:
        sys.stdout.flush()
    except OSError as problem:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(problem, BrokenPipeError) or code:
            return 1
        return _no_access(problem)
    return code


# Help, with flags grouped in panels and readable metavars.


def _with_metavars(command: Callable[..., Any]) -> Callable[..., Any]:
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


def _help_of(command: Any, ctx: Any, commands: list[tuple[str, Any]]) -> str:
    """Return the help text of a command, in color on a terminal."""
    from rich.console import Console

    stream, terminal = io.StringIO(), sys.stdout.isatty()
    width = (
        min(shutil.get_terminal_size().columns, WIDEST) if terminal or not ctx.terminal_width else ctx.terminal_width
    )
    output = Console(file=stream, width=width, force_terminal=terminal, highlight=False, markup=False)
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    output.print(f"Usage: {usage.replace('{[', '[').replace(']}', ']')}", style="bold")
    description, example = _parts_of(command.help or "")
    for paragraph in description:
        output.print()
        output.print(paragraph)
    output.print()
    for title, rows in _panels(command, ctx, commands).items():
        _draw_panel(output, title, rows)
    if example:
        output.print(EXAMPLE)
        for line in example.splitlines():
            output.print(f"  {line.strip()}", soft_wrap=True)  # not wrapped, so that users can copy it
    return stream.getvalue()


def _parts_of(text: str) -> tuple[list[str], str]:
    """Split a docstring into its paragraphs, each on one line, and its example."""
    body, _, example = text.partition(EXAMPLE)
    paragraphs = [" ".join(paragraph.split()) for paragraph in body.split("\n\n")]
    return [paragraph for paragraph in paragraphs if paragraph], example.strip()


def _panels(command: Any, ctx: Any, commands: Iterable[tuple[str, Any]]) -> dict[str, Rows]:
    """Return the rows of each panel; the panels for `Config` keys are in the order of `PANELS`."""
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
        label, text = record[0], _without_range(record[1])
        if usual == "Arguments":
            label = parameter.metavar
        if label.startswith("["):  # an optional argument that Typer parses as a required one
            text = text.removesuffix(" [required]")
        panels.setdefault(parameter.rich_help_panel or usual, []).append((label, text))
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


def _draw_panel(output: Console, title: str, rows: Rows) -> None:
    from rich.panel import Panel
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2), expand=True)
    label_width = min(LABEL_WIDTH, max(len(label) for label, _ in rows))
    grid.add_column(width=label_width, style="cyan")
    grid.add_column(ratio=1)
    for label, text in rows:
        grid.add_row(Text(label), Text(text))
    output.print(Panel(grid, title=title, title_align="left", border_style="dim"))


# Old names of flags and commands, which are accepted for one release, with a warning. For keys, see `config.OLD_KEYS`.


def current_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Replace old command and flag names in command-line arguments.

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
    for (old, flag), (new, stays) in OLD_COMMANDS.items():
        if command == old and flag in flags:
            warnings.append(f"mlrec {old} {flag} was replaced by the command mlrec {new}; use mlrec {new}")
            arguments = [new, *(part for part in arguments[1:] if stays or part != flag)]
            command = new
    names = {**OLD_FLAGS[""], **OLD_FLAGS.get(command, {})}
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


# For each command: its help panel, and its module and function. Commands import their dependencies when they run.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("Get started", "demo:demo"),
    "fit": ("Get started", "fit:fit"),
    "doctor": ("Get started", "doctor:doctor"),
    "download": ("Data", "download:download"),
    "prepare": ("Data", "prepare:prepare"),
    "stats": ("Data", "stats:stats"),
    "split": ("Data", "split:split"),
    "duplicates": ("Data", "duplicates:duplicates"),
    "label-errors": ("Data", "label_errors:label_errors"),
    "export-data": ("Data", "export_data:export_data"),
    "train": ("Training", "train:train"),
    "sweep": ("Training", "sweep:sweep"),
    "recipes": ("Training", "recipes:recipes"),
    "bench": ("Training", "bench:bench"),
    "eval": ("Evaluation", "eval:evaluate"),
    "score": ("Evaluation", "score:score"),
    "tune": ("Evaluation", "tune:tune"),
    "lambda-sweep": ("Evaluation", "lambda_sweep:lambda_sweep"),
    "imagenet": ("Evaluation", "imagenet:imagenet"),
    "report": ("Evaluation", "report:report"),
    "compare": ("Evaluation", "compare:compare"),
    "attend": ("Evaluation", "attend:attend"),
    "import": ("Deployment", "import_checkpoint:import_"),
    "predict": ("Deployment", "predict:predict"),
    "export": ("Deployment", "export:export"),
}
# For each command ("" for all commands): old flag → new flag.
OLD_FLAGS: dict[str, dict[str, str]] = {
    "": {
        "--no-decay": "--no-decay-norm-bias",
        "--no-no-decay": "--decay-norm-bias",
        **{
            f"--{old.replace('_', '-')}": f"--{new.replace('_', '-')}"
            for old, new in OLD_KEYS.items()
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
OLD_COMMANDS = {
    ("eval", "--lam"): ("lambda-sweep", True),
    ("eval", "--by-size"): ("lambda-sweep", True),
    ("eval", "--backbone"): ("imagenet", True),
    ("report", "--compare"): ("compare", False),
    ("report", "--by-size"): ("compare", True),
    ("report", "--by-label"): ("compare", True),
}
