"""Addresses of Redis and of servers on this machine: their form, whom they reach, and what of them may be printed."""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import urlsplit

from shared.errors import SettingsError

REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
#: Passwords in an address: the value of an option such as `?ssl_password=`, and everything before the last @.
_PASSWORD_OPTION = re.compile(r"([?&][^=&]*password[^=&]*=)[^&]*", re.IGNORECASE)
_CREDENTIALS = re.compile(r"^([^:/@]*:(?://)?)?([^:/@]*:)?.*@", re.DOTALL)


def reachable(host: str) -> str:
    """Return the host for a URL to a server bound to this address; a wildcard becomes the loopback address."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches the address."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_redis_url(url: str) -> None:
    """Raise SettingsError for a malformed URL; the message contains no password, nor anything that may be one."""
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise SettingsError("REDIS_URL is not of the form redis://user:password@host:port/db")
    if scheme not in REDIS_SCHEMES:
        raise SettingsError(f"REDIS_URL begins with another scheme, expected one of {', '.join(REDIS_SCHEMES)}")
    if scheme in ("redis", "rediss"):
        try:
            authority = urlsplit(url)
            usable = authority.port != 0 and "@" not in authority.path + authority.fragment
        except ValueError:
            usable = False
        if not usable:
            raise SettingsError(
                f"{without_password(url)!r} is not of the form redis://user:password@host:port/db; "
                "special characters of a password are percent-encoded (REDIS_URL)"
            )


def without_password(address: str) -> str:
    """Return an address that is safe to print: `***` replaces passwords, and what may be one if it is malformed."""
    address = _PASSWORD_OPTION.sub(r"\1***", address)
    return _CREDENTIALS.sub(r"\1\2***@", address)
