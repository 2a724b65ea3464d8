"""Parses all settings from the environment; no other module reads it.

A malformed value or an unknown `DIGITQ_*` name is an error that says what is expected: a typo never means a default.
"""

from __future__ import annotations

import os
import re
import sys
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from shared.addresses import check_redis_url, is_loopback, reachable, without_password
from shared.errors import SettingsError
from shared.memory import memory_bytes
from shared.state_dir import running_server

PREFIX = "DIGITQ_"
#: The model that ships with the project.
SHIPPED_MODEL = Path(__file__).parent.parent / "worker" / "model"
#: The folder of the embedded server's data.
STATE_DIR = Path("var")
#: Forms such as 100/second, 5000 per hour, 20/10 seconds.
_RATE = re.compile(r"\s*(\d{1,9})\s*(?:/|per)\s*(?:(\d{1,4})\s*)?(second|minute|hour|day)s?\s*")
#: The paths that digitq serves; a root path that starts with one of them would be ambiguous.
_OWN_PATHS = "v1|predictions|key|healthz|readyz|metrics|openapi[.]json|docs|static"
_ROOT_PATH = re.compile(rf"(?!/(?:{_OWN_PATHS})(?:/|$))(?:/(?![.]{{1,2}}(?:/|$))[A-Za-z0-9._~-]+)*")
#: Forms such as 40%, 512mb, 2gb, 1073741824.
_MEMORY = re.compile(r"(?:(\d{1,2})%|(\d{1,15})([kmg]b)?)", re.IGNORECASE)
_UNITS = {"": 1, "kb": 1024, "mb": 1024**2, "gb": 1024**3}
_PERIODS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


def _setting(
    default: Any, doc: str, *, low: float | None = None, choices: str = "", env: str = "", secret: bool = False
) -> Any:
    about = {"doc": doc, "low": low, "choices": choices.split(), "env": env, "secret": secret}
    return field(default=default, repr=not secret, metadata=about)


