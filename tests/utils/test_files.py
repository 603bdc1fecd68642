"""The one writer: whole or not at all, whatever happens; and the readers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlrec.utils import files
from mlrec.utils.errors import ConfigError, DataError, MlrecError

NO_SUCH_PID = 2**22 + 1


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.bin"
    with files.atomic_write(path) as stream:
        stream.write(b"one")
        assert not path.exists()
    assert path.read_bytes() == b"one"
    assert names(path.parent) == ["a.bin"]


def test_an_error_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with contextlib.suppress(KeyboardInterrupt), files.atomic_write(path) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_process_killed_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    code = (
        "import sys; from pathlib import Path; from mlrec.utils.files import write_bytes\n"
        "k = 0\n"
        "while True: write_bytes(Path(sys.argv[1]), bytes([k % 256]) * 4_000_000); k += 1"
    )
    for wait in (0.15, 0.21, 0.28):
        writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
        while not path.exists() and writer.poll() is None:
            time.sleep(0.01)
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        content = path.read_bytes()
        assert len(content) == 4_000_000
        assert len(set(content)) == 1
    files.remove_stale(tmp_path)
    assert names(tmp_path) == ["a.bin"]


def test_a_full_disk_is_reported_with_path_and_free_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")
    code = (
        "import resource, sys; from pathlib import Path; from mlrec.utils.files import write_bytes\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_bytes(Path(sys.argv[1]), bytes(5000))\n"
        "except ValueError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    assert str(path) in said
    assert "bytes free" in said
    assert said.count("\n") == 1
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_text_and_json(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.txt", "ü\n\udc80")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xbc\n\x80"
    files.write_json(tmp_path / "a.json", {"mAP": None, "name": "ü"})
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n  "mAP": null,\n  "name": "ü"\n}\n'
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "b.json", float("nan"))
    assert names(tmp_path) == ["a.json", "a.txt"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "data"
    for content in ("one", "two"):
        with files.replace_folder(path) as temporary:
            (temporary / content).touch()
        assert names(path) == [content]
    with contextlib.suppress(RuntimeError), files.replace_folder(path) as temporary:
        (temporary / "three").touch()
        raise RuntimeError
    assert names(path) == ["two"]
    assert names(tmp_path) == ["data"]


def test_temporaries_of_the_dead_are_removed_and_those_of_the_living_kept(tmp_path: Path) -> None:
    (tmp_path / f".a.txt.tmp-{NO_SUCH_PID}").touch()
    (tmp_path / f".b.tmp-{NO_SUCH_PID}").mkdir()
    (tmp_path / f".c.txt.tmp-{os.getppid()}").touch()
    (tmp_path / ".hidden").touch()
    files.remove_stale(tmp_path)
    assert names(tmp_path) == [f".c.txt.tmp-{os.getppid()}", ".hidden"]


def test_a_folder_retired_by_a_writer_that_was_killed_comes_back(tmp_path: Path) -> None:
    retired = tmp_path / f".data.old.tmp-{NO_SUCH_PID}"
    retired.mkdir()
    (retired / "dataset.json").touch()
    files.remove_stale(tmp_path)
    assert names(tmp_path) == ["data"]
    assert names(tmp_path / "data") == ["dataset.json"]


def test_reading_text_takes_a_byte_order_mark_and_any_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\nb\n")
    assert files.read_text(path) == "a\nb\n"


def test_invalid_utf8_is_reported_with_offset_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\nb\xe8c")
    with pytest.raises(DataError, match=r"a\.txt: not UTF-8 \(byte 0xE8 at offset 3, line 2\); save it as UTF-8"):
        files.read_text(path)


def test_reading_a_path_that_is_not_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo"):
        with pytest.raises(DataError, match="not a regular file"):
            files.read_bytes(path)
    with pytest.raises(ConfigError, match="cannot read the file"):
        files.read_bytes(tmp_path / "none", ConfigError)
    with pytest.raises(MlrecError, match="cannot write"):
        files.write_text(tmp_path / "fifo" / "a.txt", "")


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()
