"""`digitq submit`: what it takes, what it prints, and that it goes on after a crash where it was."""

from __future__ import annotations

import csv
import fcntl
import gzip
import io
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import chdir, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from producer.cli.output import COLUMNS
from shared import ROOT, keys
from shared.store import Store
from tests.invoked import invoked
from tests.pictures import idx, png, seven
from tests.proxy import proxy
from tests.stack import Stack
from tests.waits import until
from tests.web import Web, sevens, web

DIGITQ = [sys.executable, "-m", "digitq"]


def digitq(*words: str, stdin: bytes = b"", cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    with chdir(cwd):
        return invoked(*words, stdin=stdin)


@pytest.fixture
def site(store: Store) -> Iterator[Web]:
    with web(store) as running:
        yield running


@pytest.fixture
def worker(store: Store) -> Iterator[None]:
    with sevens(store):
        yield


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Three pictures, one of them deeper, and what is none."""
    folder = tmp_path / "scans"
    (folder / "deep").mkdir(parents=True)
    for n, name in enumerate(["a.png", "b.PNG", "deep/c.jpg"]):
        (folder / name).write_bytes(seven(28 + n))
    (folder / "notes.txt").write_text("hello")
    (folder / ".hidden.png").write_bytes(seven())
    return folder


def lines(journal: Path, name: str = "id") -> list[dict[str, Any]]:
    """Whole lines of a journal that have a member."""
    found = []
    for line in journal.read_bytes().splitlines() if journal.exists() else []:
        with suppress(ValueError):  # torn
            found.append(json.loads(line))
    return [fields for fields in found if name in fields]


def accepted(client: redis.Redis) -> int:
    return int(client.zcard(keys.RECENT))


# ---------------------------------------------------------------------- what it takes


def test_folders_and_patterns_and_the_standard_input(site: Web, worker: None, scans: Path) -> None:
    done = digitq("submit", str(scans), "--wait", "--json", "--url", site.url)
    assert [json.loads(line)["filename"] for line in done.stdout.splitlines()] == ["a.png", "b.PNG", "c.jpg"]
    done = digitq("submit", "*/**/*.jpg", "*/a.p?g", "--wait", "--url", site.url, cwd=scans.parent)
    assert done.stdout == "scans/deep/c.jpg: 7  (91.0%, accept)\nscans/a.png: 7  (91.0%, accept)\n"
    done = digitq("submit", "-", "--wait", "--url", site.url, stdin=seven())
    assert (done.returncode, done.stdout) == (0, "-: 7  (91.0%, accept)\n")


def test_what_is_nowhere_is_wrong_use(site: Web, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for word in ("no*.png", "no.png", "empty"):
        done = digitq("submit", word, "--url", site.url, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), word
    assert digitq("submit", "x", "--json", "--csv", cwd=tmp_path).returncode == 2
    assert site.calls == []


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("page.jxl", b"\0\0\0\x0cJXL \r\n\x87\n", "unsupported_type: This is a JPEG XL image"),
        ("phone.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "undecodable_image: The header of the HEIC image"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_by_the_name_of_its_format(
    site: Web, worker: None, scans: Path, name: str, data: bytes, told: str
) -> None:
    (scans / name).write_bytes(data)
    for words in ((str(scans / name),), (str(scans),)):
        done = invoked("submit", *words, "--wait", "--url", site.url)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert f"{scans}/{name}: {told}" in done.stderr
    assert done.stdout.count(": 7 ") == 3


def test_many_files_are_sent_at_the_same_time(site: Web, store: Store, tmp_path: Path) -> None:
    for n in range(16):
        (tmp_path / f"{n:02}.png").write_bytes(seven(28 + n))
    with sevens(store, pause=1.0):
        done = digitq("submit", str(tmp_path), "--wait", "--json", "--url", site.url)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["digit"] for one in found] == [7] * 16
    # One after another, each would have been taken at another of the worker's seconds.
    assert len({one["started_at"] for one in found}) <= 3


# ---------------------------------------------------------------------- what it prints


def test_csv_has_a_head_and_a_row_for_each_file(site: Web, worker: None, scans: Path) -> None:
    text = scans / "notes.txt"
    done = digitq("submit", str(text), str(scans), "--wait", "--csv", "--url", site.url)
    head, bad, *good = csv.reader(io.StringIO(done.stdout))
    assert head == [*COLUMNS, "error_message"] and done.returncode == 1
    assert (bad[0], bad[3], bad[8]) == (str(text), "", "unsupported_type")
    assert [(row[0].rpartition("/")[2], row[2], row[3], row[7]) for row in good] == [
        (name, "succeeded", "7", "inverted") for name in ("a.png", "b.PNG", "c.jpg")
    ]


def test_csv_in_a_file_begins_with_a_byte_order_mark(site: Web, worker: None, tmp_path: Path) -> None:
    picture, out = tmp_path / "Größe.png", tmp_path / "out.csv"
    picture.write_bytes(seven())
    submit = [*DIGITQ, "submit", str(picture), "--wait", "--csv", "--url", site.url]
    for _ in range(2):  # what is appended has none
        with out.open("ab") as file:
            subprocess.run(submit, stdout=file, cwd=ROOT, check=True)
    text = out.read_text()
    assert text.startswith("\ufeffpath,") and text.count("\ufeff") == 1 and text.count("Größe.png") == 2
    assert digitq(*submit[3:]).stdout.startswith("path,")


def test_csv_of_a_batch_in_a_file_begins_with_one_too(stack: Stack, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out.csv"
    images.write_bytes(idx(2))
    with out.open("wb") as file:
        subprocess.run([*DIGITQ, "submit", str(images), "--wait", "--csv", "--url", stack.url], stdout=file, cwd=ROOT)
    assert out.read_text().startswith("\ufeffindex,")


def test_a_batch_with_labels_shows_a_confusion_matrix(stack: Stack, tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels.gz"
    images.write_bytes(idx(12))
    labels.write_bytes(gzip.compress(struct.pack(">2I", 0x801, 12) + bytes([3] * 10 + [8] * 2)))
    done = digitq("submit", str(images), "--labels", str(labels), "--wait", "--url", stack.url)
    first, _, title, head, *rows = done.stdout.splitlines()
    assert done.returncode == 0 and first.startswith("total 12  succeeded 12  failed 0  accuracy ")
    assert "labels (rows)" in title and head.split() == [*"0123456789", "none"]
    assert [sum(int(cell) for cell in row.split()[1:] if cell != ".") for row in rows] == [
        0,
        0,
        0,
        10,
        0,
        0,
        0,
        0,
        2,
        0,
    ]
    done = digitq("submit", str(images), "--wait", "--csv", "--url", stack.url)
    assert len(done.stdout.splitlines()) == 13 and done.stdout.startswith("index,filename,state,digit")


def test_with_labels_json_is_the_summary_alone(stack: Stack, tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(idx(2))
    labels.write_bytes(struct.pack(">2I", 0x801, 2) + bytes(2))
    done = invoked("submit", str(images), "--labels", str(labels), "--wait", "--json", "--url", stack.url)
    assert list(json.loads(done.stdout)) == ["total", "succeeded", "failed", "accuracy", "images_per_second"]
    assert done.returncode == 0 and re.match(r"batch [\w-]+: finished  2 succeeded", done.stderr)


def zipped(path: Path, **files: bytes) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"{name}.png", data)
    return str(path)


def test_a_batch_prints_each_picture_and_its_id(stack: Stack, tmp_path: Path) -> None:
    words = (
        "submit",
        zipped(tmp_path / "a.zip", one=seven(60), two=b"hello", three=seven()),
        "--url",
        stack.url,
        "--wait",
    )
    text, as_json, as_csv = invoked(*words), invoked(*words, "--json"), invoked(*words, "--csv")
    one, two, three, last = text.stdout.splitlines()
    assert re.fullmatch(r"one\.png: 7  \(\d+\.\d%, accept\)", one) and three.startswith("three.png: 7  (")
    assert two.startswith("two.png: failed  unsupported_type: ")
    total = r"batch [\w-]+: finished  2 succeeded, 1 failed, of 3  \(\d+\.\d pictures/s\)"
    assert re.fullmatch(total, last) and text.stderr == ""
    rows = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [(row["filename"], row["digit"]) for row in rows] == [("one.png", 7), ("two.png", None), ("three.png", 7)]
    assert len(as_csv.stdout.splitlines()) == 4
    assert all(re.fullmatch(total + "\n", done.stderr) for done in (as_json, as_csv))
    assert {done.returncode for done in (text, as_json, as_csv)} == {1}


def test_files_of_a_zip_that_are_no_pictures_are_told(stack: Stack, tmp_path: Path) -> None:
    batch = zipped(tmp_path / "a.zip", one=seven())
    with zipfile.ZipFile(batch, "a") as file:
        file.writestr("Thumbs.db", b"x")
        file.writestr("readme.txt", b"x")
    done = invoked("submit", batch, "--wait", "--url", stack.url)
    assert ", of 1; files that are no pictures: 2  (" in done.stdout and done.returncode == 0


def test_status_prints_the_results_of_a_batch(stack: Stack, tmp_path: Path) -> None:
    batch = zipped(tmp_path / "a.zip", one=seven(), two=b"hello")
    id = json.loads(invoked("submit", batch, "--json", "--url", stack.url).stdout)["id"]
    text = invoked("status", id, "--wait", "30", "--results", "--url", stack.url)
    one, two, last = text.stdout.splitlines()
    assert (text.returncode, one[:10], two[:25]) == (1, "one.png: 7", "two.png: failed  unsuppor")
    assert last == f"batch {id}: finished  1 succeeded, 1 failed, of 2"
    rows = invoked("status", id, "--results", "--json", "--url", stack.url)
    assert [json.loads(row)["digit"] for row in rows.stdout.splitlines()] == [7, None]
    assert rows.stderr == f"{last}\n"


def test_pictures_of_an_idx_file_are_named_by_their_place(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(idx(2))
    done = invoked("submit", str(tmp_path / "images"), "--wait", "--url", stack.url)
    assert [line.partition("  (")[0] for line in done.stdout.splitlines()[:2]] == ["0: ?", "1: ?"]
    assert "reject: no_ink)" in done.stdout


def test_a_rejected_picture_is_no_answer(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "blank.png").write_bytes(png())
    (tmp_path / "seven.png").write_bytes(seven())
    batch = zipped(tmp_path / "both.zip", blank=png(), seven=seven())
    for name in ("blank.png", "both.zip"):
        words = ("submit", str(tmp_path / name), "--wait", "--url", stack.url)
        plain, strict = invoked(*words), invoked(*words, "--strict", "--json")
        assert re.search(r"blank\.png: \?  \(\d at [\d.]+%, reject: no_ink\)", plain.stdout)
        assert (plain.returncode, strict.returncode) == (0, 1)
        row = json.loads(strict.stdout.splitlines()[0])
        assert isinstance(row["digit"], int) and row["decision"] == "reject"
    assert invoked("submit", str(tmp_path / "seven.png"), "--wait", "--strict", "--url", stack.url).returncode == 0
    assert invoked("submit", batch, "--strict", "--url", stack.url).returncode == 2


def test_a_bar_is_shown_on_a_terminal_only(site: Web, worker: None, scans: Path) -> None:
    words = [*DIGITQ, "submit", str(scans), "--wait", "--json", "--url", site.url]
    assert subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stderr == ""
    ours, theirs = pty.openpty()
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, check=True, text=True)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "pictures" in shown and "100%" in shown and "\r" in shown
    assert len(done.stdout.splitlines()) == 3


def test_status_and_cancel_take_batches_too(site: Web, tmp_path: Path) -> None:
    zipped = tmp_path / "all.zip"
    with zipfile.ZipFile(zipped, "w") as archive:
        for n in range(3):
            archive.writestr(f"{n}.png", seven(28 + n))
    id = json.loads(digitq("submit", str(zipped), "--json", "--url", site.url).stdout)["id"]
    assert digitq("status", id, "--url", site.url).stdout == f"batch {id}: queued  0 succeeded, 0 failed, of 3\n"
    assert digitq("status", id, "--wait", "0.2", "--url", site.url).returncode == 4
    assert digitq("cancel", id, "--url", site.url).returncode == 0
    done = digitq("status", id, "--json", "--url", site.url)
    assert (done.returncode, json.loads(done.stdout)["state"]) == (1, "cancelled")
    assert digitq("cancel", id, "--url", site.url).returncode == 0
    gone = digitq("status", id, "--url", site.url)
    assert (gone.returncode, "no such prediction or batch" in gone.stderr) == (1, True)
    assert digitq("status", "nobody", "--url", site.url).returncode == 1


def test_ctrl_c_ends_it_at_once(site: Web, scans: Path) -> None:
    process = subprocess.Popen([*DIGITQ, "submit", str(scans), "--wait", "--url", site.url], cwd=ROOT,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    until(lambda: sum(call.startswith("GET") for call in site.calls) >= 3)
    process.send_signal(signal.SIGINT)
    assert "interrupted" in process.communicate(timeout=5)[1]
    assert process.returncode == 130


# ---------------------------------------------------------------------- the journal


def test_a_command_that_has_ended_says_the_same_again_and_sends_nothing(site: Web, worker: None, scans: Path) -> None:
    words = ("submit", str(scans), str(scans / "notes.txt"), "--wait", "--journal", str(scans / "j"), "--url", site.url)
    first = digitq(*words)
    asked = len(site.calls)
    second = digitq(*words)
    assert (first.returncode, second.returncode) == (1, 1)
    assert (first.stdout, len(first.stdout.splitlines())) == (second.stdout, 3)
    assert "unsupported_type" in first.stderr and first.stderr == second.stderr
    assert len(site.calls) == asked
    (scans / "a.png").write_bytes(seven(99))  # another picture by the same name
    assert digitq(*words).stdout == first.stdout
    assert len([call for call in site.calls[asked:] if call.startswith("POST")]) == 1


def test_pictures_submitted_without_waiting_are_waited_for_later(site: Web, store: Store, scans: Path) -> None:
    words = ("submit", str(scans), "--journal", str(scans / "j"), "--url", site.url)
    assert digitq(*words).stdout.count("queued") == 3
    with sevens(store):
        assert digitq(*words, "--wait").stdout.count(": 7 ") == 3
    assert site.posts() == 3


def test_killed_in_the_middle_again_and_again_it_ends_without_duplicates(
    site: Web, store: Store, client: redis.Redis, tmp_path: Path
) -> None:
    folder, journal = tmp_path / "many", tmp_path / "journal"
    folder.mkdir()
    for n in range(80):
        (folder / f"{n:02}.png").write_bytes(seven(28 + n))
    kills = 0
    with proxy(site.url, lambda n: n % 11 == 0) as broken, sevens(store, at_once=4, pause=0.1):
        words = [*DIGITQ, "submit", str(folder), "--wait", "--json", "--journal", str(journal), "--url", broken.url]
        while kills < 5 and len(lines(journal, "outcome")) < 60:
            goal = len(lines(journal)) + random.randint(4, 12)
            process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while len(lines(journal)) < goal and process.poll() is None:
                time.sleep(0.01)
            process.kill()
            kills += process.wait() == -signal.SIGKILL
        names = {line["key"]: Path(line["path"]).name for line in lines(journal, "path")}
        ended, posted = [names[line["key"]] for line in lines(journal, "outcome")], len(site.posted)
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert kills >= 3 and done.returncode == 0
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["filename"] for one in found] == [f"{n:02}.png" for n in range(80)]
    assert {one["digit"] for one in found} == {7}
    assert (len({one["id"] for one in found}), accepted(client)) == (80, 80)
    assert 0 < len(ended) < 80
    assert {name for name in site.posted[posted:] if name in ended} == set()  # what had ended was not sent again
    assert len(lines(journal, "outcome")) == 80


def test_a_torn_line_counts_as_not_written(site: Web, worker: None, scans: Path, client: redis.Redis) -> None:
    journal = scans / "j"
    words = ("submit", str(scans / "a.png"), "--wait", "--journal", str(journal), "--url", site.url)
    digitq(*words)
    whole = journal.read_bytes()
    for end in [len(whole) - 3, whole.index(b'"id"') + 9, whole.index(b'"sha256"'), 9, 0]:
        journal.write_bytes(whole[:end])
        done = digitq(*words)
        assert (done.returncode, done.stdout.count(": 7 ")) == (0, 1), end
        assert len(lines(journal, "outcome")) == 1
    # As long as the key was on the disk, it is the same picture; twice it was not.
    assert accepted(client) == 1 + 3


def test_a_batch_is_resumed(stack: Stack, tmp_path: Path) -> None:
    images, journal = tmp_path / "images", tmp_path / "j"
    images.write_bytes(idx(20))
    words = ("submit", str(images), "--json", "--journal", str(journal), "--url", stack.url)
    first = json.loads(digitq(*words).stdout)
    assert json.loads(digitq(*words).stdout)["id"] == first["id"]
    head, begun, _ = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(head + begun)  # killed before the answer came
    assert json.loads(digitq(*words).stdout)["id"] == first["id"]
    waited = digitq(*words, "--wait")
    assert f"batch {first['id']}: finished  20 succeeded" in waited.stderr and len(waited.stdout.splitlines()) == 20


def test_a_batch_whose_labels_did_not_fit_is_submitted_again(stack: Stack, tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(idx(3))
    words = ("submit", str(images), "--labels", str(labels), "--wait", "--journal", str(tmp_path / "j"))
    for count, code in ((2, 1), (3, 0)):
        labels.write_bytes(struct.pack(">2I", 0x801, count) + bytes(count))
        assert digitq(*words, "--url", stack.url).returncode == code


def test_what_the_server_has_lost_is_sent_again(site: Web, store: Store, scans: Path, client: redis.Redis) -> None:
    words = ("submit", str(scans / "a.png"), "--wait", "--journal", str(scans / "j"), "--url", site.url)
    assert digitq(*words, "--timeout", "0.1").returncode == 4
    client.flushall()
    with sevens(store):
        assert digitq(*words).returncode == 0


def test_a_file_that_is_no_journal_is_left_alone_and_one_in_use_too(site: Web, scans: Path) -> None:
    before = (scans / "b.PNG").read_bytes()
    words = ("submit", str(scans / "a.png"), "--url", site.url, "--journal")
    assert digitq(*words, str(scans / "b.PNG")).returncode == 2
    assert (scans / "b.PNG").read_bytes() == before
    with (scans / "j").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = digitq(*words, str(scans / "j"))
    assert (done.returncode, "in use" in done.stderr) == (2, True)
    assert site.calls == []


def test_a_batch_beside_other_files_is_told_to_come_alone(site: Web, scans: Path) -> None:
    (scans / "some.zip").write_bytes(b"PK\3\4")
    done = digitq("submit", str(scans / "some.zip"), str(scans / "a.png"), "--url", site.url)
    assert done.returncode == 1 and site.posts() == 1
    said = "some.zip: unsupported_type: A zip or an IDX file is a batch: submit it in a command of its own"
    assert said in done.stderr


# ---------------------------------------------------------------------- help


@pytest.mark.parametrize("command", ["submit", "status", "cancel", "watch"])
def test_help_has_examples(command: str) -> None:
    assert f"digitq {command} " in digitq(command, "--help").stdout.partition("Usage:")[2].partition("\n")[2] + " "


def test_a_shell_completes_commands_and_options() -> None:
    def complete(words: str) -> str:
        env = {**os.environ, "_DIGITQ_COMPLETE": "bash_complete", "COMP_WORDS": words,
               "COMP_CWORD": str(len(words.split()) - 1)}  # fmt: skip
        main = "import digitq; digitq.main(prog_name='digitq')"
        return subprocess.run([sys.executable, "-c", main], cwd=ROOT, env=env, capture_output=True, text=True).stdout

    assert "plain,submit" in complete("digitq sub") and "plain,watch" in complete("digitq wa")
    assert "--journal" in complete("digitq submit --j")
