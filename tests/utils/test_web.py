"""URLs of images: only public addresses, within limits, and no secret in any message."""

from __future__ import annotations

import ipaddress
import time
from http.server import BaseHTTPRequestHandler

import pytest

from mlrec.utils.errors import DataError
from mlrec.utils.web import WebPolicy, fetch, is_public, is_url, shown
from tests.http_server import reply, serving

HERE = WebPolicy(allows=lambda address: str(address) == "127.0.0.1", seconds=5)  # the server of the test, no other


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
        "::", "::1", "fe80::1", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1", "2001:db8::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::", "2002:a00:1::1", "2001:0:53aa:64c:0:0:80ff:fffe",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "8.8.8.8", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"]
)
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def refused_by(url: str, policy: WebPolicy) -> str:
    with pytest.raises(DataError) as caught:
        fetch(url, policy)
    return str(caught.value)


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:7f00:1]"]
)
def test_this_machine_is_not_reached_by_default(host: str) -> None:
    def fail(request: BaseHTTPRequestHandler) -> None:
        raise AssertionError("was reached")

    with serving(fail) as server:
        port = server.rpartition(":")[2]
        told = refused_by(f"http://{host}:{port}/a.jpg", WebPolicy(seconds=5))
    # a form of address that this system's resolver does not know is refused as well
    assert "private or reserved address" in told or "download failed (gaierror)" in told


def test_a_name_with_one_private_address_is_refused() -> None:
    asked = []

    def answers(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["93.184.215.14", "10.0.0.7"]

    told = refused_by("https://images.example/a.jpg", WebPolicy(resolve=answers))
    assert "private or reserved address" in told
    assert asked == [("images.example", 443)]


def test_the_checked_address_is_the_one_that_is_connected_to() -> None:
    """A second answer of the name server, for this machine, is never asked for."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    hosts = []

    def handle(request: BaseHTTPRequestHandler) -> None:
        hosts.append(request.headers["Host"])
        reply(request, 200, b"pixels")

    with serving(handle) as server:
        port = server.rpartition(":")[2]
        policy = WebPolicy(resolve=lambda host, port: next(answers), allows=HERE.allows, seconds=5)
        assert fetch(f"http://images.example:{port}/a.jpg", policy) == b"pixels"
    assert hosts == [f"images.example:{port}"]


@pytest.mark.parametrize(
    "target", ["http://10.0.0.1/x", "http://169.254.169.254/latest", "file:///etc/passwd", "ftp://example.com/x"]
)
def test_redirects_are_checked(target: str) -> None:
    with serving(lambda request: reply(request, 302, Location=target)) as server:
        told = refused_by(f"{server}/a.jpg", HERE)
    assert "private or reserved address" in told or "must start with http://" in told


def test_redirects_are_followed_and_counted() -> None:
    def handle(request: BaseHTTPRequestHandler) -> None:
        number = int(request.path.rpartition("/")[2])
        if number:
            reply(request, 302, Location=f"/{number - 1}")
        else:
            reply(request, 200, b"pixels")

    with serving(handle) as server:
        assert fetch(f"{server}/5", HERE) == b"pixels"
        assert "more than 5 redirects" in refused_by(f"{server}/6", HERE)


def test_size_is_limited_whether_the_server_states_it_or_not() -> None:
    def handle(request: BaseHTTPRequestHandler) -> None:
        if request.path == "/stated":
            request.send_response(200)
            request.send_header("Content-Length", "1000000000000")
            request.end_headers()
            return
        request.send_response(200)  # no length: up to the end of the connection
        request.end_headers()
        request.wfile.write(bytes(200_000))

    policy = WebPolicy(allows=HERE.allows, max_bytes=100_000, seconds=5)
    with serving(handle) as server:
        for path in ("stated", "unstated"):
            assert "larger than 100,000 bytes" in refused_by(f"{server}/{path}", policy)


@pytest.mark.parametrize("part", ["headers", "body"])
def test_time_is_limited_also_if_bytes_keep_coming(part: str) -> None:
    def handle(request: BaseHTTPRequestHandler) -> None:
        head = b"HTTP/1.0 200 OK\r\nContent-Length: 1000\r\n"
        if part == "body":
            request.wfile.write(head + b"\r\n")
        else:
            request.wfile.write(head)
        for _ in range(100):
            request.wfile.write(b"x")
            request.wfile.flush()
            time.sleep(0.05)

    begun = time.monotonic()
    with serving(handle) as server:
        told = refused_by(f"{server}/a.jpg", WebPolicy(allows=HERE.allows, seconds=0.4))
        assert "the download took longer than 0.4 s" in told
        assert time.monotonic() - begun < 4


def test_failures_of_a_server_are_one_line_without_secrets() -> None:
    def handle(request: BaseHTTPRequestHandler) -> None:
        if request.path.startswith("/short"):
            request.send_response(200)
            request.send_header("Content-Length", "100")
            request.end_headers()
            request.wfile.write(b"123")
        elif request.path.startswith("/packed"):
            reply(request, 200, b"x", Content_Encoding="gzip")
        elif request.path.startswith("/garbage"):
            request.wfile.write(b"this is not http\r\n\r\n")
        else:
            reply(request, 403, b"secret page")

    with serving(handle) as server:
        for path, expected in (
            ("short", "ended after 3 of 100 bytes"),
            ("packed", "compressed"),
            ("garbage", "BadStatusLine"),
            ("no", "403"),
        ):
            told = refused_by(f"{server}/{path}?token=hidden", HERE)
            assert expected in told
            assert "hidden" not in told
            assert "secret" not in told
    for url in ("https://user:hunter2@example.com/a.jpg", "http://[bad", "http://", "http://exa mple.com:99999/"):
        told = refused_by(url, HERE)
        assert "hunter2" not in told


def test_texts_that_are_urls() -> None:
    assert all(map(is_url, ["http://a", "HTTPS://a/b", "s3://bucket/key", "file:///etc/passwd"]))
    assert not any(map(is_url, ["a.jpg", "a://b"[1:], "C://a.jpg", "dir/http:/a", "ü://x"]))
    assert shown("http://u:p@h:1/p?q#f") == "http://h:1/p"
