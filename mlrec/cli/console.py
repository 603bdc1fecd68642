"""Terminal output: results are printed to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from mlrec.utils import signals
from mlrec.utils.errors import LONGEST_LINE, escaped, printable
from mlrec.utils.progress import Step

if TYPE_CHECKING:
    from rich.console import Console

    from mlrec.reports.render.table import Table

PLAIN_SECONDS = 30.0
PLAIN_SHARE = 0.05
WIDE = 100  # minimum number of terminal columns for showing all facts next to a progress bar
NARROW_BAR, WIDE_BAR = 10, 40


@cache
def _console(stderr: bool) -> Console:
    from rich.console import Console

    return Console(stderr=stderr, markup=False, highlight=False, soft_wrap=True)


def tolerate_any_locale() -> None:
    """Configure stdout and stderr to escape characters that the terminal encoding does not support."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def result(text: str) -> None:
    """Print a result to stdout."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def result_line(text: str) -> None:
    """Print one line to stdout, with control characters escaped."""
    result(escaped(text))


def result_tables(tables: Sequence[Table], *, full: bool = False) -> None:
    """Print tables to stdout.

    On a terminal, tables are fitted to the terminal width, and the best values are bold. Otherwise, complete tables are
    printed without styles.

    Args:
        tables: Tables to print.
        full: Whether to print all columns and footnotes even on a narrow terminal.
    """
    from mlrec.reports.render.terminal import render_text

    terminal = sys.stdout.isatty()
    columns = None
    if terminal:
        columns = shutil.get_terminal_size().columns
    result(render_text(tables, styled=terminal, columns=columns, full=full))


def tables_as_data(tables: Sequence[Table]) -> list[Any]:
    """Return the content of tables as JSON-compatible data."""
    from mlrec.reports.render.formats import json_text

    return [json.loads(json_text([table])) for table in tables]


def result_json(value: Any) -> None:
    """Print a machine-readable result to stdout as JSON, with `null` for undefined values."""
    result(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def error(first: str, *rest: str) -> None:
    """Print the error message of a failed command; a list of errors is printed with one line per error."""
    _line("error: " + first, "bold red")
    for line in rest:
        _line(line, "")


def _line(text: str, style: str) -> None:
    _console(stderr=True).print(printable(text, LONGEST_LINE), style=style)


def _ends_of(facts: str) -> str:
    """Return only the first and the last fact, for narrow terminals.

    In training, these are the loss and the remaining time.
    """
    parts = facts.split(", ")
    return ", ".join(parts if len(parts) < 3 else [parts[0], parts[-1]])


class Records(logging.Handler):
    """Logging handler that prints the package's notes and warnings to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        printed = Terminal()
        (printed.warn if record.levelno >= logging.WARNING else printed.say)(record.getMessage())


class Terminal:
    """Progress display on stderr.

    On a terminal, progress is shown as bars. Otherwise, a plain line is printed every 5% (at most every two seconds),
    or every 30 seconds.
    """

    def say(self, text: str) -> None:
        """Print a note."""
        _line(text, "")

    def warn(self, text: str) -> None:
        """Print a warning."""
        _line("warning: " + text, "yellow")

    @contextlib.contextmanager
    def task(self, name: str, total: int | None = None) -> Iterator[Step]:
        """Show the progress of one task; each step raises `SignalReceived` after an unhandled signal."""
        drawn = self._lines
        if _console(stderr=True).is_terminal:
            drawn = self._bar
        with drawn(name, total) as advance:

            def step(done: int = 1, facts: str = "") -> None:
                if threading.current_thread() is threading.main_thread():
                    signals.raise_lost()
                advance(done, facts)

            yield step

    @contextlib.contextmanager
    def _bar(self, name: str, total: int | None) -> Iterator[Step]:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        narrow = _console(stderr=True).width < WIDE
        whole = Column(no_wrap=True)
        columns = (
            TextColumn("{task.description}", markup=False, table_column=whole.copy()),
            BarColumn(bar_width=NARROW_BAR if narrow else WIDE_BAR),
            MofNCompleteColumn(table_column=whole.copy()),
            TimeRemainingColumn(elapsed_when_finished=True, table_column=whole.copy()),
            TextColumn("{task.fields[facts]}", markup=False, table_column=whole.copy()),
        )
        with Progress(*columns, console=_console(stderr=True)) as bars:
            task = bars.add_task(name, total=total, facts="")

            def step(done: int = 1, facts: str = "") -> None:
                bars.advance(task, done)
                if facts:
                    bars.update(task, facts=_ends_of(facts) if narrow else facts)

            yield step

    @contextlib.contextmanager
    def live(self) -> Iterator[Callable[[str], None] | None]:
        """Yield a function that replaces its previous output on stderr, or None if stderr is not a terminal."""
        if not _console(stderr=True).is_terminal:
            yield None
            return
        from rich.live import Live
        from rich.text import Text

        with Live(console=_console(stderr=True), auto_refresh=False) as drawn:
            yield lambda text: drawn.update(Text.from_ansi(text), refresh=True)

    @contextlib.contextmanager
    def _lines(self, name: str, total: int | None) -> Iterator[Step]:
        begun = printed = time.monotonic()
        count, printed_count = 0, 0

        def step(done: int = 1, facts: str = "") -> None:
            nonlocal count, printed, printed_count
            count += done
            now = time.monotonic()
            # 5% of a short task takes almost no time, so print at most one line every two seconds
            share = 0.0
            if total:
                share = (count - printed_count) / total
            if now - printed < PLAIN_SECONDS and not (share >= PLAIN_SHARE and now - printed >= 2.0):
                return
            printed, printed_count = now, count
            left = ""
            if total and count:
                left = f", {(now - begun) / count * (total - count):.0f} s left"
            _line(f"{name}: {count}{f'/{total}' if total else ''}{left}{'; ' + facts if facts else ''}", "")

        yield step
