"""What a person sees at a terminal of 80 columns: bars and tables that fit, without broken words."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

import pytest

from mlrec.reports.render.table import Column, Row, Table
from mlrec.reports.render.terminal import render_text, width
from tests.reports.builders import write_run

REPOSITORY = Path(__file__).parents[1]
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
BAR = """
from mlrec.cli.console import Terminal
with Terminal().task("epoch 12/30", 11_540) as step:
    step(5_770, "loss 0.5121, lr 0.0097, 1141.6 images/s, run 12 h 34 min left")
"""


def at_terminal(columns: int, *arguments: str, cwd: Path) -> list[str]:
    """The lines that a command draws at a terminal of so many columns, without colors."""
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover - another process
        os.chdir(cwd)
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        environment |= {"TERM": "xterm-256color", "PYTHONPATH": str(REPOSITORY)}
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        os.execve(sys.executable, [sys.executable, *arguments], environment)
    drawn = b""
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        drawn += part
    os.waitpid(child, 0)
    os.close(terminal)
    return re.split(r"[\r\n]+", CONTROLS.sub("", drawn.decode()).strip())


def test_the_training_bar_shows_epoch_loss_and_time_left(tmp_path: Path) -> None:
    lines = at_terminal(80, "-c", BAR, cwd=tmp_path)
    last = lines[-1]
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in last
    for fact in ("epoch 12/30", "5770/11540", "loss 0.5121", "run 12 h 34 min left"):
        assert fact in last
    wide = at_terminal(160, "-c", BAR, cwd=tmp_path)[-1]
    assert "lr 0.0097, 1141.6 images/s" in wide


def test_a_report_fits_and_names_the_flag_for_all_columns(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", "voc2007-resnet101-csra-1")
    write_run(tmp_path / "runs", "voc2007-resnet101-csra-2", config={"lam": 0.3})
    lines = at_terminal(80, "-m", "mlrec", "report", cwd=tmp_path)
    text = "\n".join(lines)
    assert all(len(line) <= 80 for line in lines)
    heading = next(line for line in lines if line.startswith("Method"))
    assert [word for word in heading.split() if word not in ("H", "λ")] == ["Method", "mAP", "CF1", "OF1", "Run"]
    assert text.count("voc2007-resnet101-csra-") == 2
    assert text.count("conventions mlrec: see docs/explanation/conventions.md") == 1
    assert "--full" in text
    for columns, flags in ((80, ["--full"]), (200, [])):
        full = "\n".join(at_terminal(columns, "-m", "mlrec", "report", *flags, cwd=tmp_path))
        assert {"Backbone", "CP", "OR", "Top-3"} <= set(full.split())
        assert "more columns" not in full


LONG = Table(
    "A title of several words that is longer than the terminal",
    (Column("run", "Run", identity=True), Column("n", "n", "count"), Column("note", "What was found")),
    (
        Row(
            ("voc2007-resnet101-csra-1", 3, "one word after another, and a-rather-long-name-with-hyphens"),
            "a long group",
        ),
    ),
    ("a footnote whose words are kept whole when it is wrapped",),
)


@pytest.mark.parametrize("columns", [30, 40, 60, 200])
def test_texts_are_wrapped_between_words(columns: int) -> None:
    text = render_text([LONG], columns=columns, full=False)
    assert all(width(line) <= columns for line in text.splitlines())
    known = " ".join([LONG.title, *(c.title for c in LONG.columns), *map(str, LONG.rows[0].cells), "a long group",
                      *LONG.footnotes])  # fmt: skip
    pieces = {piece for word in known.split() for piece in [word, *re.findall(r"[^-]+-*|-+", word)]}
    joined = {"".join(parts) for parts in ([a, b, c] for a in pieces for b in ["", *pieces] for c in ["", *pieces])}
    assert {word for word in text.split() if not set(word) <= {"─"}} <= joined


def test_a_table_for_a_pipe_is_whole() -> None:
    assert render_text([LONG]).splitlines()[0] == LONG.title
    assert LONG.rows[0].cells[2] in render_text([LONG])
