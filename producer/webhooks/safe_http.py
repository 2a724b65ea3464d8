"""Posts to URLs that clients choose, guarded against server-side request forgery: https to public addresses only.

A name is resolved once, and the connection goes to the address that was checked, so that DNS rebinding cannot change it
in between. Redirects are not followed: their target would be unchecked.
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

#: Seconds for one call, from resolving the name to the head of the response, whatever number of addresses it has.
TIMEOUT_SECONDS = 5
_URL = re.compile(r"[\x21-\x7e]{1,2048}")
#: The range of public IPv6 addresses (RFC 4291, 2.4). IPv4-mapped ones lie outside; `is_public` excludes tunnels.
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


class Unreachable(Exception):
    """The receiver does not answer, or its address is not allowed."""


def check_callback(url: str, settings: Settings) -> str:
    """Return the URL if it is allowed, as far as that shows without resolving it. Raises CallbackRefused.

    Raises WebhooksDisabled if the server has no secret to sign with.
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
    """Post the body; return the status of the response, whose body is not read. Raises Unreachable."""
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
    """Return the seconds until the monotonic time `end`. Raises TimeoutError once it is past."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError(f"No answer within {TIMEOUT_SECONDS:g} s")
    return left


def _exchange(
    connection: HTTPConnection, raw: socket.socket, path: str, body: bytes, headers: dict[str, str], end: float
) -> int:
    """Send one request on a connected socket; return the status. A timer cuts off slow receivers."""
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
    """Return the addresses of a name. A resolver that takes too long is abandoned in its thread. Raises OSError."""
    found: SimpleQueue[list[str] | Exception] = SimpleQueue()

    def resolve() -> None:
        try:
            found.put([str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except Exception as error:
            found.put(error)

    threading.Thread(target=resolve, name="resolve", daemon=True).start()
    try:
        answer = found.get(timeout=_left(end))
    except (Empty, TimeoutError):
        raise TimeoutError("The name was not resolved in time") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _connected(host: str, port: int, scheme: str, settings: Settings, end: float) -> socket.socket:
    """Connect to one of the host's addresses. Raises CallbackRefused if any of them is forbidden, OSError."""
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
    """Return the parts of an http or https URL without user and fragment. Raises CallbackRefused."""
    try:
        parts = urlsplit(url)
        usable = _URL.fullmatch(url) and parts.hostname and parts.port != 0 and parts.username is None
    except ValueError as error:
        raise CallbackRefused("It is not a URL") from error
    if not usable or parts.fragment or parts.scheme not in ("http", "https"):
        raise CallbackRefused("It is not a URL of the form https://host/path")
    return parts


def _literal(host: str) -> str | None:
    """Return the address that a host stands for without DNS: 127.0.0.1 and ::1, also 127.1, 2130706433, localhost."""
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
    """Tells whether an address is public: not private, local, shared or multicast, nor a tunnel to one that is."""
    if isinstance(ip, ipaddress.IPv6Address) and (ip not in GLOBAL_UNICAST or ip.sixtofour or ip.teredo):
        return False
    return ip.is_global and not ip.is_multicast
