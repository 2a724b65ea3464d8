"""Tests of the journal of `digitq submit`, and of what it saves a command that is repeated."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import pytest

from producer.cli.journal import HEAD, Entry, Journal, opened
from producer.cli.sources import Source
from producer.cli.submit import FINAL, Submit, recorded
from producer.client.sync_clients import Client
from shared.errors import DigitqError, Lost, NotFound, QueueFull, TooLarge, Unauthorized, UnsupportedType
from shared.prediction import Prediction, State


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().removeprefix(HEAD).splitlines()]


def written(path: Path) -> bytes:
    """A journal of one picture that was accepted and has ended."""
    with opened(path) as book:
        entry = book.begin("/a.png", "ab")
        book.submit(entry, no_get, lambda key: Prediction("id", State.QUEUED))
        book.end(entry, {"prediction": {}})
    return path.read_bytes()


def no_get(id: str) -> Prediction:
    raise AssertionError(id)


def no_submit(key: str) -> Prediction:
    raise AssertionError(key)


def test_pictures_begun_accepted_and_ended_are_known_to_the_next_command(path: Path) -> None:
    written(path)
    with opened(path) as book:
        entry = book.begin("/a.png", "ab")
    assert (entry.id, entry.outcome) == ("id", {"prediction": {}})
    begun, accepted, ended = lines(path)
    assert entry.idempotency_key == begun["idempotency_key"] and begun["path"] == "/a.png"
    assert begun["key"] == accepted["key"] == ended["key"] == entry.key and accepted["id"] == "id"


def test_another_place_other_bytes_or_another_way_to_read_are_another_picture(path: Path) -> None:
    with opened(path) as book:
        entries = [book.begin("/a.png", "ab"), book.begin("/b.png", "ab"), book.begin("/a.png", "cd"),
                   book.begin("/a.png", "ab", "numbers")]  # fmt: skip
        assert len({one.key for one in entries}) == len({one.idempotency_key for one in entries}) == 4
        assert book.begin("/a.png", "ab") is entries[0]
    assert len(lines(path)) == 4


def test_a_line_that_was_cut_off_counts_as_not_written_and_is_ended(path: Path) -> None:
    whole = written(path)
    for end in (*range(0, len(whole) - 1, 5), len(whole) - 1):
        path.write_bytes(whole[:end])
        with opened(path) as book:
            entry = book.begin("/a.png", "ab")
            assert entry.outcome is None or end == len(whole) - 1
            book.end(entry, {"again": {}})
        assert path.read_bytes().startswith(HEAD)
        with opened(path) as book:
            assert book.begin("/a.png", "ab").outcome == {"again": {}}


def test_lines_that_are_no_entries_are_passed_over(path: Path) -> None:
    path.write_bytes(written(path) + b'[1]\n7\n{"no": "key"}\n{"key": [1]}\n')
    with opened(path) as book:
        assert book.begin("/a.png", "ab").id == "id"


@pytest.mark.parametrize("content", [b"PNG\n", HEAD[:-1] + b"x\n", b'{"digitq_journal": 2}\n', b"\n"])
def test_a_file_that_is_no_journal_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(click.UsageError, match="is not a journal"), opened(path):
        pass
    assert path.read_bytes() == content


def test_one_command_at_a_time_has_a_journal(path: Path) -> None:
    with opened(path), pytest.raises(click.UsageError, match="in use by another"), opened(path):
        pass
    with opened(path):
        pass


def test_a_line_is_on_the_disk_before_the_next_step(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(path.read_bytes()))
    with opened(path) as book:
        assert synced == [HEAD]
        entry = book.begin("/a.png", "ab")
        assert len(synced) == 2 and entry.idempotency_key.encode() in synced[-1]
        book.begin("/a.png", "ab")
        assert len(synced) == 2


def test_without_a_file_nothing_is_recorded_and_each_picture_has_a_key() -> None:
    with opened(None) as book:
        one, two = book.begin("/a.png", "ab"), book.begin("/a.png", "ab")
        book.end(one, {})
    assert one.idempotency_key and one.idempotency_key != two.idempotency_key


def test_what_the_server_has_lost_is_submitted_under_another_key(path: Path) -> None:
    def lost(id: str) -> Prediction:
        raise Lost

    written(path)
    with opened(path) as book:
        entry = book.begin("/a.png", "ab")
        before, asked = entry.idempotency_key, list[str]()
        again = Prediction("new", State.QUEUED)
        assert book.submit(entry, lambda id: again, no_submit) is again  # it has it still
        book.submit(entry, lost, lambda key: asked.append(key) or again)  # type: ignore[func-returns-value]
        assert asked == [entry.idempotency_key] and asked != [before] and entry.id == "new"
        with pytest.raises(NotFound):
            book.submit(entry, lambda id: (_ for _ in ()).throw(NotFound()), no_submit)
    with opened(path) as book:
        assert book.begin("/a.png", "ab").idempotency_key == asked[0]


# ---------------------------------------------------------------------- the command


class Server:
    """Answers `submit` and `get` as the test says."""

    def __init__(self, *answers: Prediction | DigitqError) -> None:
        self.answers, self.calls = list(answers), list[str]()

    def submit(self, data: bytes, name: str, *, priority: str, idempotency_key: str, read: str) -> Prediction:
        return self._answer(f"submit {priority}")

    def get(self, id: str, wait: float = 0) -> Prediction:
        return self._answer(f"get {wait:g}")

    def _answer(self, call: str) -> Prediction:
        self.calls.append(call)
        answer = self.answers.pop(0)
        if isinstance(answer, DigitqError):
            raise answer
        return answer


def submitted(server: Server, book: Journal, data: bytes = b"PNG", timeout: float | None = 3) -> Any:
    client: Any = server
    assert isinstance(client, Server) and hasattr(Client, "submit")
    return Submit(client, book, "text", None, timeout, strict=False).picture(Source("a", None, data))


QUEUED, ENDED = Prediction("id", State.QUEUED), Prediction("id", State.FAILED)


def test_a_picture_is_waited_for_until_it_ends(path: Path) -> None:
    with opened(path) as book:
        assert submitted(server := Server(QUEUED, ENDED), book) == ENDED
        assert server.calls == ["submit normal", "get 3"]
        assert submitted(Server(), book) == ENDED  # which the journal knows


def test_what_ended_at_once_is_not_asked_for_and_nothing_is_without_a_wait() -> None:
    assert submitted(server := Server(ENDED), Journal()) == ENDED and server.calls == ["submit normal"]
    assert submitted(server := Server(QUEUED), Journal(), timeout=None) == QUEUED and len(server.calls) == 1


def test_what_has_not_ended_is_asked_for_by_the_next_command(path: Path) -> None:
    with opened(path) as book:
        submitted(Server(QUEUED), book, timeout=None)
        assert submitted(server := Server(QUEUED, ENDED), book) == ENDED
        assert server.calls == ["get 0", "get 3"]


def test_a_refusal_that_would_only_be_repeated_is_recorded_and_others_are_not(path: Path) -> None:
    assert FINAL == (400, 413, 415, 422)
    with opened(path) as book:
        found = submitted(Server(TooLarge("5 MB")), book)
        again = submitted(Server(), book)
        assert (
            (again.code, again.status, str(again))
            == (found.code, found.status, str(found))
            == ("too_large", 413, "5 MB")
        )
        assert isinstance(submitted(Server(QueueFull()), book, b"other"), QueueFull)
        assert submitted(Server(ENDED), book, b"other") == ENDED


def test_a_batch_among_pictures_is_refused_without_the_server() -> None:
    assert isinstance(submitted(Server(), Journal(), b"PK\x03\x04"), UnsupportedType)


def test_a_key_that_is_refused_ends_the_command() -> None:
    with pytest.raises(Unauthorized):
        submitted(Server(Unauthorized()), Journal())


def test_a_recorded_refusal_is_the_error_that_it_was() -> None:
    error = recorded({"refusal": {"code": "c", "status": 415, "message": "m"}})
    assert isinstance(error, DigitqError) and (error.code, error.status, str(error)) == ("c", 415, "m")
    assert Entry("k").outcome is None
