"""Checks API keys, the cookie that carries one in a browser, and that no page of another site sends the request.

A browser sends cookies, and requests to addresses of this machine, for any page that it shows. So a request that
changes something must not come from a page of another site (CSRF). Where no key is needed, the Host must be a name of
this machine, because somebody else's name may resolve to it (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from shared.addresses import is_loopback
from shared.errors import CrossSite, SettingsError, Unauthorized
from shared.settings import Settings
from shared.submission import Caller

if TYPE_CHECKING:
    from producer.middleware.request import Request

log = logging.getLogger("digitq.web")

COOKIE = "digitq_key"
#: Paths that need no key: they hold nobody's data.
OPEN = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/key"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})
#: Characters below which a key is warned of, since it can be guessed; `openssl rand -hex 24` makes a good one.
SHORT = 16
#: A name or an IPv4 address, or an IPv6 address in brackets, with an optional port.
_HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?", re.ASCII)
_ENTRY = re.compile(r"(?:([A-Za-z0-9_-]{1,64}):)?([\x21-\x2b\x2d-\x39\x3b-\x7e]+)")


class Access:
    """Checks requests against the keys of one server. Without any key, everybody may use it."""

    def __init__(self, settings: Settings) -> None:
        # Looked up by digest, so that the time of a lookup says nothing about an unknown key.
        self._owners: dict[bytes, str] = {}
        self._cookies: dict[bytes, str] = {}
        for owner, key in read_keys(settings):
            self._owners[digest(key)] = self._cookies[digest(cookie_for(key))] = owner
        self.keyed = bool(self._owners)
        self._local = not self.keyed and settings.allow_anonymous != "1" and is_loopback(settings.host)

    def check(self, request: Request) -> str:
        """Return the owner of a request's key; empty where no key is needed. Raises CrossSite, Unauthorized."""
        if request.method not in READING and (why := from_another_site(request)) is not None:
            raise CrossSite(why)
        host = request.environ.get("HTTP_HOST")
        if self._local and host is not None and not is_local(host):
            raise CrossSite(f"{host[:255]!r} is no name of this machine: DIGITQ_ALLOW_ANONYMOUS=1 would allow it")
        if not self.keyed or request.path in OPEN or request.path.startswith("/static/"):
            return ""
        owner = self._owner(request)
        if owner is None:
            raise Unauthorized("Send it as `Authorization: Bearer KEY`, or as `X-API-Key: KEY`")
        return owner

    def _owner(self, request: Request) -> str | None:
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        key = key.strip() if scheme.lower() == "bearer" else request.headers.get("X-API-Key", "")
        if key:
            return self._owners.get(digest(key))
        return self._cookies.get(digest(cookie_of(request.environ.get("HTTP_COOKIE", ""))))

    def cookie(self, key: str) -> str | None:
        """Return the cookie for a key; None if the key is unknown."""
        return cookie_for(key) if digest(key) in self._owners else None


def caller(request: Request) -> Caller:
    """Return the owner of what a request submits, and by what its rate is counted."""
    return Caller(request.owner, request.owner or client_block(request.remote_addr or "unknown"))


@lru_cache(maxsize=1024)
def client_block(address: str) -> str:
    """Return the addresses that one client is counted by: an IPv4 address, or a /64 of IPv6, all of which it has."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or ip_network((ip, 64), strict=False))
    return str(ip)


def read_keys(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield (owner, key) of each key in the settings. Keys with one name are one owner, so that keys can be rotated.

    Raises SettingsError, without the keys in its text.
    """
    lines = settings.api_keys.split(",")
    if settings.api_keys_file:
        try:
            lines += Path(settings.api_keys_file).read_text("ascii").splitlines()
        except (OSError, ValueError) as error:
            raise SettingsError(f"DIGITQ_API_KEYS_FILE cannot be read: {error}") from error
    given = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    if not given and (settings.api_keys or settings.api_keys_file):  # closed to everybody rather than open to all
        raise SettingsError("DIGITQ_API_KEYS and DIGITQ_API_KEYS_FILE hold no key")
    for number, text in enumerate(given, 1):
        match = _ENTRY.fullmatch(text)
        if not match:
            raise SettingsError(f"API key number {number} is neither `key` nor `name:key`")
        owner = match[1] or hashlib.sha256(match[2].encode()).hexdigest()[:16]
        if len(match[2]) < SHORT:  # its digest is not printed: it could be reversed
            log.warning("the API key of %s is short: it can be guessed", match[1] or f"number {number}")
        yield owner, match[2]


def digest(secret: str) -> bytes:
    """SHA-256."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def cookie_for(key: str) -> str:
    """Derive the cookie of a key, from which the key cannot be computed."""
    return hmac.new(key.encode(), b"digitq page", hashlib.sha256).hexdigest()


def cookie_of(header: str) -> str:
    """Return the value of our cookie, or an empty string. Linear in the header's length; werkzeug's parser is not."""
    for pair in header.split(";"):
        name, _, value = pair.partition("=")
        if name.strip() == COOKIE:
            return value.strip().strip('"')
    return ""


def from_another_site(request: Request) -> str | None:
    """Return why a request seems to come from a page of another site; None if it does not.

    Clients other than browsers send neither header and pass. A browser without Sec-Fetch-Site (an old one, or any on
    plain http) sends an Origin, which must be the Host, as it was sent or as a proxy passes it on. That needs no trust
    in the proxy: a page cannot send X-Forwarded-Host to another site unless that site allows it beforehand (CORS).
    """
    environ = request.environ
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site:
        return None if site in ("same-origin", "none") else ""
    origin = str(environ.get("HTTP_ORIGIN", ""))
    if not origin:
        return None
    scheme, _, name = origin.partition("://")
    # The raw header: werkzeug turns a name that it considers invalid, such as `null`, into an empty one.
    host = str(environ.get("HTTP_HOST", "")) or request.host
    forwarded = str(environ.get("HTTP_X_FORWARDED_HOST", "")).partition(",")[0].strip()
    if name and without_port(name, scheme) in {without_port(one, scheme) for one in (host, forwarded) if one}:
        return None
    return (
        f"The page is of {origin[:255]}, and the server was asked as {host[:255]}. If a proxy is between them, let it "
        "pass the browser's Host on (nginx: proxy_set_header Host $http_host), or send it as X-Forwarded-Host"
    )


def without_port(host: str, scheme: str) -> str:
    """Return a host in lower case, without its scheme's default port."""
    return host.lower().removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))


@lru_cache(maxsize=64)
def is_local(host: str) -> bool:
    """Return True if a Host header, exactly as it was sent, is a well-formed name of this machine."""
    match = _HOST.fullmatch(host)
    name = match[1].lower().removesuffix(".") if match else ""
    return name.endswith(".localhost") or is_loopback(name)
