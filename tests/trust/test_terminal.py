"""The command line where the surroundings are hostile: signals, full devices, closed pipes, poor locales, odd names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.processes import started, until_alive
from tests.trust import trees

REPOSITORY = Path(__file__).parents[2]


def mlrec(*arguments: object, cwd: Path, **environment: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return started(
        [sys.executable, "-m", "mlrec", *(os.fsencode(str(argument)) for argument in arguments)], cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
    )  # fmt: skip


def ended(running: AbstractContextManager[subprocess.Popen[bytes]]) -> tuple[int, bytes, bytes]:
    with running as process:
        return told_by(process)


def told_by(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    out, told = process.communicate(timeout=120)
    assert b"Traceback" not in told, told.decode()
    assert b"Exception ignored" not in told, told.decode()
    return process.returncode, out, told


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("after", [0.05, 0.25])
def test_a_signal_at_the_start_ends_in_a_line(number: int, code: int, after: float, tmp_path: Path) -> None:
    with mlrec("prepare", "shapes", "shapes", "--out", "data", cwd=tmp_path) as process:
        until_alive(process.pid)
        time.sleep(after)
        process.send_signal(number)
        assert told_by(process)[0] == code
    assert not list(tmp_path.glob("data/*"))


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    trees.csv(tmp_path)
    ignored = "signal.signal(signal.SIGINT, signal.SIG_IGN)"
    script = f"import os, signal, sys; {ignored}; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    command = ["-m", "mlrec", "prepare", "csv", "labels.csv", "--out", "data"]
    with started([sys.executable, "-c", script, *command], cwd=tmp_path) as process:
        until_alive(process.pid)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert told_by(process)[0] == 0
    assert (tmp_path / "data/labels/dataset.json").is_file()


def test_a_result_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "mlrec", "recipes", "list"], cwd=tmp_path, stdout=stream, stderr=subprocess.PIPE,
            check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"No space left" in done.stderr


def test_names_that_are_no_text_under_an_ascii_locale(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"caf\xe9 [red]\x1b[31m")
    trees.csv(root)
    process = mlrec(
        "prepare", "csv", root / "labels.csv", "--out", "data", "--name", "x", cwd=tmp_path, LC_ALL="C",
        PYTHONIOENCODING="ascii", PYTHONUTF8="0",
    )  # fmt: skip
    code, _, told = ended(process)
    assert b"\x1b" not in told
    assert told.isascii()
    assert b"bug in mlrec" not in told
    assert code == 1
    assert b"not valid UTF-8" in told
    assert not list((tmp_path / "data").iterdir())


def test_a_missing_file_with_such_a_name_is_told(tmp_path: Path) -> None:
    name = os.fsdecode(b"none\xff[/bold]\x1b[2J.csv")
    code, out, told = ended(mlrec("score", name, cwd=tmp_path, LC_ALL="C", PYTHONIOENCODING="ascii"))
    assert (code, out) == (1, b"")
    assert b"[/bold]" in told
    assert told.isascii()
    assert b"\x1b" not in told


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_color_where_none_is_wanted(environment: dict[str, str], tmp_path: Path) -> None:
    code, _, told = ended(mlrec("report", "none", cwd=tmp_path, **environment))
    assert code == 1
    assert b"\x1b" not in told


def test_what_the_system_refuses_is_no_bug(tmp_path: Path) -> None:
    trees.csv(tmp_path)
    trees.write(tmp_path / "file", "")
    code, _, told = ended(mlrec("prepare", "csv", "labels.csv", "--out", "file", cwd=tmp_path))
    assert code == 1
    assert b"bug" not in told
    assert told.count(b"\n") == 1
    assert not (tmp_path / "mlrec-crash.log").exists()


def test_the_traceback_comes_when_asked_for(tmp_path: Path) -> None:
    with mlrec("--debug", "score", "none.csv", cwd=tmp_path) as process:
        _, told = process.communicate(timeout=120)
    assert process.returncode == 1
    assert b"Traceback" in told
    assert told.splitlines()[-1].startswith(b"error: none.csv")
