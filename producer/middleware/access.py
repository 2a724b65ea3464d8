"""Who asks, and from where: API keys, the cookie that stands for one in a browser, and pages of other sites.

A browser sends cookies, and requests to this machine's own addresses, for any page that it shows. So what changes
something must not come from a page of another site; and where no key is needed, the server must be asked under a name
of this machine, because a name of somebody else's may be pointed here (DNS rebinding).
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

from flask import Flask, Request
from flask.globals import app_ctx, request_ctx

from shared.errors import CrossSite, SettingsError, Unauthorized
from shared.settings import Settings, is_loopback
from shared.submission import Caller

log = logging.getLogger("digitq.web")

COOKIE = "digitq_key"
#: Reached without a key: whether it lives, how it is spoken with, and the door itself. They hold nobody's data.
OPEN = frozenset({"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/key"})
READING = frozenset({"GET", "HEAD", "OPTIONS"})
#: A shorter key can be guessed; `openssl rand -hex 24` makes a good one.
SHORT = 16
#: A name or an IPv4 address, or an IPv6 address in brackets, and maybe a port.
_HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?", re.ASCII)
_ENTRY = re.compile(r"(?:([A-Za-z0-9_-]{1,64}):)?([\x21-\x2b\x2d-\x39\x3b-\x7e]+)")


class Access:
    """The keys of one server. Without any, whoever reaches it may use it."""

    def __init__(self, settings: Settings) -> None:
        # Looked up by digest: how long that takes says nothing of a key that is not known already.
        self._owners: dict[bytes, str] = {}
        self._cookies: dict[bytes, str] = {}
        for owner, key in read_keys(settings):
            self._owners[digest(key)] = self._cookies[digest(cookie_for(key))] = owner
        self.keyed = bool(self._owners)
        self._local = not self.keyed and settings.allow_anonymous != "1" and is_loopback(settings.host)

    def check(self, request: Request) -> str:
        """Whose a request is; empty where nobody needs a key. Raises CrossSite, Unauthorized."""
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
        """What a browser is given for a key; None if the key is not known."""
        return cookie_for(key) if digest(key) in self._owners else None


def init_app(app: Flask, settings: Settings) -> None:
    """From now on each request is checked."""
    access = app.extensions["digitq_access"] = Access(settings)

    @app.before_request
    def _check() -> None:
        app_ctx.g.owner = ""  # for the answer that says no, too
        app_ctx.g.owner = access.check(request_ctx.request)

    app.jinja_env.globals["keyed"] = access.keyed


def caller(request: Request, owner: str) -> Caller:
    """Who hands something in with a request of this owner's."""
    return Caller(owner, owner or client_block(request.remote_addr or "unknown"))


@lru_cache(maxsize=1024)
def client_block(address: str) -> str:
    """Returns the addresses that one client is counted by: an IPv4 address, or a /64 of IPv6, all of which it has."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped or ip_network((ip, 64), strict=False))
    return str(ip)


def read_keys(settings: Settings) -> Iterator[tuple[str, str]]:
    """(owner, key) of each that the settings name. Keys with one name share what they see, so that they can be changed.

    Raises SettingsError, without the keys in it.
    """
    lines = settings.api_keys.split(",")
    if settings.api_keys_file:
        try:
            lines += Path(settings.api_keys_file).read_text("ascii").splitlines()
        except (OSError, ValueError) as error:
            raise SettingsError(f"DIGITQ_API_KEYS_FILE cannot be read: {error}") from error
    given = [line for line in map(str.strip, lines) if line and not line.startswith("#")]
    if not given and (settings.api_keys or settings.api_keys_file):  # open to nobody rather than to all
        raise SettingsError("DIGITQ_API_KEYS and DIGITQ_API_KEYS_FILE hold no key")
    for number, text in enumerate(given, 1):
        match = _ENTRY.fullmatch(text)
        if not match:
            raise SettingsError(f"API key number {number} is neither `key` nor `name:key`")
        owner = match[1] or hashlib.sha256(match[2].encode()).hexdigest()[:16]
        if len(match[2]) < SHORT:  # the digest of one without a name would tell it
            log.warning("the API key of %s is short: it can be guessed", match[1] or f"number {number}")
        yield owner, match[2]


def digest(secret: str) -> bytes:
    """SHA-256."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()


def cookie_for(key: str) -> str:
    """What stands for a key in a browser, and does not tell it."""
    return hmac.new(key.encode(), b"digitq page", hashlib.sha256).hexdigest()


def cookie_of(header: str) -> str:
    """The value of our cookie; empty if it is not there. Linear in the header, which werkzeug's parser is not."""
    for pair in header.split(";"):
        name, _, value = pair.partition("=")
        if name.strip() == COOKIE:
            return value.strip().strip('"')
    return ""


def from_another_site(request: Request) -> str | None:
    """Why this seems to be sent by a page of another site; None if it is not. Who is no browser says nothing, and may.

    A browser without Sec-Fetch-Site (an old one, or any on plain http) is known by its Origin, which has to be the Host
    that was asked, as it was sent or as a proxy passes it on. That needs no trust in the proxy: a page cannot give
    another site's server an X-Forwarded-Host unless that server allows it to beforehand, and ours allows nothing.
    """
    environ = request.environ
    site = environ.get("HTTP_SEC_FETCH_SITE")
    if site:
        return None if site in ("same-origin", "none") else ""
    origin = str(environ.get("HTTP_ORIGIN", ""))
    if not origin:
        return None
    scheme, _, name = origin.partition("://")
    # The header as it was sent: werkzeug makes an empty name of one that it does not like, and of `null` too.
    host = str(environ.get("HTTP_HOST", "")) or request.host
    forwarded = str(environ.get("HTTP_X_FORWARDED_HOST", "")).partition(",")[0].strip()
    if name and without_port(name, scheme) in {without_port(one, scheme) for one in (host, forwarded) if one}:
        return None
    return (
        f"The page is of {origin[:255]}, and the server was asked as {host[:255]}. If a proxy is between them, let it "
        "pass the browser's Host on (nginx: proxy_set_header Host $http_host), or send it as X-Forwarded-Host"
    )


def without_port(host: str, scheme: str) -> str:
    """A host in lower case, without the port that its scheme has anyway."""
    return host.lower().removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))


@lru_cache(maxsize=64)
def is_local(host: str) -> bool:
    """Whether a Host header, exactly as it was sent, can only mean this machine.

    A page of a foreign name that resolves to this machine sends that name, whatever characters it has: what is not a
    well-formed name of this machine is refused.
    """
    match = _HOST.fullmatch(host)
    name = match[1].lower().removesuffix(".") if match else ""
    return name.endswith(".localhost") or is_loopback(name)
