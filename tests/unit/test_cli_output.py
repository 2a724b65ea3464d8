"""Tests of what the command line prints and of its exit codes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from digitq.cli import exit_code as code_of_error
from digitq.cli import told
from producer.cli.output import (
    COLUMNS,
    FAILED,
    NUMBER_COLUMNS,
    OK,
    TIMEOUT,
    UNAVAILABLE,
    Result,
    batch_code,
    batch_line,
    confusion,
    exit_code,
    print_header,
    print_result,
    print_rows,
    text_line,
)
from shared.batch import Batch, BatchState
from shared.errors import (
    CannotStart,
    DigitqError,
    MissingPart,
    ModelError,
    NotFound,
    PredictionFailed,
    QueueFull,
    RateLimited,
    SettingsError,
    Unauthorized,
    UnsupportedType,
)
from shared.numbers import FoundDigit, FoundNumber
from shared.prediction import Prediction, State

ACCEPTED = Prediction("id", State.SUCCEEDED, "7.png", 7, 0.91, decision="accept")
REVIEWED = Prediction("id", State.SUCCEEDED, "7.png", 7, 0.6, decision="review", reason="low_confidence")
QUEUED = Prediction("id", State.QUEUED)


@pytest.mark.parametrize(
    ("result", "plain", "waited", "strict"),
    [
        (ACCEPTED, OK, OK, OK),
        (REVIEWED, OK, OK, FAILED),
        (Prediction("id", State.FAILED), FAILED, FAILED, FAILED),
        (Prediction("id", State.CANCELLED), FAILED, FAILED, FAILED),
        (QUEUED, OK, TIMEOUT, TIMEOUT),
        (TimeoutError(), TIMEOUT, TIMEOUT, TIMEOUT),
        (QueueFull(), UNAVAILABLE, UNAVAILABLE, UNAVAILABLE),
        (RateLimited(), UNAVAILABLE, UNAVAILABLE, UNAVAILABLE),
        (UnsupportedType(), FAILED, FAILED, FAILED),
    ],
)
def test_each_end_of_a_picture_has_its_exit_code(result: Result, plain: int, waited: int, strict: int) -> None:
    assert (exit_code(result), exit_code(result, True), exit_code(result, True, True)) == (plain, waited, strict)


def test_a_batch_has_failed_if_a_picture_has_or_if_one_that_counts_is_not_accepted() -> None:
    ended = Batch("id", BatchState.FINISHED, total=2, succeeded=2)
    assert batch_code(ended) == batch_code(ended, rows=[{"decision": "accept"}] * 2) == OK
    assert batch_code(ended, rows=[{"decision": "accept"}, {"decision": "review"}]) == FAILED
    assert batch_code(Batch("id", BatchState.FINISHED, total=2, succeeded=1, failed=1)) == FAILED
    running = Batch("id", BatchState.RUNNING, total=2)
    assert (batch_code(running), batch_code(running, wait=True)) == (OK, TIMEOUT)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError(), 2), (CannotStart(), 2), (MissingPart(), 2), (PredictionFailed(), 1), (ModelError(), 78),
        (QueueFull(), 3), (RateLimited(), 3), (NotFound(), 1),
    ],
)  # fmt: skip
def test_each_error_has_its_exit_code(error: DigitqError, code: int) -> None:
    assert code_of_error(error) == code


def test_an_error_is_told_in_one_line_without_saying_anything_twice() -> None:
    assert told(NotFound("x")) == f"digitq: {NotFound.title}: x"
    assert told(NotFound(f"{NotFound.title} here")) == f"digitq: {NotFound.title} here"
    assert told(NotFound()) == f"digitq: {NotFound.title}"
    error = DigitqError("digitq does not answer")
    error.title = "digitq"
    assert told(error) == "digitq does not answer"
    assert "Set DIGITQ_API_KEY" in told(Unauthorized())


def printed(capsys: pytest.CaptureFixture[str], result: Result, format: Any = "text", **more: Any) -> tuple[str, str]:
    print_result("a.png", result, format, **{"read": "digit", "alone": False, **more})
    found = capsys.readouterr()
    return found.out, found.err


def numbers(*rows: str) -> Prediction:
    """A page with a number in each row."""
    found = [
        FoundNumber(tuple(FoundDigit(int(text), 0.9, "accept", (20 * x, 90 * y, 15, 20)) for x, text in enumerate(row)))
        for y, row in enumerate(rows)
    ]
    decision = "accept" if rows else "reject"
    page = {"numbers": [one.to_json() for one in found], "grid": None, "rotated": 0}
    return Prediction.from_json({**Prediction("id", State.SUCCEEDED, decision=decision).to_json(), **page})


def test_an_error_is_told_on_stderr_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    error = UnsupportedType("no picture")
    said = "a.png: unsupported_type: no picture\n"
    assert printed(capsys, error) == ("", said)
    out, err = printed(capsys, error, "json")
    assert err == said and json.loads(out)["error"] == {"code": "unsupported_type", "message": "no picture"}
    assert json.loads(out)["filename"] == "a.png" and json.loads(out)["digit"] is None
    out, err = printed(capsys, TimeoutError("late"), "csv")
    [row] = csv.reader(io.StringIO(out))
    assert (err, row[0], row[-2], len(row)) == ("a.png: timeout: late\n", "a.png", "timeout", len(COLUMNS) + 1)
    assert printed(capsys, ACCEPTED, "json")[1] == ""


def test_rows_of_numbers_have_the_label_unless_the_picture_is_alone(capsys: pytest.CaptureFixture[str]) -> None:
    page = numbers("12", "7")
    assert printed(capsys, page)[0] == "a.png: 12\na.png: 7\n"
    assert printed(capsys, page, alone=True)[0] == "12\n7\n"
    assert text_line(page.to_json(), "a.png") == "a.png: 12 / 7"
    assert text_line(numbers().to_json(), "a.png") == "a.png: -  (reject)"


def test_signs_that_are_left_out_are_told_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    page = replace(numbers("12"), warnings=["signs_left_out"])
    assert printed(capsys, page) == ("a.png: 12\n", "a.png: signs, such as points or dashes, were left out\n")
    assert printed(capsys, page, "json")[1] == printed(capsys, numbers("12"))[1] == ""


def test_the_head_of_csv_says_how_pictures_were_read(capsys: pytest.CaptureFixture[str]) -> None:
    for read, columns in (("digit", COLUMNS), ("numbers", NUMBER_COLUMNS)):
        print_header("csv", read)  # type: ignore[arg-type]
        assert capsys.readouterr().out.strip().removeprefix("\ufeff").split(",") == [*columns, "error_message"]
    print_header("json", "digit")
    assert capsys.readouterr().out == ""


def test_what_has_no_digit_is_told_by_its_state_and_error() -> None:
    assert text_line(QUEUED.to_json(), "a") == "a: queued  id"
    row = {"digit": None, "confidence": None, "decision": None, "reason": None, "state": "failed",
           "error": {"code": "c", "message": "m"}}  # fmt: skip
    assert text_line(row, "a") == "a: failed  c: m"
    assert text_line({**row, "digit": 7}, "a") == text_line({**row, "confidence": 0.9}, "a") == "a: failed  c: m"


def test_counts_of_a_batch_that_are_none_are_left_out() -> None:
    batch = Batch("id", BatchState.FINISHED, total=3, succeeded=3)
    assert batch_line(batch) == "batch id: finished  3 succeeded, 0 failed, of 3"
    less = Batch("id", BatchState.CANCELLED, total=3, succeeded=1, cancelled=2, skipped=1)
    assert batch_line(less) == (
        "batch id: cancelled  1 succeeded, 0 failed, 2 cancelled, of 3; files that are no pictures: 1"
    )


def test_pictures_of_a_batch_are_called_by_their_name_or_else_their_place(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"index": 3, "filename": None, "state": "succeeded", "digit": 7, "confidence": 0.9, "decision": "accept",
           "reason": None, "error": None}  # fmt: skip
    print_rows([row, {**row, "filename": "b.png"}], "text")
    assert [line[:6] for line in capsys.readouterr().out.splitlines()] == ["3: 7  ", "b.png:"]
    print_rows([row], "json")
    assert json.loads(capsys.readouterr().out) == row


def test_the_confusion_matrix_counts_what_has_no_digit_apart_and_is_as_wide_as_its_numbers() -> None:
    rows = [line.split() for line in confusion([1, 1, 7, None], bytes([1, 1, 1, 7])).splitlines()]
    assert rows[2] == ["1", ".", "2", ".", ".", ".", ".", ".", "1", ".", ".", "."]
    assert rows[8][-1] == "1"
    wide = confusion([1] * 100_000, bytes([1] * 100_000)).splitlines()
    assert {len(line) for line in wide} == {12 * 7}
    with pytest.raises(ValueError, match="argument"):
        confusion([1], bytes(2))
