"""Where a command ends: exit codes, one line for an error, results and chatter on their own streams."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlrec import __version__
from mlrec.cli import app as cli
from mlrec.utils.errors import ConfigError, DataError, MlrecError
from mlrec.utils.signals import SignalReceived
from tests.processes import started


def raising(problem: BaseException | None) -> Callable[[str], None]:
    def told(_: str) -> None:
        if problem is not None:
            raise problem

    return told


def end(monkeypatch: pytest.MonkeyPatch, told: Callable[[str], None], folder: Path) -> int:
    """The exit code of `main` when this is what a command does."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["mlrec", "recipes", "list"])
    monkeypatch.setattr(cli.console, "result", told)
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as leave:
            cli.main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return int(leave.value.code or 0)


@pytest.mark.parametrize(
    ("command", "refused"), [("sweep", True), ("prepare", True), ("attend", True), ("predict", False), ("eval", False)]
)
def test_commands_of_one_process_are_refused_under_torchrun(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, refused: bool
) -> None:
    """Each process would do all the work, and write the same files."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(sys, "argv", ["mlrec", command, "--no-such-option"])
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(SystemExit) as leave:
        cli.main()
    for number, handler in before.items():
        signal.signal(number, handler)
    assert leave.value.code == 2
    expected = f"error: mlrec {command} runs in one process, but WORLD_SIZE is 2; run the command without torchrun"
    assert (expected in capsys.readouterr().err) == refused


@pytest.mark.parametrize(
    ("problem", "code", "told"),
    [
        (None, 0, ""),
        (MlrecError("disk is full"), 1, "error: disk is full"),
        (DataError("a.xml: no object; add one"), 1, "error: a.xml: no object; add one"),
        (ConfigError("lr = 'x': expected a number"), 2, "error: lr = 'x': expected a number"),
        (SignalReceived(signal.SIGINT), 130, "error: interrupted"),
        (SignalReceived(signal.SIGTERM), 143, "error: terminated"),
        (
            MemoryError(),
            1,
            "error: out of memory; use a smaller --batch-size, fewer --workers, or a machine with more memory",
        ),
        (
            PermissionError(13, "Permission denied", "runs"),
            1,
            "error: runs: Permission denied; check the path, permissions and disk space",
        ),
    ],
)
def test_exit_codes(
    problem: BaseException | None,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.console._console.cache_clear()
    assert end(monkeypatch, raising(problem), tmp_path) == code
    streams = capsys.readouterr()
    assert streams.err.strip() == told
    assert streams.out == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "then", [None, AttributeError("a module is half made"), MlrecError("x"), ModuleNotFoundError("x")]
)
def test_a_signal_that_a_library_held_in_the_last_moment_ends_the_command(
    number: int,
    code: int,
    then: Exception | None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def told(_: str) -> None:
        try:
            os.kill(os.getpid(), number)
        except BaseException as held:
            if then is not None:
                raise then from held

    cli.console._console.cache_clear()
    assert end(monkeypatch, told, tmp_path) == code
    assert capsys.readouterr().err in ("error: interrupted\n", "error: terminated\n")


@pytest.mark.parametrize("problem", [MlrecError("x"), KeyError("x"), OSError(28, "No space left on device")])
def test_a_signal_adds_no_line_to_an_error_that_is_told(
    problem: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    handlers = []
    monkeypatch.setattr(cli.console, "error", lambda _: handlers.append(signal.getsignal(signal.SIGTERM)))
    assert end(monkeypatch, raising(problem), tmp_path) == 1
    assert handlers == [signal.SIG_DFL]


@pytest.mark.parametrize("problem", [KeyError("gone"), EOFError(), BrokenPipeError(32, "Broken pipe")])
def test_a_bug_ends_in_one_line_and_a_log(
    problem: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also one that Typer has an ending of its own for: a pipe to another process is not the one to the reader."""
    cli.console._console.cache_clear()
    monkeypatch.setattr(cli, "_reader_left", lambda: False)
    assert end(monkeypatch, raising(problem), tmp_path) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"bug in mlrec ({type(problem).__name__}" in told
    assert "Traceback" in (tmp_path / cli.CRASH_LOG).read_text()


