"""Settings are parsed once, and a mistake refuses to start."""

from __future__ import annotations

from base64 import b64encode
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

import pytest

from shared import ROOT
from shared.addresses import is_loopback, without_password
from shared.errors import SettingsError
from shared.memory import memory_bytes
from shared.settings import SHIPPED_MODEL, Settings, traces_are_wanted, variable, wants_colour


def test_defaults_need_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no `digitq up` runs there
    assert Settings.from_env({}) == Settings()


def test_values_are_read_with_their_types() -> None:
    env = {"REDIS_URL": "rediss://r:1/0", "DIGITQ_PORT": "9", "DIGITQ_LEASE_SECONDS": "2.5", "DIGITQ_STATE_DIR": "/s"}
    settings = Settings.from_env(env)
    assert (settings.redis_url, settings.port, settings.lease_seconds) == ("rediss://r:1/0", 9, 2.5)
    assert settings.state_dir.as_posix() == "/s"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"DIGITQ_PROT": "3"}, "unknown setting DIGITQ_PROT, did you mean DIGITQ_PORT[?]$"),
        ({"DIGITQ_REDIS_URL": "redis://h"}, "did you mean REDIS_URL[?]"),
        ({"DIGITQ_XX": "3", "DIGITQ_POTR": "3"}, "did you mean DIGITQ_PORT[?] unknown setting DIGITQ_XX; `digitq"),
        ({"DIGITQ_PORT": "http"}, "DIGITQ_PORT='http' is not a number"),
        ({"DIGITQ_MAX_ATTEMPTS": "0"}, "DIGITQ_MAX_ATTEMPTS='0' must be at least 1"),
        ({"DIGITQ_LEASE_SECONDS": "nan"}, "must be at least 1"),
        ({"DIGITQ_REDIS_MAXMEMORY": "140%"}, "expected a form such as 40%, 512mb, 2gb or 0"),
        ({"DIGITQ_LOG_FORMAT": "xml"}, "expected one of text, json"),
        ({"DIGITQ_URL": "localhost:8000"}, "expected a form such as http://127"),
        ({"REDIS_URL": "http://x"}, "expected one of redis, rediss, unix"),
    ],
    ids=["unknown", "with a prefix", "two unknown", "no number", "too small", "not a number at all", "no memory",
         "no choice", "no scheme", "no redis"],
)  # fmt: skip
def test_a_mistake_names_the_variable_and_the_form(env: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Settings.from_env(env)


def test_the_least_that_a_setting_may_be_is_taken() -> None:
    lows = {variable(f): f.metadata["low"] for f in fields(Settings) if f.metadata["low"] is not None}
    assert len(lows) > 15
    for name, low in lows.items():
        assert Settings.from_env({name: f"{low:g}"})
        with pytest.raises(SettingsError, match=name):
            Settings.from_env({name: f"{low - 1:g}"})


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("", (0, 0)), ("100/second", (100, 1)), ("5000 per hour", (5000, 3600)), ("20/10 seconds", (20, 10)),
        ("3/2 minutes", (3, 120)), ("1/day", (1, 86_400)),
    ],
)  # fmt: skip
def test_a_rate_is_pictures_in_seconds(text: str, rate: tuple[int, float]) -> None:
    assert Settings.from_env({"DIGITQ_RATE_LIMIT": text}).rate() == rate


@pytest.mark.parametrize("text", ["0/second", "5/0 seconds", "5", "5/fortnight", "-5/second", "5/second or so"])
def test_a_rate_of_nothing_or_of_no_time_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="DIGITQ_RATE_LIMIT"):
        Settings.from_env({"DIGITQ_RATE_LIMIT": text})