@dataclass(frozen=True)
class Settings:
    """The effective settings of one process. Units are in the names: seconds, ms, bytes."""

    redis_url: str = _setting(
        "redis://127.0.0.1:6379/0",
        "URL of Redis; if unset, the server of a `digitq up` in this folder is used first",
        env="REDIS_URL",
        secret=True,
    )
    host: str = _setting("127.0.0.1", "address that the web process binds")
    port: int = _setting(8000, "port that the web process binds", low=1)
    root_path: str = _setting("", "sub-path under which a proxy serves digitq, such as /digits")
    web_threads: int = _setting(128, "threads of a web process; small uploads and polls need none", low=4)
    batch_max_size: int = _setting(64, "most pictures that a worker claims at once", low=1)
    batch_max_wait_ms: float = _setting(
        0.0, "how long a batch waits to grow, if the last ones had several pictures", low=0
    )
    lease_seconds: float = _setting(5.0, "how long a claim lasts without a heartbeat", low=1)
    job_timeout_seconds: int = _setting(30, "how long a worker may compute one batch", low=1)
    max_attempts: int = _setting(3, "how many workers a picture may crash before it fails as poison", low=1)
    queue_max_length: int = _setting(200_000, "most pictures in the queue; further ones get 503 queue_full", low=1)
    queue_max_bytes: int = _setting(
        512 * 1024 * 1024, "most bytes of pictures in the queue; further ones get 503 queue_full", low=1
    )
    replicas_ack: int = _setting(
        0, "replicas of Redis that must have a picture before it is accepted (WAIT), and behind sentinels every other "
        "that could be promoted; 0: what a primary has taken in the last moments before it dies may be lost", low=0
    )  # fmt: skip
    allow_ephemeral: str = _setting(
        "0", "1 accepts a Redis without an append-only file: accepted pictures are lost when it crashes", choices="0 1"
    )
    latency_goal_ms: float = _setting(1000.0, "target latency: `digitq status` says how many workers it takes", low=1)
    result_ttl_seconds: int = _setting(86_400, "how long a picture and its prediction are kept", low=1)
    max_upload_bytes: int = _setting(10 * 1024 * 1024, "largest upload", low=1)
    max_pixels: int = _setting(50_000_000, "largest picture, width times height", low=784)
    batch_max_images: int = _setting(100_000, "pictures in one batch", low=1)
    batch_max_bytes: int = _setting(256 * 1024 * 1024, "largest batch, as uploaded and as unpacked", low=1)
    model_path: Path = _setting(SHIPPED_MODEL, "directory of the model and its card")
    preprocessing: str = _setting("mnist", "mnist, or seed for comparison", choices="mnist seed")
    allowed_functions: str = _setting("", "other job functions that a worker may run, as comma-separated import paths")
    api_keys: str = _setting("", "API keys, comma-separated, each `key` or `name:key`", secret=True)
    api_keys_file: str = _setting("", "file with API keys, one a line")
    url: str = _setting("", "URL for clients; default: http:// with DIGITQ_HOST and DIGITQ_PORT", secret=True)
    api_key: str = _setting("", "API key that the command line and `Client()` send; servers ignore it", secret=True)
    allow_anonymous: str = _setting("0", "1 serves other machines without an API key", choices="0 1")
    rate_limit: str = _setting("", "pictures that one client may submit, such as 100/second or 5000/hour")
    webhook_secret: str = _setting("", "signs callbacks: whsec_ and base64, several separated by blanks", secret=True)
    webhook_allow_private: str = _setting(
        "0", "1 allows callbacks to private addresses, and http to our own", choices="0 1"
    )
    device: str = _setting("auto", "auto (a GPU if there is one), cpu or gpu", choices="auto cpu gpu")
    state_dir: Path = _setting(STATE_DIR, "folder in which `digitq up` keeps the embedded server's data")
    redis_maxmemory: str = _setting(
        "40%", "memory of the embedded server: a share of the machine's, or bytes such as 512mb or 2gb; 0: no limit"
    )
    metrics_port: int = _setting(
        0, "port on which a worker serves /metrics, on DIGITQ_HOST, or the next free one; 0: none", low=0
    )
    log_format: str = _setting("text", "text, or json: an object a line", choices="text json")
    log_level: str = _setting(
        "INFO", "DEBUG, INFO, WARNING or ERROR, for digitq's own lines", choices="DEBUG INFO WARNING ERROR"
    )

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Parse the environment. Raises SettingsError with the variable, its value and the expected form."""
        env = os.environ if env is None else env
        known = {variable(f): f for f in fields(cls)}
        unknown = sorted(name for name in env if name.startswith(PREFIX) and name not in known)
        if unknown:
            raise SettingsError(" ".join(_unknown(name, known) for name in unknown))
        values = {f.name: _parse(name, env[name], f) for name, f in known.items() if env.get(name)}
        settings = cls(**values)
        settings = replace(settings, root_path=settings.root_path.rstrip("/"))
        _check(settings)
        if "redis_url" not in values and (url := running_server(settings.state_dir)):
            return replace(settings, redis_url=url)
        return settings

    def table(self) -> dict[str, str]:
        """Return the effective values by variable, secrets masked, as `digitq config` prints them."""
        shown = {f: str(getattr(self, f.name)) for f in fields(self)}
        masked = {"redis_url": without_password(self.redis_url), "url": without_password(self.url)}
        hidden = {f: masked.get(f.name, text and "***") for f, text in shown.items() if f.metadata["secret"]}
        return {variable(f): hidden.get(f, text) for f, text in shown.items()}

    def client_url(self) -> str:
        """Return the URL of the web process for a client on this machine."""
        return self.url.rstrip("/") or f"http://{reachable(self.host)}:{self.port}"

    def rate(self) -> tuple[int, float]:
        """Return the rate limit as pictures and seconds; (0, 0) if there is none."""
        match = _RATE.fullmatch(self.rate_limit)
        return (int(match[1]), int(match[2] or 1) * _PERIODS[match[3]]) if match else (0, 0)

    def embedded_maxmemory(self) -> int:
        """Return the memory limit of the embedded server in bytes; 0 for none."""
        match = _MEMORY.fullmatch(self.redis_maxmemory)
        if not match:
            return 0
        if match[1]:
            return memory_bytes() * int(match[1]) // 100
        return int(match[2]) * _UNITS[(match[3] or "").lower()]

    def lease_margin(self) -> float:
        """Return for how many seconds more a lease must be valid where its holder writes: other clocks may be ahead."""
        return min(1.0, self.lease_seconds / 5)

    def check_exposed(self) -> None:
        """Raise SettingsError if other machines could use the web process without a key, unless that is allowed."""
        if self.api_keys or self.api_keys_file or self.allow_anonymous == "1" or is_loopback(self.host):
            return
        raise SettingsError(
            f"DIGITQ_HOST is {self.host}, which other machines reach: set DIGITQ_API_KEYS (or DIGITQ_API_KEYS_FILE), "
            "or DIGITQ_ALLOW_ANONYMOUS=1 if everyone who reaches it may use it"
        )


def server_is_given() -> bool:
    """Tell whether REDIS_URL is set; otherwise `digitq up` starts its own server."""
    return bool(os.environ.get("REDIS_URL"))


def traces_are_wanted() -> bool:
    """Tell whether OpenTelemetry's variables name an endpoint for traces and do not disable them."""
    off = os.environ.get("OTEL_TRACES_EXPORTER") == "none" or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    places = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return not off and any(os.environ.get(name) for name in places)


