"""`mlrec`: the command line. One file a command; what goes wrong ends here, in one line and an exit code."""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mlrec import __version__
from mlrec.cli import console
from mlrec.utils import processes, signals
from mlrec.utils.errors import MlrecError, UsageError, is_out_of_memory, printable

CRASH_LOG = "mlrec-crash.log"
DISTRIBUTED = ("train", "eval")  # commands in which the processes of torchrun work together


class _Untold(Exception):  # noqa: N818 - it carries an error
    """A broken pipe or an early end of a file: Typer would end the first unsaid, the second with 'Aborted.'"""


class _Group(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - the signature is Click's
        """Return the names of all commands, without importing them."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        """Import the module of a command when it is first needed: a run of one command imports no other."""
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            module, _, function = COMMANDS[cmd_name].partition(":")
            single = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
            single.command(cmd_name)(getattr(importlib.import_module(f"mlrec.cli.{module}"), function))
            self.commands[cmd_name] = typer.main.get_command(single)
        return self.commands.get(cmd_name)

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and keep from Typer what it would not tell."""
        try:
            return super().invoke(ctx)
        except (BrokenPipeError, EOFError) as problem:
            raise _Untold(problem) from problem


app = typer.Typer(
    name="mlrec",
    cls=_Group,
    help="Multi-label image recognition with class-specific residual attention.\n\n"
    "Start: mlrec demo · mlrec prepare voc2007 VOCdevkit · mlrec train · mlrec eval --top3 · mlrec report",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        console.result(f"mlrec {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    if debug:
        os.environ["MLREC_DEBUG"] = "1"
    if processes.world_size() > 1 and ctx.invoked_subcommand not in DISTRIBUTED:
        raise UsageError(
            f"mlrec {ctx.invoked_subcommand} runs in one process, but WORLD_SIZE is {processes.world_size()}; "
            f"start it without torchrun, which is for {' and '.join(DISTRIBUTED)}"
        )


def main() -> None:
    """Run the command line and exit with 0, 1, 2, 130 or 143."""
    console.tolerate_any_locale()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _stop)
    try:
        try:
            code = _command()
            signals.raise_lost()
            code = _flushed(code)
            _restore(before)
        except Exception as problem:  # noqa: BLE001 - told, whatever it is
            signals.raise_lost()  # where it left a module half made, say, this error is no news
            _restore(before)  # one line: a signal from here on adds none
            code = _flushed(_told(problem))
    except signals.SignalReceived as signalled:  # in the command, or in the moment after it
        _restore(before)
        signals.handled()
        number = signalled.args[0]
        console.error("interrupted" if number == signal.SIGINT else "terminated")
        code = _flushed(128 + number)
    sys.exit(code)


def _command() -> int | str | None:
    """Run the command; returns its exit code."""
    try:
        app()
    except SystemExit as leave:
        return leave.code
    return 0


def _told(problem: Exception) -> int:
    """Tell an error in a line; its exit code."""
    if isinstance(problem, MlrecError):
        if os.environ.get("MLREC_DEBUG"):
            traceback.print_exception(problem)
        if getattr(problem, "speaks", processes.rank() == 0):
            console.error(str(problem))
        return problem.exit_code
    if isinstance(problem, _Untold):
        cause = problem.args[0]
        return 1 if isinstance(cause, BrokenPipeError) and _reader_left() else _crashed(cause)
    if is_out_of_memory(problem):
        console.error("out of memory; use a smaller --batch-size, fewer --workers, or more of it")
        return 1
    if isinstance(problem, ModuleNotFoundError):
        return _not_installed(problem)
    return _no_access(problem) if isinstance(problem, OSError) and problem.strerror else _crashed(problem)


def _restore(before: Mapping[signal.Signals, Any]) -> None:
    """From here on a signal ends the process as it ends any other."""
    for number, handler in before.items():
        signal.signal(number, signal.SIG_IGN if handler is signal.SIG_IGN else signal.SIG_DFL)


def _stop(number: int, _frame: FrameType | None) -> None:
    """End the command, removing temporaries; a second signal ends it as it stands."""
    signal.signal(number, signal.SIG_DFL)
    signals.raise_signal(number)


def _reader_left() -> bool:
    """Whether stdout or stderr is a pipe that nobody reads any more, as after `| head -1`."""
    ends = select.poll()
    for number in (1, 2):
        ends.register(number, 0)
    return any(event & select.POLLERR for _, event in ends.poll(0))


def _no_access(problem: OSError) -> int:
    if os.environ.get("MLREC_DEBUG"):
        traceback.print_exception(problem)
    where = f"{printable(problem.filename)}: " if problem.filename is not None else ""
    console.error(f"{where}{printable(problem.strerror)}; check path, permissions and space on the disk")
    return 1


def _not_installed(problem: ModuleNotFoundError) -> int:
    """A library that mlrec depends on is not there."""
    name = (problem.name or "").partition(".")[0]
    if name in ("", "mlrec"):
        return _crashed(problem)
    console.error(f"{printable(name)} is not installed, and this command needs it; install mlrec with its dependencies")
    return 1


def _crashed(problem: Exception) -> int:
    text = "".join(traceback.format_exception(problem))
    if os.environ.get("MLREC_DEBUG"):
        sys.stderr.write(text)
    try:
        Path(CRASH_LOG).write_text(text, encoding="utf-8", errors="backslashreplace")
        told = f"details in {CRASH_LOG}"
    except OSError:
        told = "run again with mlrec --debug to see where"
    console.error(f"this is a bug in mlrec ({type(problem).__name__}: {printable(problem)}); {told}")
    return 1


def _flushed(code: int | str | None) -> int | str | None:
    """Flush stdout here: a reader that left early must not cause noise when the interpreter shuts down."""
    try:
        sys.stdout.flush()
    except OSError as problem:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1 if isinstance(problem, BrokenPipeError) or code else _no_access(problem)
    return code


# One line a command: the name, and the function that is it. The functions import what they need when they run.
COMMANDS: dict[str, str] = {
    "attend": "attend:attend",
    "bench": "bench:bench",
    "demo": "demo:demo",
    "doctor": "doctor:doctor",
    "eval": "eval:evaluate",
    "import": "import_checkpoint:import_",
    "duplicates": "duplicates:duplicates",
    "export": "export:export",
    "export-data": "export_data:export_data",
    "label-errors": "label_errors:label_errors",
    "predict": "predict:predict",
    "prepare": "prepare:prepare",
    "recipes": "recipes:recipes",
    "report": "report:report",
    "score": "score:score",
    "split": "split:split",
    "stats": "stats:stats",
    "sweep": "sweep:sweep",
    "train": "train:train",
    "tune": "tune:tune",
}
