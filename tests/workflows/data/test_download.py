"""`mlrec download` against a server on this machine: ranges, broken connections, wrong files, hostile archives."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlrec.cli.app import app
from mlrec.datasets import official_files
from mlrec.datasets.official_files import OFFICIAL, OfficialDataset, OfficialFile
from mlrec.utils import archives
from mlrec.utils.archives import unpack
from mlrec.utils.errors import DataError, MlrecError, UsageError
from mlrec.workflows.data.download import download, next_command
from tests.http_server import reply, serving

NOISE = bytes(range(256)) * 2000  # 512,000 bytes


def tar_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def zip_of(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


FILES = {
    "one.tar": tar_of({"VOCdevkit/VOC2007/a.jpg": NOISE, "VOCdevkit/VOC2007/b.txt": b"b"}),
    "two.zip": zip_of({"VOCdevkit/VOC2007/c.xml": b"<c/>" * 100}),
}


class Server:
    """What the server does; `asked` are the ranges that were asked for."""

    def __init__(self) -> None:
        self.files = dict(FILES)
        self.ranges, self.cut, self.statuses = True, 0, list[int]()
        self.asked: list[tuple[str, str | None]] = []

    def __call__(self, request: BaseHTTPRequestHandler) -> None:
        name, wanted = request.path.rpartition("/")[2], request.headers["Range"]
        self.asked.append((name, wanted))
        if self.statuses:
            reply(request, self.statuses.pop(0), b"busy")
            return
        body = self.files[name]
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.ranges else 0  # type: ignore[index]
        request.send_response(206 if start else 200)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        end = len(body)
        if self.cut:
            end, self.cut = start + (len(body) - start) // 2, self.cut - 1
        request.wfile.write(body[start:end])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, str]]:
    files = tuple(
        OfficialFile("http://official.invalid", name, len(body), hashlib.sha256(body).hexdigest())
        for name, body in FILES.items()
    )
    small = OfficialDataset("http://page.invalid", "free for tests", files, ("voc2007", "VOCdevkit"))
    monkeypatch.setitem(OFFICIAL, "voc2007", small)
    behaviour = Server()
    with serving(behaviour) as url:
        yield behaviour, url


def waits() -> tuple[list[float], object]:
    pauses: list[float] = []
    return pauses, pauses.append


def content(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


WHOLE = {
    "VOCdevkit/VOC2007/a.jpg": NOISE,
    "VOCdevkit/VOC2007/b.txt": b"b",
    "VOCdevkit/VOC2007/c.xml": b"<c/>" * 100,
}


def test_the_command(server: tuple[Server, str], tmp_path: Path) -> None:
    behaviour, url = server
    result = CliRunner().invoke(app, ["download", "voc2007", "--out", str(tmp_path / "d"), "--url-base", url])
    assert result.exit_code == 0, result.output
    assert content(tmp_path / "d" / "voc2007") == WHOLE
    assert list((tmp_path / "d" / "archives").iterdir()) == []
    told = result.stderr.splitlines()
    assert told[:2] == ["source: http://page.invalid", "license: free for tests"]
    expected = f"next: mlrec prepare voc2007 {tmp_path}/d/voc2007/VOCdevkit"
    assert result.stdout.splitlines()[-1].endswith(expected)
    again = CliRunner().invoke(app, ["download", "voc2007", "--out", str(tmp_path / "d"), "--url-base", url])
    assert "already exists" in again.stderr
    assert len(behaviour.asked) == 2


def test_broken_connections_are_resumed_where_they_broke(server: tuple[Server, str], tmp_path: Path) -> None:
    behaviour, url = server
    behaviour.cut, behaviour.statuses = 3, [503]
    pauses, wait = waits()
    download("voc2007", out=tmp_path, url_base=url, wait=wait)  # type: ignore[arg-type]
    assert content(tmp_path / "voc2007") == WHOLE
    size, starts, start = len(FILES["one.tar"]), [], 0
    for _ in range(3):
        start += (size - start) // 2
        starts.append(f"bytes={start}-")
    assert [wanted for name, wanted in behaviour.asked if name == "one.tar"] == [None, None, *starts]
    assert pauses == [2.0, 1.0, 1.0, 1.0]


def test_a_later_call_resumes_and_a_server_without_ranges_starts_again(
    server: tuple[Server, str], tmp_path: Path
) -> None:
    behaviour, url = server
    for ranges in (True, False):
        out = tmp_path / str(ranges)
        (out / "archives").mkdir(parents=True)
        (out / "archives" / "one.tar.part").write_bytes(FILES["one.tar"][:1000])
        behaviour.ranges, behaviour.asked = ranges, []
        download("voc2007", out=out, url_base=url, keep_archives=True)
        assert behaviour.asked[0] == ("one.tar", "bytes=1000-")
        assert content(out / "voc2007") == WHOLE
        assert content(out / "archives") == FILES


def test_a_server_that_is_gone_is_an_error_that_says_how_to_resume(server: tuple[Server, str], tmp_path: Path) -> None:
    behaviour, url = server
    pauses, wait = waits()
    behaviour.statuses = [503] * 100
    with pytest.raises(MlrecError, match=r"HTTP status 503 \(8 attempts\); run the command again to resume at 0 of"):
        download("voc2007", out=tmp_path, url_base=url, wait=wait)  # type: ignore[arg-type]
    assert pauses == [2.0**k for k in range(1, 8)]
    behaviour.statuses = [404]
    with pytest.raises(MlrecError, match="HTTP status 404; use a mirror"):
        download("voc2007", out=tmp_path, url_base=url)
    assert not (tmp_path / "voc2007").exists()


@pytest.mark.parametrize("change", ["other", "larger"])
def test_a_wrong_file_is_not_unpacked(change: str, server: tuple[Server, str], tmp_path: Path) -> None:
    behaviour, url = server
    right = FILES["one.tar"]
    behaviour.files["one.tar"] = right + b"more" if change == "larger" else right[:-1] + b"x"
    told = "not the official file" if change == "larger" else "the SHA-256 is [0-9a-f]{64}, but"
    with pytest.raises(MlrecError, match=told):
        download("voc2007", out=tmp_path, url_base=url)
    assert sum(len(body) for body in content(tmp_path).values()) == 0  # so that the next call does not resume it
    behaviour.files["one.tar"] = right
    download("voc2007", out=tmp_path, url_base=url)
    assert content(tmp_path / "voc2007") == WHOLE


def test_a_local_folder_is_a_mirror(server: tuple[Server, str], tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    for name, body in FILES.items():
        (tmp_path / "mirror" / name).write_bytes(body)
    download("voc2007", out=tmp_path / "out", url_base=str(tmp_path / "mirror"))
    assert content(tmp_path / "out" / "voc2007") == WHOLE
    assert content(tmp_path / "mirror") == FILES
    (tmp_path / "mirror" / "one.tar").write_bytes(b"other")
    with pytest.raises(DataError, match="SHA-256"):
        download("voc2007", out=tmp_path / "again", url_base=str(tmp_path / "mirror"))
    assert (tmp_path / "mirror" / "one.tar").exists()
    with pytest.raises(UsageError, match="no such file"):
        download("voc2007", out=tmp_path / "third", url_base=str(tmp_path))
    with pytest.raises(UsageError, match="expected an http or https"):
        download("voc2007", out=tmp_path / "fourth", url_base="ftp://mirror.invalid")


def test_disk_space_is_checked_first(
    server: tuple[Server, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlrec.workflows.data.download.free_bytes", lambda folder: 1_000_000)
    with pytest.raises(MlrecError, match=r"about 1,\d\d\d,\d\d\d bytes are needed, but only 1,000,000 are free"):
        download("voc2007", out=tmp_path, url_base=server[1])
    assert not server[0].asked
    assert archives.free_bytes(tmp_path / "not" / "yet") > 0


def test_wider_is_explained_and_unknown_names_are_errors(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["download", "wider", "--out", str(tmp_path)])
    assert isinstance(result.exception, UsageError)
    assert "Google Drive" in str(result.exception)
    assert "mlrec prepare wider FOLDER" in str(result.exception)
    with pytest.raises(UsageError, match="did you mean 'voc2007'"):
        download("voc2077", out=tmp_path)


def test_the_table_of_files_is_well_formed() -> None:
    assert list(OFFICIAL) == ["voc2007", "voc2012", "coco2014", "wider"]
    for name, dataset in OFFICIAL.items():
        assert dataset.page.startswith("http")
        assert dataset.licence
        assert next_command(name, Path("x")).startswith("mlrec prepare ")
        for file in dataset.files:
            assert re.fullmatch("[0-9a-f]{64}", file.sha256)
            assert file.size > 10**8
            assert file.name.endswith((".tar", ".zip"))
    assert official_files.OFFICIAL["coco2014"].files[0].name == "annotations_trainval2014.zip"


@pytest.mark.parametrize("name", ["../escape", "/absolute", "a/../../escape", "C:\\x", "a\\..\\b", "x\ny"])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_leave_the_folder_are_refused(kind: str, name: str, tmp_path: Path) -> None:
    archive, make = tmp_path / "a", {"tar": tar_of, "zip": zip_of}[kind]
    archive.write_bytes(make({"good.txt": b"1", name: b"2"}))
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match=r"is absolute, or contains '\.\.' or an invalid character"):
        unpack(archive, tmp_path / "in", 10**6)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["a", "good.txt", "in"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(kind: bytes, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("link")
        member.type, member.linkname = kind, "/etc"
        archive.addfile(member)
    (tmp_path / "a.tar").write_bytes(stream.getvalue())
    entry = zipfile.ZipInfo("link")
    entry.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr(entry, "/etc")
    for name in ("a.tar", "a.zip"):
        with pytest.raises(DataError, match="is a link or a device"):
            unpack(tmp_path / name, tmp_path / "in", 10**6)
    assert not (tmp_path / "in").exists()


def test_bombs_and_damaged_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb.zip").write_bytes(zip_of({"zeros": bytes(10**7)}))
    assert (tmp_path / "bomb.zip").stat().st_size < 20_000
    with pytest.raises(DataError, match="the unpacked size exceeds 1,000,000 bytes"):
        unpack(tmp_path / "bomb.zip", tmp_path / "in", 10**6)
    assert (tmp_path / "in" / "zeros").stat().st_size <= 10**6
    for name, body in (
        ("cut.tar", FILES["one.tar"][:5000]),
        ("text.tar", b"no archive"),
        ("cut.zip", FILES["two.zip"][:-30]),
    ):
        (tmp_path / name).write_bytes(body)
        with pytest.raises(DataError, match="the archive is damaged"):
            unpack(tmp_path / name, tmp_path / name.replace(".", "-"), 10**6)
