"""Tests of `digitq status`, `cancel` and `batches`: whom they ask, what they print, and how they end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from producer.cli import batches, commands
from shared.batch import Batch, BatchState
from shared.errors import Expired, Lost, NotFound
from shared.prediction import Prediction, State
from tests.invoked import invoked

PICTURE = Prediction("p", State.SUCCEEDED, "a.png", 7, 0.9, decision="accept")
BATCH = Batch("b", BatchState.FINISHED, 2, succeeded=2, filename="scans.zip", submitted_at=1_769_860_800.0)


class Client:
    """A server with a picture `p` and a batch `b`, or with the errors that a test names."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.errors: dict[str, Exception] = {}
        self.pages: list[tuple[list[Batch], str | None]] = []
        self.closed = 0

    def __call__(self, *_: Any) -> Client:
        return self

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed += 1

    def answer(self, verb: str, answer: Any, *words: Any) -> Any:
        self.asked.append((verb, *words))
        if verb in self.errors:
            raise self.errors[verb]
        return answer

    def get(self, id: str, wait: float) -> Prediction:
        return self.answer("get", PICTURE, id, wait)  # type: ignore[no-any-return]

    def get_batch(self, id: str, wait: float) -> Batch:
        return self.answer("get_batch", BATCH, id, wait)  # type: ignore[no-any-return]

    def cancel(self, id: str) -> None:
        self.answer("cancel", None, id)

    def cancel_batch(self, id: str) -> None:
        self.answer("cancel_batch", None, id)

    def results(self, id: str) -> list[dict[str, Any]]:
        row = {
            "index": 0,
            "filename": "a.png",
            "state": "succeeded",
            "digit": 7,
            "confidence": 0.9,
            "decision": "accept",
        }
        return self.answer("results", [row | {"reason": None, "warnings": [], "error": None}], id)  # type: ignore[no-any-return]

    def list_batches(self, limit: int, cursor: str | None) -> tuple[list[Batch], str | None]:
        return self.answer("list", self.pages.pop(0), limit, cursor)  # type: ignore[no-any-return]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Client:
    one = Client()
    monkeypatch.setattr(commands, "Client", one)
    monkeypatch.setattr(batches, "Client", one)
    return one


def test_a_picture_is_shown_in_a_line_or_as_json(client: Client) -> None:
    done = invoked("status", "p", "--wait", "3")
    assert (done.returncode, done.stdout) == (0, "a.png: 7  (90.0%, accept)\n")
    assert client.asked == [("get", "p", 3.0)] and client.closed == 1
    assert json.loads(invoked("status", "p", "--json").stdout)["digit"] == 7


def test_a_batch_is_asked_for_where_there_is_no_such_picture(client: Client) -> None:
    for error in (NotFound(), Lost(), Expired()):
        client.asked, client.errors = [], {"get": error}
        done = invoked("status", "b", "--wait", "3")
        assert done.returncode == 0 and done.stdout.startswith("b")
        assert client.asked == [("get", "b", 3.0), ("get_batch", "b", 3.0)]
    assert json.loads(invoked("status", "b", "--json").stdout)["total"] == 2


NEITHER = "There is no such prediction or batch"


@pytest.mark.parametrize(
    ("picture", "batch", "told"),
    [
        (NotFound("no p"), NotFound("no b"), NEITHER), (Lost("lost p"), NotFound("no b"), NEITHER),
        (Lost("lost p"), Expired("old b"), "lost p"), (NotFound("no p"), Lost("lost b"), "no p"),
    ],
)  # fmt: skip
def test_of_two_that_are_not_there_the_one_is_told_that_knows(
    picture: Exception, batch: Exception, told: str, client: Client
) -> None:
    client.errors = {"get": picture, "get_batch": batch}
    done = invoked("status", "x")
    assert done.returncode != 0 and told in done.stderr


def test_results_belong_to_a_batch(client: Client) -> None:
    refused = invoked("status", "p", "--results")
    assert refused.returncode == 2 and "--results belongs to a batch" in refused.stderr
    client.errors = {"get": NotFound()}
    text = invoked("status", "b", "--results")
    assert "a.png" in text.stdout and text.stdout.splitlines()[-1].startswith("b")
    rows = invoked("status", "b", "--results", "--json")
    assert [json.loads(line)["digit"] for line in rows.stdout.splitlines()] == [7] and rows.stderr.startswith("b")


def test_a_picture_or_else_a_batch_is_cancelled(client: Client) -> None:
    assert invoked("cancel", "p").returncode == 0 and client.asked == [("cancel", "p")]
    client.errors = {"cancel": NotFound()}
    assert invoked("cancel", "b").returncode == 0 and client.asked[1:] == [("cancel", "b"), ("cancel_batch", "b")]


def test_an_interrupted_command_ends_at_once_with_the_code_of_a_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(commands.os, "_exit", codes.append)
    with commands.exit_on_interrupt():
        raise KeyboardInterrupt
    assert codes == [130] and capsys.readouterr().err == "digitq: interrupted\n"


def test_batches_are_asked_for_page_by_page_up_to_the_limit(client: Client) -> None:
    client.pages = [([BATCH] * 100, "c"), ([BATCH] * 50, "d")]
    done = invoked("batches", "--limit", "150")
    assert (done.returncode, done.stdout.count("\n")) == (0, 150)
    assert client.asked == [("list", 100, None), ("list", 50, "c")]
    assert done.stdout.splitlines()[0].endswith("  scans.zip") and done.stdout.startswith("2026-0")
    client.pages, client.asked = [([BATCH], None)], []
    done = invoked("batches", "--json")
    assert client.asked == [("list", 20, None)] and json.loads(done.stdout)["filename"] == "scans.zip"
    assert (done.returncode, done.stderr) == (0, "")


def test_without_batches_it_is_said_and_no_error(client: Client) -> None:
    client.pages = [([], None)]
    done = invoked("batches")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "digitq: there are no batches\n")
