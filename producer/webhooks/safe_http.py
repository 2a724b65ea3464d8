"""Calls to addresses that clients name: public ones only, by https, to exactly the address that was looked at.

A name is resolved once and the connection goes to what it resolved to, so that it cannot point elsewhere in between
(DNS rebinding). Redirects are not followed: they would lead where nobody has looked.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import ssl
import threading
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from queue import Empty, SimpleQueue
from urllib.parse import SplitResult, urlsplit, urlunsplit

from shared.errors import CallbackRefused, WebhooksDisabled
from shared.settings import Settings

#: Seconds for one call, from the name's resolution to the head of the answer, whatever number of addresses it has.
TIMEOUT_SECONDS = 5
_URL = re.compile(r"[\x21-\x7e]{1,2048}")
#: Where public IPv6 addresses are given out (RFC 4291, 2.4); what maps IPv4 lies elsewhere, tunnels are named below.
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


class Unreachable(Exception):
    """Nobody answers there, or nobody that we may ask."""


def check_callback(url: str, settings: Settings) -> str:
    """The URL if it may be called, as far as it can be seen without resolving it.

    Raises WebhooksDisabled, CallbackRefused.
    """
    if not settings.webhook_secret:
        raise WebhooksDisabled("callback_url needs DIGITQ_WEBHOOK_SECRET to be set on the server")
    parts = _split(url)
    literal = _literal(parts.hostname or "")
    if parts.scheme != "https" and not (literal and _allowed(literal, parts.scheme, settings)):
        raise CallbackRefused("Only https is allowed")
    if literal and not _allowed(literal, parts.scheme, settings):
        raise CallbackRefused("The address is not public")
    return url


def post(url: str, body: bytes, headers: dict[str, str], settings: Settings) -> int:
    """Status of the answer; its body is not read. Raises Unreachable."""
    try:
        parts = _split(url)
        host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
        connection = (HTTPSConnection if parts.scheme == "https" else HTTPConnection)(host, port)
        target = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        end = time.monotonic() + TIMEOUT_SECONDS
        with _connected(host, port, parts.scheme, settings, end) as raw:
            return _exchange(connection, raw, target, body, headers, end)
    except (OSError, HTTPException, ValueError, CallbackRefused) as error:
        raise Unreachable(f"{type(error).__name__}: {error}") from error


def _left(end: float) -> float:
    """Seconds until `end`. Raises TimeoutError if it is over."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"No answer within {TIMEOUT_SECONDS:g} s")
    return left


def _exchange(
    connection: HTTPConnection, raw: socket.socket, path: str, body: bytes, headers: dict[str, str], end: float
) -> int:
    """One request on a socket that is connected already, cut off when its time is over, however it drips."""
    sock, left = raw, _left(end)
    sock.settimeout(left)
    if isinstance(connection, HTTPSConnection):
        context = ssl.create_default_context()
        sock = context.wrap_socket(raw, server_hostname=connection.host, do_handshake_on_connect=False)
    with sock:
        cut = threading.Timer(left, socket.socket.shutdown, (sock, socket.SHUT_RDWR))
        cut.daemon = True
        cut.start()
        try:
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            connection.sock = sock
            connection.request("POST", path, body, headers)
            return connection.getresponse().status
        finally:
            cut.cancel()


def _resolved(host: str, port: int, end: float) -> list[str]:
    """The addresses of a name. A resolver that takes too long is left to itself, in a thread. Raises OSError."""
    found: SimpleQueue[list[str] | Exception] = SimpleQueue()

    def resolve() -> None:
        try:
            found.put([str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except Exception as error:
            found.put(error)

    threading.Thread(target=resolve, name="resolve", daemon=True).start()
    try:
        answer = found.get(timeout=_left(end))
    except Empty:
        raise TimeoutError("The name was not resolved in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _connected(host: str, port: int, scheme: str, settings: Settings, end: float) -> socket.socket:
    """A socket to one of the host's addresses. Raises CallbackRefused if any of them is off limits, OSError."""
    addresses = _resolved(host, port, end)
    if not all(_allowed(address, scheme, settings) for address in addresses):
        raise CallbackRefused("The name resolves to an address that is not public")
    for address in addresses[:-1]:
        try:
            return socket.create_connection((address, port), min(_left(end), TIMEOUT_SECONDS / 2))
        except OSError:
            _left(end)
    return socket.create_connection((addresses[-1], port), min(_left(end), TIMEOUT_SECONDS / 2))


def _split(url: str) -> SplitResult:
    """The parts of a URL that names a host by http or https and nothing odd. Raises CallbackRefused."""
    try:
        parts = urlsplit(url)
        usable = _URL.fullmatch(url) and parts.hostname and parts.port != 0 and parts.username is None
    except ValueError as error:
        raise CallbackRefused("It is not a URL") from error
    if not usable or parts.fragment or parts.scheme not in ("http", "https"):
        raise CallbackRefused("It is not a URL of the form https://host/path")
    return parts


def _literal(host: str) -> str | None:
    """The address that a host names without any DNS: 127.0.0.1, and ::1, but also 127.1, 2130706433 and localhost."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except OSError:
        return None


def _allowed(address: str, scheme: str, settings: Settings) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if settings.webhook_allow_private == "1":
        return scheme == "https" or ip.is_loopback
    return scheme == "https" and is_public(ip)


def is_public(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it is an ordinary address of the internet: not private, local, shared, multicast or a tunnel to one."""
    if isinstance(ip, ipaddress.IPv6Address) and (ip not in GLOBAL_UNICAST or ip.sixtofour or ip.teredo):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved
