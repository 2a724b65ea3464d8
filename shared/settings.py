"""Every setting, parsed once at the edge. Only this file reads the environment.

A bad value or an unknown `DIGITQ_*` name refuses to start and says what was expected: a typo must never be a default.
"""

from __future__ import annotations

import os
import re
import sys
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shared.errors import SettingsError
from shared.standalone.embedded import running_server
from shared.standalone.machine import memory_bytes

PREFIX = "DIGITQ_"
#: The model that ships with the project.
SHIPPED_MODEL = Path(__file__).parent.parent / "worker" / "model"
#: Where `digitq up` keeps the embedded server's data.
STATE_DIR = Path("var")
#: 100/second, 5000 per hour, 20/10 seconds.
_RATE = re.compile(r"\s*(\d{1,9})\s*(?:/|per)\s*(?:(\d{1,4})\s*)?(second|minute|hour|day)s?\s*")
#: The paths that digitq serves: a root path that starts with one of them could not be told from it.
_OWN_PATHS = "v1|predictions|key|healthz|readyz|metrics|openapi[.]json|docs|static"
_ROOT_PATH = re.compile(rf"(?!/(?:{_OWN_PATHS})(?:/|$))(?:/(?![.]{{1,2}}(?:/|$))[A-Za-z0-9._~-]+)*")
REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
#: Of an address, the value of an option such as `?ssl_password=`, and what stands before the last @.
_PASSWORD_OPTION = re.compile(r"([?&][^=&]*password[^=&]*=)[^&]*", re.IGNORECASE)
_CREDENTIALS = re.compile(r"^([^:/@]*:(?://)?)?([^:/@]*:)?.*@", re.DOTALL)
#: 40%, 512mb, 2gb, 1073741824.
_MEMORY = re.compile(r"(?:(\d{1,2})%|(\d{1,15})([kmg]b)?)", re.IGNORECASE)
_UNITS = {"": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3}
_PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


def _setting(default: Any, doc: str, *, low: float | None = None, env: str = "", secret: bool = False) -> Any:
    return field(default=default, repr=not secret, metadata={"doc": doc, "low": low, "env": env, "secret": secret})


@dataclass(frozen=True)
class Settings:
    """The effective settings of one process. Units are in the names: seconds, ms, bytes."""

    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0",
        "where Redis is; unset, a `digitq up` in this folder is found first",
        env="REDIS_URL",
        secret=True,
    )
    host: str = _setting("127.0.0.1", "address that the web process binds")
    port: int = _setting(8000, "port that the web process binds", low=1)
    root_path: str = _setting("", "sub-path under which a proxy serves digitq, such as /digits")
    web_threads: int = _setting(128, "threads of a web process; small uploads and polls need none", low=4)
    batch_max_size: int = _setting(64, "pictures that a worker claims at most at once", low=1)
    batch_max_wait_ms: float = _setting(0.0, "how long a batch may wait to grow, once the last ones had company", low=0)
    lease_seconds: float = _setting(5.0, "how long a claim lives without a heartbeat", low=1)
    job_timeout_seconds: int = _setting(30, "how long one batch may compute", low=1)
    max_attempts: int = _setting(3, "workers that a picture may take down before it is failed as poison", low=1)
    queue_max_length: int = _setting(200_000, "pictures that may wait; more are answered 503 queue_full", low=1)
    queue_max_bytes: int = _setting(
        512 * 1024 * 1024, "bytes of pictures that may wait; more are answered 503 queue_full", low=1
    )
    replicas_ack: int = _setting(
        0, "replicas of Redis that must have a picture before it is accepted (WAIT), and behind sentinels every other "
        "that could be promoted; 0: what a primary has taken in the last moments before it dies may be lost", low=0
    )  # fmt: skip
    allow_ephemeral: str = _setting(
        "0", "1 accepts a Redis that keeps no log on its disk: when it dies, what was accepted is lost"
    )
    latency_goal_ms: float = _setting(
        1000.0, "how soon a picture is to be answered: `digitq status` says how many workers that takes", low=1
    )
    result_ttl_seconds: int = _setting(86_400, "how long a picture and its prediction are kept", low=1)
    max_upload_bytes: int = _setting(10 * 1024 * 1024, "largest upload", low=1)
    max_pixels: int = _setting(50_000_000, "largest picture, width times height", low=784)
    batch_max_images: int = _setting(100_000, "pictures in one batch", low=1)
    batch_max_bytes: int = _setting(256 * 1024 * 1024, "largest batch, as uploaded and as unpacked", low=1)
    model_path: Path = _setting(SHIPPED_MODEL, "directory of the model and its card")
    preprocessing: str = _setting("mnist", "mnist, or seed for comparison")
    allowed_functions: str = _setting("", "further job functions that a worker may run, comma-separated paths")
    api_keys: str = _setting("", "keys that clients may show, comma-separated, each `key` or `name:key`", secret=True)
    api_keys_file: str = _setting("", "file with such keys, one a line")
    url: str = _setting(
        "", "where clients find digitq; without it http:// with DIGITQ_HOST and DIGITQ_PORT", secret=True
    )
    api_key: str = _setting("", "key that the command line and `Client()` show; no server looks at it", secret=True)
    allow_anonymous: str = _setting("0", "1 serves other machines without any key")
    rate_limit: str = _setting("", "pictures that one client may hand in, such as 100/second or 5000/hour")
    webhook_secret: str = _setting("", "signs callbacks: whsec_ and base64, several separated by blanks", secret=True)
    webhook_allow_private: str = _setting("0", "1 allows callbacks to private addresses, and http to our own")
    device: str = _setting("auto", "auto (a GPU if there is one), cpu or gpu")
    state_dir: Path = _setting(STATE_DIR, "where `digitq up` keeps the embedded server's data")
    redis_maxmemory: str = _setting(
        "40%", "memory of the embedded server: a share of the machine's, or bytes such as 512mb or 2gb; 0: no limit"
    )
    metrics_port: int = _setting(0, "port on which a worker serves /metrics, on DIGITQ_HOST; 0: none", low=0)
    log_format: str = _setting("text", "text or json")
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR")

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Reads the settings of this process. Raises SettingsError naming the variable, its value and the form."""
        env = os.environ if env is None else env
        known = {variable(f): f for f in fields(cls)}
        unknown = sorted(name for name in env if name.startswith(PREFIX) and name not in known)
        if unknown:
            raise SettingsError(f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")
        values = {f.name: _parse(name, env[name], f) for name, f in known.items() if env.get(name)}
        settings = cls(**values)
        settings = replace(settings, root_path=settings.root_path.rstrip("/"))
        _check_choices(settings)
        if "redis_url" not in values and (url := running_server(settings.state_dir)):
            return replace(settings, redis_url=url)
        return settings

    def table(self) -> dict[str, str]:
        """Variable -> effective value, secrets masked: what `digitq config` prints."""
        shown = {f: str(getattr(self, f.name)) for f in fields(self)}
        masked = {"redis_url": without_password(self.redis_url), "url": without_password(self.url)}
        hidden = {f: masked.get(f.name, text and "***") for f, text in shown.items() if f.metadata["secret"]}
        return {variable(f): hidden.get(f, text) for f, text in shown.items()}

    def client_url(self) -> str:
        """Returns the URL under which a client on this machine finds the web process."""
        return self.url.rstrip("/") or f"http://{reachable(self.host)}:{self.port}"

    def rate(self) -> tuple[int, float]:
        """The rate limit: so many pictures in so many seconds; (0, 0) if there is none."""
        match = _RATE.fullmatch(self.rate_limit)
        return (int(match[1]), int(match[2] or 1) * _PERIODS[match[3]]) if match else (0, 0)

    def embedded_maxmemory(self) -> int:
        """Bytes that the embedded server may use, of the memory that this machine or container has; 0: no limit."""
        match = _MEMORY.fullmatch(self.redis_maxmemory)
        if not match:
            return 0
        if match[1]:
            return memory_bytes() * int(match[1]) // 100
        return int(match[2]) * _UNITS[(match[3] or "").lower()]

    def check_exposed(self) -> None:
        """Raises SettingsError where strangers could use the web process and nobody has said that they may."""
        if self.api_keys or self.api_keys_file or self.allow_anonymous == "1" or is_loopback(self.host):
            return
        raise SettingsError(
            f"DIGITQ_HOST is {self.host}, which other machines reach: set DIGITQ_API_KEYS (or DIGITQ_API_KEYS_FILE), "
            "or DIGITQ_ALLOW_ANONYMOUS=1 if whoever reaches it may use it"
        )


def reachable(host: str) -> str:
    """Returns the host of a URL for what is bound to this address; a wildcard is reached through the loopback."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def server_is_given() -> bool:
    """True if the environment names a Redis; otherwise `digitq up` brings its own."""
    return bool(os.environ.get("REDIS_URL"))


