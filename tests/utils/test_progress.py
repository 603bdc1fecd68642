"""Notes and warnings are records of the logger "mlrec"."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from mlrec.cli import console
from mlrec.utils.progress import NOTHING, PythonWarnings, first_process_logs, logged_from, logged_once, logged_to
from tests.conftest import Notes

LOGGER = logging.getLogger("mlrec.workflows.data.prepare")


def log() -> None:
    LOGGER.info("a note")
    LOGGER.warning("a \x1b[31mwarning")


def test_nothing_is_printed_unless_a_program_configures_logging() -> None:
    script = "import logging, mlrec; {} log = logging.getLogger('mlrec.x'); log.info('note'); log.warning('warning')"
    for configured, printed in (
        ("", ""),
        ("logging.basicConfig(level='INFO');", "INFO:mlrec.x:note\nWARNING:mlrec.x:warning\n"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script.format(configured)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        assert (done.stdout, done.stderr) == ("", printed)


def test_the_terminal_prints_both_in_safe_lines(capsys: pytest.CaptureFixture[str]) -> None:
    console._console.cache_clear()
    with logged_to(console.Records()):
        log()
    log()
    assert capsys.readouterr() == ("", "a note\nwarning: a \\x1b[31mwarning\n")


def test_warnings_become_warnings_of_python() -> None:
    with pytest.warns(UserWarning, match="warning") as caught, logged_to(PythonWarnings()):
        log()
    assert [str(one.message) for one in caught] == ["a \\x1b[31mwarning"]


@pytest.mark.parametrize(("level", "lines"), [(logging.NOTSET, 2), (logging.WARNING, 1), (NOTHING, 0)])
def test_runs_of_many_log_warnings_only_or_nothing(level: int, lines: int, notes: Notes) -> None:
    with logged_from(level):
        log()
    assert len(notes.lines) == lines
    log()
    assert len(notes.lines) == lines + 2


def test_of_several_processes_the_first_logs(notes: Notes, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, lines in (("1", 0), ("0", 2)):
        monkeypatch.setenv("RANK", rank)
        with first_process_logs():
            log()
        assert len(notes.lines) == lines


def test_a_repeated_message_is_logged_once_inside_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    with logged_to(console.Records()):
        with logged_once():
            for name in ("a", "b", "a"):
                logging.getLogger("mlrec.data").warning("label %s", name)
        logging.getLogger("mlrec.data").warning("label a")
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition(" ")[2] for line in lines] == ["a", "b", "a"]
