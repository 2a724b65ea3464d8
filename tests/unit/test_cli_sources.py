"""Tests of what `digitq submit` makes of its arguments."""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner

from producer.cli import commands
from producer.cli.sources import STDIN, Source, expand
from shared.errors import DataError


@pytest.fixture
def scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures, one of them deeper, and what is none."""
    names = ("b.PNG", "a.png", "deep/c.jpg", "notes.txt", ".hidden.png", ".deep/d.png", "page.jxl", "empty/x.txt")
    for name in names:
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "scans" / name).write_bytes(b"x")
    (tmp_path / "scans" / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "scans"


def labels(*arguments: str) -> list[str]:
    return [source.label for source in expand(arguments)]


def test_a_folder_is_its_pictures_in_order_and_nothing_hidden(scans: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Path.rglob
    monkeypatch.setattr(Path, "rglob", lambda folder, pattern: sorted(found(folder, pattern), reverse=True))
    assert labels("scans") == [f"scans/{name}" for name in ("a.png", "b.PNG", "deep/c.jpg", "page.jxl")]


def test_a_pattern_is_the_files_that_match_in_order(scans: Path) -> None:
    assert labels("scans/*.[pP]*") == ["scans/a.png", "scans/b.PNG", "scans/page.jxl"][:2]
    (scans / "deep" / "er").mkdir()
    (scans / "deep" / "er" / "e.jpg").touch()
    assert labels("scans/**/*.jpg") == ["scans/deep/c.jpg", "scans/deep/er/e.jpg"]


def test_a_file_that_is_named_is_taken_whatever_it_is_called(scans: Path) -> None:
    assert labels("scans/notes.txt", "scans/a.png", "scans/.hidden.png") == [
        "scans/notes.txt", "scans/a.png", "scans/.hidden.png",
    ]  # fmt: skip
    (scans / "odd[1].png").write_bytes(b"x")
    assert labels("scans/odd[1].png") == ["scans/odd[1].png"]


@pytest.mark.parametrize(
    ("argument", "said"),
    [("scans/empty", "no picture in the folder"), ("no.png", "does not exist"), ("scans/fold*.png", "no file matches")],
)
def test_what_has_no_picture_is_wrong_use(scans: Path, argument: str, said: str) -> None:
    with pytest.raises(click.UsageError, match=said):
        expand([argument])


def test_the_standard_input_is_a_picture_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"PK\x03\x04")))
    [source] = expand(["-"])
    assert (source.label, source.name, source.place, source.content()) == (STDIN, "", STDIN, b"PK\x03\x04")
    assert source.read() == b"PK\x03\x04" and source.is_batch()
    assert source.sha256() == hashlib.sha256(b"PK\x03\x04").hexdigest()


def test_a_file_is_known_by_its_place_and_a_batch_is_read_by_the_client(scans: Path) -> None:
    [source] = expand(["scans/../scans/a.png"])
    assert (source.name, source.place, source.content()) == (
        "a.png",
        str(scans / "a.png"),
        Path("scans/../scans/a.png"),
    )
    assert not source.is_batch() and source.sha256() == hashlib.sha256(b"x").hexdigest()


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png cannot be read: No such file"):
        Source("gone.png", tmp_path / "gone.png").read()


@pytest.mark.parametrize(("command", "option"), [(commands.submit, "--timeout"), (commands.status, "--wait")])
def test_nobody_waits_for_less_than_no_time(command: click.Command, option: str) -> None:
    run = CliRunner().invoke(command, ["7.png", option, "-1"])
    assert run.exit_code == 2 and "-1.0 is not in the range" in run.output