def traces_are_wanted() -> bool:
    """True if the environment names a place for OpenTelemetry's traces, in the names that OpenTelemetry gives."""
    off = os.environ.get("OTEL_TRACES_EXPORTER") == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    places = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return not off and any(os.environ.get(name) for name in places)


def child_environment(**changes: str) -> dict[str, str]:
    """The environment for processes that we start: ours, with changes, and our own commands first on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **changes}


def wants_colour() -> bool:
    """False where the user (`NO_COLOR`) or the terminal wants plain text."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def variable(f: Any) -> str:
    """The environment variable of a settings field."""
    return str(f.metadata["env"] or PREFIX + f.name.upper())


def _parse(name: str, text: str, f: Any) -> Any:
    kind = type(f.default)
    try:
        value = kind(text) if kind in (int, float) else Path(text) if issubclass(kind, Path) else text
    except ValueError as error:
        raise SettingsError(f"{name}={text!r} is not a number ({f.metadata['doc']})") from error
    low = f.metadata["low"]
    if low is not None and not value >= low:
        raise SettingsError(f"{name}={text!r} must be at least {low} ({f.metadata['doc']})")
    return value


def _check_choices(settings: Settings) -> None:
    choices = {
        "DIGITQ_LOG_FORMAT": (settings.log_format, ("text", "json")),
        "DIGITQ_LOG_LEVEL": (settings.log_level, ("DEBUG", "INFO", "WARNING", "ERROR")),
        "DIGITQ_DEVICE": (settings.device, ("auto", "cpu", "gpu")),
        "DIGITQ_ALLOW_ANONYMOUS": (settings.allow_anonymous, ("0", "1")),
        "DIGITQ_ALLOW_EPHEMERAL": (settings.allow_ephemeral, ("0", "1")),
        "DIGITQ_WEBHOOK_ALLOW_PRIVATE": (settings.webhook_allow_private, ("0", "1")),
        "DIGITQ_PREPROCESSING": (settings.preprocessing, ("mnist", "seed")),
    }
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise SettingsError(f"{name} is {value!r}, expected one of {', '.join(allowed)}")
    if settings.url and not settings.url.startswith(("http://", "https://")):
        raise SettingsError(
            f"DIGITQ_URL is {without_password(settings.url)!r}, expected a form such as http://127.0.0.1:8000"
        )
    _check_redis_url(settings.redis_url)
    if settings.rate_limit and not all(settings.rate()):
        raise SettingsError(f"DIGITQ_RATE_LIMIT is {settings.rate_limit!r}, expected a form such as 100/second")
    if not _MEMORY.fullmatch(settings.redis_maxmemory):
        raise SettingsError(
            f"DIGITQ_REDIS_MAXMEMORY is {settings.redis_maxmemory!r}, expected a form such as 40%, 512mb, 2gb or 0"
        )
    if not _ROOT_PATH.fullmatch(settings.root_path):
        raise SettingsError(
            f"DIGITQ_ROOT_PATH is {settings.root_path!r}, expected a path such as /digits, not one of digitq's own"
        )
    if not all(_is_secret(one) for one in settings.webhook_secret.split()):
        raise SettingsError("DIGITQ_WEBHOOK_SECRET is not whsec_ and the base64 of 24 to 64 bytes")


def _check_redis_url(url: str) -> None:
    """Raises SettingsError, without the password or what may be one, where a URL cannot be what was meant."""
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


def _is_secret(text: str) -> bool:
    """As Standard Webhooks wants them; `openssl rand -base64 32` makes one."""
    try:
        return text.startswith("whsec_") and 24 <= len(b64decode(text[6:], validate=True)) <= 64
    except ValueError:
        return False


def without_password(address: str) -> str:
    """Returns an address that may be printed: `***` for what is, or in a malformed one could be, a password."""
    address = _PASSWORD_OPTION.sub(r"\1***", address)
    return _CREDENTIALS.sub(r"\1\2***@", address)