def child_environment(**changes: str) -> dict[str, str]:
    """Return the environment for child processes: ours, with changes, and this Python's commands first on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **changes}


def wants_colour() -> bool:
    """Tell whether output may be coloured: not if `NO_COLOR` is set or the terminal is dumb."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def variable(f: Any) -> str:
    """Return the environment variable of a settings field."""
    return str(f.metadata["env"] or PREFIX + f.name.upper())


def _unknown(name: str, known: Iterable[str]) -> str:
    """Return what is to be said about an unknown setting: its most similar name, or where to find all."""
    short = {one.removeprefix(PREFIX): one for one in known}
    similar = get_close_matches(name.removeprefix(PREFIX), short, n=1)
    hint = f", did you mean {short[similar[0]]}?" if similar else "; `digitq config` lists all settings."
    return f"unknown setting {name}{hint}"


def _parse(name: str, text: str, f: Any) -> Any:
    kind = type(f.default)
    try:
        value = kind(text) if kind in (int, float) else Path(text) if issubclass(kind, Path) else text
    except ValueError as error:
        raise SettingsError(f"{name}={text!r} is not a number ({f.metadata['doc']})") from error
    low = f.metadata["low"]
    if low is not None and not value >= low:
        raise SettingsError(f"{name}={text!r} must be at least {low} ({f.metadata['doc']})")
    choices = f.metadata["choices"]
    if choices and value not in choices:
        raise SettingsError(f"{name} is {value!r}, expected one of {', '.join(choices)}")
    return value


def _check(settings: Settings) -> None:
    if settings.url and not settings.url.startswith(("http://", "https://")):
        raise SettingsError(
            f"DIGITQ_URL is {without_password(settings.url)!r}, expected a form such as http://127.0.0.1:8000"
        )
    check_redis_url(settings.redis_url)
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


def _is_secret(text: str) -> bool:
    """Tell whether this is a secret by Standard Webhooks, as `openssl rand -base64 32` makes after whsec_."""
    try:
        return text.startswith("whsec_") and 24 <= len(b64decode(text[6:], validate=True)) <= 64
    except ValueError:
        return False