@pytest.mark.parametrize(("size", "taken"), [(23, False), (24, True), (64, True), (65, False)])
def test_a_secret_has_twenty_four_to_sixty_four_bytes(size: int, taken: bool) -> None:
    secret = f"whsec_{b64encode(bytes(size)).decode()}"
    env = {"DIGITQ_WEBHOOK_SECRET": f"whsec_{b64encode(bytes(32)).decode()} {secret}"}
    with nullcontext() if taken else pytest.raises(SettingsError):
        Settings.from_env(env)
    with pytest.raises(SettingsError):
        Settings.from_env({"DIGITQ_WEBHOOK_SECRET": secret.removeprefix("whsec_")})


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("[::1]", True), ("0.0.0.0", False), ("10.0.0.1", False),
     ("example.org", False)],
)  # fmt: skip
def test_only_this_machine_reaches_its_loopback(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone
    for allowed in ({}, {"api_keys": "k"}, {"api_keys_file": "f"}, {"allow_anonymous": "1"}):
        with nullcontext() if alone or allowed else pytest.raises(SettingsError, match="DIGITQ_ALLOW_ANONYMOUS"):
            Settings(host=host, **allowed).check_exposed()  # type: ignore[arg-type]


def test_secrets_are_masked_where_there_are_any() -> None:
    table = Settings(api_key="k", webhook_secret="s").table()
    assert (table["DIGITQ_API_KEY"], table["DIGITQ_WEBHOOK_SECRET"], table["DIGITQ_API_KEYS"]) == ("***", "***", "")
    assert "'k'" not in repr(Settings(api_key="k"))


def test_traces_are_sent_where_an_endpoint_is_named_and_they_are_not_off(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENDPOINT", "TRACES_ENDPOINT"):
        with monkeypatch.context() as patch:
            assert not traces_are_wanted()
            patch.setenv(f"OTEL_EXPORTER_OTLP_{name}", "http://collector")
            assert traces_are_wanted()
            for off in (("OTEL_TRACES_EXPORTER", "none"), ("OTEL_SDK_DISABLED", "True")):
                with monkeypatch.context() as more:
                    more.setenv(*off)
                    assert not traces_are_wanted()


def test_output_has_colour_unless_somebody_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour()
    for name, value in (("NO_COLOR", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            assert not wants_colour()


def test_clients_find_a_web_process_that_is_bound_to_every_address() -> None:
    assert Settings().client_url() == "http://127.0.0.1:8000"
    assert Settings(host="::", port=9).client_url() == "http://[::1]:9"
    assert Settings(url="https://digits.example/x/").client_url() == "https://digits.example/x"


def test_passwords_are_not_printed() -> None:
    table = Settings(redis_url="redis://me:secret@host:1/0").table()
    assert table["REDIS_URL"] == "redis://me:***@host:1/0"
    assert Settings(redis_url="redis://h/0?ssl_password=s").table()["REDIS_URL"] == "redis://h/0?ssl_password=***"
    assert Settings(url="https://me:secret@h/digits").table()["DIGITQ_URL"] == "https://me:***@h/digits"
    assert without_password("unix:///a/b.sock") == "unix:///a/b.sock"
    assert without_password("redis://h/0?password=secret&db=1") == "redis://h/0?password=***&db=1"
    assert without_password("unix:///a/b.sock?password=secret") == "unix:///a/b.sock?password=***"


@pytest.mark.parametrize(
    "address",
    [
        "redis://me:hunter2@host:1/0?ssl_password=hunter2", "rediss://:hunter2@host/0?ssl_keyfile=/k&ssl_password=hunter2",
        "redis://hunter2@host", "redis://:hun/ter2@host:1/0", "redis://:hun#ter2@host", "redis://:hun@hunter2@host",
        "redis://:hunter2@[::1", "redis:hunter2@host", "me:hunter2@host", "hunter2@host", "unix:///s?PASSWORD=hun@ter2",
        "redis+sentinel://me:hunter2@a:1,b:2/service", "http://me:hunter2@host/digits", "redis://:hun?ter2@host:1/0",
    ],
)  # fmt: skip
def test_no_address_is_printed_with_what_could_be_its_password(address: str) -> None:
    shown = without_password(address)
    assert "***" in shown and not any(part in shown for part in ("hun", "ter2"))
    try:
        Settings.from_env({"REDIS_URL": address})
    except SettingsError as error:
        assert "REDIS_URL" in str(error) and not any(part in str(error) for part in ("hun", "ter2"))
        assert error.__cause__ is None and (error.__suppress_context__ or error.__context__ is None)


@pytest.mark.parametrize(
    "address", ["hunter2", "redis:/hunter2", "hunter2://host", "redis://:hun/ter2@h", "redis://h:p"]
)
def test_a_malformed_address_is_refused_and_not_echoed(address: str) -> None:
    with pytest.raises(SettingsError, match="REDIS_URL") as error:
        Settings.from_env({"REDIS_URL": address})
    assert not any(part in str(error.value) for part in ("hun", "ter2"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("25%", 250), ("0", 0), ("0%", 0), ("4096", 4096), ("64mb", 64 * 2**20), ("2GB", 2 * 2**30), ("8kb", 8192)],
)
def test_the_embedded_servers_memory_is_a_share_of_the_machines_or_bytes(
    text: str, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.settings.memory_bytes", lambda: 1000)
    assert Settings.from_env({"DIGITQ_REDIS_MAXMEMORY": text}).embedded_maxmemory() == expected


def test_without_a_setting_the_embedded_server_gets_less_than_half_of_the_memory() -> None:
    assert 0.35 * memory_bytes() < Settings().embedded_maxmemory() < 0.45 * memory_bytes()


TABLE = ROOT / "deploy" / "settings.md"


def documented() -> str:
    """The settings as their documentation has them; `python -m tests.unit.test_settings` writes it."""
    lines = ["# Settings", "", "Environment variables; `digitq config` prints the effective ones.", ""]
    lines += ["| variable | default | |", "|---|---|---|"]
    for f in fields(Settings):
        default = f.default.relative_to(ROOT) if f.default == SHIPPED_MODEL else f.default
        doc = f.metadata["doc"] + (f" (at least {f.metadata['low']:g})" if f.metadata["low"] else "")
        lines.append(f"| `{variable(f)}` | {f'`{default}`' if str(default) else ''} | {doc} |")
    return "\n".join(lines) + "\n"


def test_the_table_of_settings_is_what_the_settings_say() -> None:
    assert TABLE.read_text() == documented(), "run python -m tests.unit.test_settings"


if __name__ == "__main__":
    TABLE.write_text(documented())