def test_a_library_that_is_not_installed_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.console._console.cache_clear()
    assert end(monkeypatch, raising(ModuleNotFoundError("no", name="torch.nn")), tmp_path) == 1
    assert capsys.readouterr().err.startswith("error: this command requires torch, which is not installed; ")
    assert end(monkeypatch, raising(ModuleNotFoundError("no", name="mlrec.gone")), tmp_path) == 1
    assert "bug in mlrec" in capsys.readouterr().err


def run(*arguments: str, cwd: Path) -> SimpleNamespace:
    done = subprocess.run(
        [sys.executable, "-m", "mlrec", *arguments], cwd=cwd, capture_output=True, text=True, check=False, timeout=60
    )
    return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr)


def test_version_goes_to_stdout(tmp_path: Path) -> None:
    done = run("--version", cwd=tmp_path)
    assert (done.code, done.out, done.err) == (0, f"mlrec {__version__}\n", "")


@pytest.mark.parametrize("arguments", [["nonsense"], ["report", "--nonsense"], ["prepare", "coco"]])
def test_wrong_usage_is_exit_2_and_says_what_is_wrong(arguments: list[str], tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert (done.code, done.out) == (2, "")
    assert done.err
    assert "Traceback" not in done.err


def test_control_characters_in_an_argument_do_not_reach_the_terminal(tmp_path: Path) -> None:
    done = run("prepare", "coco", "a\x1b[31mred", cwd=tmp_path)
    assert done.code == 1
    assert "\x1b" not in done.err
    assert len(done.err.splitlines()) == 1


def test_a_signal_in_the_moment_after_a_command_ends_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flushed, signals = cli._flushed, [signal.SIGTERM]

    def late(code: int | str | None) -> int | str | None:
        while signals:
            signal.raise_signal(signals.pop())
        return flushed(code)

    monkeypatch.setattr(cli, "_flushed", late)
    assert end(monkeypatch, raising(None), tmp_path) == 143
    assert capsys.readouterr().err == "error: terminated\n"


def test_a_signal_while_a_class_is_made_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    class Named:
        def __set_name__(self, owner: type, name: str) -> None:
            signal.raise_signal(signal.SIGTERM)

    def made(_: str) -> None:
        type("Made", (), {"named": Named()})

    monkeypatch.setattr(
        cli, "_command", lambda run=cli._command: (monkeypatch.setattr(cli.console, "result", made), run())[1]
    )
    assert end(monkeypatch, raising(None), tmp_path) == 143
    assert capsys.readouterr().err == "error: terminated\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_end_with_their_code_and_no_traceback(number: signal.Signals, code: int, tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom mlrec.cli import app as cli\nsys.argv[1:] = ['recipes', 'list']\n"
        "cli.console.result = lambda _: (print('up', flush=True), time.sleep(600))\n"
    )
    with started([sys.executable, "-c", script + "cli.main()"], cwd=tmp_path, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(number)
        _, told = process.communicate(timeout=120)
    assert process.returncode == code
    assert told == ("error: interrupted\n" if number == signal.SIGINT else "error: terminated\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("--help | true", ""),
        ("recipes list | true", ""),
        ("report none 2>&1 | true", ""),
        ("recipes list >&-", ""),
        ("report none >&- 2>&-", ""),
        ("report none >&-", "error: no finished run "),
    ],
)
def test_a_reader_that_leaves_early_or_was_never_there_causes_no_noise(line: str, told: str, tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m mlrec {line}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == ""
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == bool(told)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "found"), [({}, "10000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)]
)
def test_threads_that_wait_do_not_keep_the_cores_unless_the_user_says_so(
    given: dict[str, str], found: str | None
) -> None:
    script = """
import os, sys
from mlrec import __main__
sys.argv = ["mlrec", "--version"]
try:
    __main__.main()
except SystemExit:
    print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""
    clean = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=clean | given, check=True)
    assert done.stdout.splitlines()[-1] == f"{found} False"  # before torch reads it
