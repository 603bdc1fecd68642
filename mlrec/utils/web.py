"""Download of small files from the public web.

Only http(s) is supported, file size and download time are limited, and private addresses are rejected. All addresses of
a host name are checked, and the connection is made to a checked address, so that a second DNS response cannot change
the address. The target of each redirect is also checked. Proxies are not used.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from mlrec.utils.errors import DataError, printable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # IPv6 addresses that contain an IPv4 address in the last 32 bits
REDIRECTS = (301, 302, 303, 307, 308)
BLOCK = 1 << 16
PORTS = {"http": 80, "https": 443}


def resolve(host: str, port: int) -> list[str]:
    """Return all IP addresses of a host name."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: Address) -> bool:
    """Return whether an IP address is on the public internet.

    IPv4 addresses embedded in IPv6 addresses are also checked.

    Example:
        >>> [is_public(ipaddress.ip_address(text)) for text in ("93.184.215.14", "10.0.0.1", "::ffff:127.0.0.1")]
        [True, False, False]
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.teredo is not None or address.is_site_local:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


@dataclass(frozen=True)
class WebPolicy:
    """Limits for a download from the public web.

    Attributes:
        max_bytes: Maximum file size in bytes.
        seconds: Maximum time in seconds for one file, including redirects.
        redirects: Maximum number of redirects.
        resolve: Function that returns the addresses for a host and port.
        allows: Function that returns whether connections to an address are allowed.
    """

    max_bytes: int = 64 << 20
    seconds: float = 30.0
    redirects: int = 5
    resolve: Callable[[str, int], list[str]] = resolve
    allows: Callable[[Address], bool] = is_public


def is_url(text: str) -> bool:
    """Return whether a string is a URL (with any scheme) and not a path.

    Example:
        >>> is_url("https://example.com/a.jpg"), is_url("photos/a.jpg"), is_url("C:/a.jpg")
        (True, False, False)
    """
    scheme, separator, _ = text.partition("://")
    return bool(separator) and len(scheme) > 1 and scheme.isascii() and scheme.replace("+", "").isalnum()


def shown(url: str) -> str:
    """Return a URL without the user name, password, query and fragment, which may contain secrets.

    Example:
        >>> shown("https://user:word@example.com/a.jpg?token=secret")
        'https://example.com/a.jpg'
    """
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return printable(urlunsplit((parts.scheme, host, parts.path, "", "")))
    except ValueError:
        return "(a malformed URL)"


def fetch(url: str, policy: WebPolicy | None = None) -> bytes:
    """Download a file and return its bytes.

    Args:
        url: http or https URL without a user name and password.
        policy: Limits for the download [default: `WebPolicy()`].

    Raises:
        DataError: The URL is not allowed or the download failed; the message does not contain secrets from the URL.
    """
    policy = policy or WebPolicy()
    deadline = time.monotonic() + policy.seconds
    for _ in range(policy.redirects + 1):
        with _response(url, policy, deadline) as response:
            if response.status not in REDIRECTS:
                return _content(response, url, policy)
            target = urljoin(url, response.headers.get("Location", ""))
        if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
            raise DataError(
                f"{shown(url)}: the server redirects to {shown(target)}, which is not encrypted; download the "
                "file manually"
            )
        url = target
    raise DataError(f"{shown(url)}: more than {policy.redirects} redirects")


def _content(response: http.client.HTTPResponse, url: str, policy: WebPolicy) -> bytes:
    if response.status != 200:
        raise DataError(f"{shown(url)}: the server responded with HTTP status {response.status}; check the URL")
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise DataError(
            f"{shown(url)}: the server sent compressed content, which is not accepted; download the file manually"
        )
    expected = response.length
    content = bytearray()
    while len(content) <= policy.max_bytes and (expected or 0) <= policy.max_bytes:
        block = response.read(BLOCK)
        if not block:
            if expected is not None and len(content) < expected:
                raise DataError(
                    f"{shown(url)}: the connection ended after {len(content):,} of {expected:,} bytes; try again"
                )
            return bytes(content)
        content += block
    raise DataError(f"{shown(url)}: the file is larger than {policy.max_bytes:,} bytes; download the file manually")


@contextlib.contextmanager
def _response(url: str, policy: WebPolicy, deadline: float) -> Iterator[http.client.HTTPResponse]:
    connection = None
    seconds = deadline - time.monotonic()
    try:
        host, port, target, secure = _parts(url)
        address = _checked_address(host, port, url, policy)
        connection = _Connection(host, port, address, max(seconds, 0.001), secure)
        # A server that occasionally sends a byte never exceeds the socket timeout.
        timer = threading.Timer(max(seconds, 0.001), connection.abort)
        timer.daemon = True
        timer.start()
        try:
            connection.request("GET", target, headers={"Accept-Encoding": "identity", "User-Agent": "mlrec"})
            yield connection.getresponse()
        finally:
            timer.cancel()
    except DataError:
        if time.monotonic() >= deadline:
            raise _too_slow(url, policy) from None
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        if time.monotonic() >= deadline or isinstance(error, TimeoutError):
            raise _too_slow(url, policy) from None
        # The error text may quote the URL.
        raise DataError(f"{shown(url)}: download failed ({type(error).__name__}); check the URL") from None
    finally:
        if connection is not None:
            connection.close()


def _too_slow(url: str, policy: WebPolicy) -> DataError:
    return DataError(f"{shown(url)}: the download took longer than {policy.seconds:g} s; download the file manually")


def _parts(url: str) -> tuple[str, int, str, bool]:
    """Return the host, the port, the path with the query, and whether the connection is encrypted."""
    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        raise DataError(f"{shown(url)}: the URL must start with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise DataError(f"{shown(url)}: user names and passwords in URLs are not supported; download the file manually")
    if not parts.hostname:
        raise DataError(f"{shown(url)}: the URL has no host name; correct the URL")
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    return parts.hostname, parts.port or PORTS[parts.scheme], target, parts.scheme == "https"


def _checked_address(host: str, port: int, url: str, policy: WebPolicy) -> str:
    addresses = policy.resolve(host, port)
    if not addresses:
        raise DataError(f"{shown(url)}: the host name cannot be resolved; check the URL")
    for address in addresses:
        if not policy.allows(ipaddress.ip_address(address.partition("%")[0])):
            raise DataError(f"{shown(url)}: the host has a private or reserved address; use a public server")
    return addresses[0]


class _Connection(http.client.HTTPConnection):
    """Connection to a checked address; the certificate and the `Host` header use the host name."""

    def __init__(self, host: str, port: int, address: str, seconds: float, secure: bool) -> None:
        super().__init__(host, port, timeout=seconds)
        self.default_port = PORTS["https" if secure else "http"]
        self._address, self._secure = address, secure
        self._open: socket.socket | None = None

    def connect(self) -> None:
        """Connect to the checked address."""
        self._open = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            self._open = ssl.create_default_context().wrap_socket(self._open, server_hostname=self.host)
        self.sock = self._open

    def abort(self) -> None:
        """Abort all reads and writes; may be called from another thread."""
        if self._open is not None:
            with contextlib.suppress(OSError):
                self._open.shutdown(socket.SHUT_RDWR)
