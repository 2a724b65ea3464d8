"""Tests of the console of `digitq up`: lines of several processes on one descriptor, whose reader may be gone."""

from __future__ import annotations

import json
import os
import pty
import re
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from shared.standalone import console as module
from shared.standalone.console import PENDING_BYTES, Console
from tests.consoles import Heard, heard_console


@pytest.fixture
def heard() -> Iterator[Heard]:
    with heard_console() as console:
        yield console


def test_as_text_each_line_has_one_time(heard: Heard) -> None:
    console, read = heard
    console.line("web", b"2026-11-30 10:00:00,000 INFO digitq.web: accepted")
    console.say("stopping")
    of_web, of_up = read().splitlines()
    assert of_web == "web      | 2026-11-30 10:00:00,000 INFO digitq.web: accepted"
    assert re.fullmatch(r"up       \| \d{4}-\d\d-\d\d [\d:,]+ INFO digitq.up: stopping", of_up)


def test_names_and_bytes_that_are_no_text_are_written_as_json_too() -> None:
    reading, writing = os.pipe()
    Console(writing, as_json=True).line("web", b"\xff")
    assert json.loads(os.read(reading, 1000))["message"] == "\ufffd"
    os.close(reading)
    os.close(writing)


def test_an_announcement_is_written_as_it_is(heard: Heard) -> None:
    console, read = heard
    console.announce("ready\n  try it", port=1)
    assert read() == "ready\n  try it\n"


def test_a_line_of_any_length_is_whole(heard: Heard) -> None:
    console, read = heard
    console.line("web", b"x" * 300_000)
    while not read().endswith("\n"):
        console.flush()
    assert read() == "web      | " + "x" * 300_000 + "\n"


def test_the_rest_is_written_at_the_end_and_a_reader_that_has_stopped_is_given_up(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    console, read = heard
    monkeypatch.setattr(module, "CLOSE_SECONDS", 0.1)
    console.line("web", b"x" * 300_000)
    console.close()  # nobody reads
    before = len(read())
    assert 0 < before < 300_000
    console.close()
    assert len(read()) > before


def test_a_full_disk_disturbs_nobody() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    console = Console(full)
    for _ in range(100):
        console.line("up", b"hello")
    console.close()
    os.close(full)


def test_a_console_that_nobody_reads_is_not_waited_for_and_says_later_what_is_missing() -> None:
    reading, writing = os.pipe()
    console = Console(writing)
    for _ in range(3 * PENDING_BYTES // 1000):
        console.line("web", b"x" * 1000)
    os.set_blocking(reading, False)
    text = b""
    while data := os.read(reading, 65_536):
        text += data
        console.line("web", b"again")
        if b"lines dropped: nobody read them" in text:
            break
    assert b"lines dropped: nobody read them" in text
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_without_colours_gets_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    terminal, inner = pty.openpty()
    Console(inner).line("web", b"hello")
    assert os.read(terminal, 1000) == b"web      | hello\r\n"
    os.close(terminal)
    os.close(inner)


def test_names_have_colours_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch, heard: Heard) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    console, read = heard
    console.line("web", b"hello")
    assert read() == "web      | hello\n"
    terminal, inner = pty.openpty()
    on_terminal = Console(inner)
    on_terminal.line("web", b"hello")
    on_terminal.line("worker.1", b"hello")
    said = b""
    while said.count(b"\n") < 2:
        said += os.read(terminal, 1000)
    assert said.startswith(b"\x1b[36mweb      | \x1b[0mhello") and b"\x1b[33mworker.1" in said
    os.close(terminal)
    os.close(inner)


def test_standard_streams_that_are_closed_are_opened_and_others_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def fstat(number: int) -> None:
        if number == 1:
            raise OSError

    ours = SimpleNamespace(fstat=fstat, open=lambda path, flags: opened.append(path), devnull="null", O_RDWR=2)
    monkeypatch.setattr(module, "os", ours)
    module.reserve_standard_streams()
    assert opened == ["null"]
