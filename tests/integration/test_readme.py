"""Every code block of the README does what it says, in a fresh shell in the checkout while `digitq up` runs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from shared import ROOT
from shared.standalone.up import ready
from tests.invoked import invoked
from tests.stack import Stack
from tests.tools import lacking

TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
PYTHON = [text for language, text in BLOCKS if language == "python"]
OTHERS = [
    line.rstrip()
    for language, text in BLOCKS
    if language not in ("python", "mermaid", "json")
    for line in text.splitlines()
]
#: Lines that are not run as they stand, with the reason; each has a test of its own below.
EXCLUDED = {
    "browser / curl / SDK ": "a drawing",
    "          ◀──202,": "a drawing",
    "make up": "stays in the foreground",
    "digitq is ready at ": "what make up says",
    "  try it ": "what make up says",
    "  REDIS_URL ": "what make up says",
    "make test": "runs these tests",
    "digitq watch": "stays in the foreground",
    "docker compose up": "needs Docker and builds images",
    "make train": "fetches MNIST and takes minutes",
}
SHELL = [line for line in OTHERS if not line.startswith(tuple(EXCLUDED))]


@pytest.fixture
def checkout(stack: Stack) -> Iterator[Path]:
    """The checkout as `make up` has it: `.venv` is what runs these tests, and `var` is of the stack that runs."""
    if not (Path(sys.prefix) / "bin" / "activate").exists() or not shutil.which("curl"):
        lacking("needs curl, and a virtual environment")
    with tempfile.TemporaryDirectory(prefix="dq-") as name:
        for path in ROOT.iterdir():
            if path.name not in (".venv", "var"):
                (Path(name) / path.name).symlink_to(path)
        (Path(name) / ".venv").symlink_to(sys.prefix)
        (Path(name) / "var").symlink_to(stack.state_dir)
        yield Path(name)


def fresh_shell(script: str, stack: Stack, checkout: Path) -> str:
    """Return the output of a script in a shell without settings; the stack's port takes the place of 8000."""
    env = {"HOME": str(checkout), "PATH": os.defpath, "DIGITQ_PORT": stack.url.rpartition(":")[2]}
    script = script.replace("http://127.0.0.1:8000", stack.url)
    done = subprocess.run(["bash", "-c", script], cwd=checkout, env=env, capture_output=True, timeout=120, check=False)
    said, complaint = done.stdout.decode(errors="replace"), done.stderr.decode()
    assert (done.returncode, "Traceback" in complaint) == (0, False), f"{said}\n{complaint}"
    return said


def test_the_shell_lines(stack: Stack, checkout: Path) -> None:
    # One shell for all, as typed; curl's exit status shows refused requests.
    script = 'set -eo pipefail\ncurl() { command curl -sS --fail-with-body --max-time 30 "$@"; }\n'
    said = fresh_shell(script + "".join(f"echo '@@@'\n{line}\n" for line in SHELL), stack, checkout)
    _, *parts = re.split(r"^@@@\n", re.sub(r"(?<=.)@@@\n", "\n@@@\n", said), flags=re.MULTILINE)
    activated, one, waited, at_once, assigned, polled, many, journal, piped, zipped, both, *parts = parts
    numbers, labelled, batches, status = parts
    assert activated == assigned == zipped == ""
    assert re.fullmatch(r"examples/seven\.png: 7  \(\d+\.\d%, accept\)\n", one)
    assert (json.loads(waited)["digit"], json.loads(polled)["digit"]) == (7, 7)
    assert json.loads(at_once)["state"] == "queued"
    assert [json.loads(line)["digit"] for line in many.splitlines()] == [7, 2, 2]
    assert re.findall(r"(\w+)\.png: (\d)  ", journal) == [("seven", "7"), ("two", "2")]
    assert (stack.state_dir / "examples.jsonl").exists() and piped.startswith("-: 7  ")
    assert re.findall(r"(\w+)\.png: (\d)  ", both) == [("seven", "7"), ("two", "2")]
    assert re.search(r"^batch [\w-]+: finished  2 succeeded", both, re.MULTILINE)
    assert numbers == "7\n"
    assert json.loads(labelled)["total"] == 10 and json.loads(labelled)["accuracy"] == 1
    newest, before, *_ = batches.splitlines()
    assert ("10 succeeded, 0 failed, of 10" in newest, "2 succeeded, 0 failed, of 2" in before) == (True, True)
    assert " alive " in status and " 2 alive" in status


def test_the_python_blocks(stack: Stack, checkout: Path) -> None:
    said = []
    for block in PYTHON:
        (checkout / "example.py").write_text(block.replace("http://127.0.0.1:8000", stack.url))
        said.append(fresh_shell(". .venv/bin/activate\npython example.py", stack, checkout).splitlines())
    (one, batch, *ended, from_redis), from_asyncio = said
    assert (one, from_redis, from_asyncio) == ("7", "2", ["[7, 2]"])
    assert json.loads(batch) == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert sorted(ended) == ["seven.png succeeded 7 None", "two.png succeeded 2 None"]


def test_the_plain_rq_client_of_the_protocol(stack: Stack, checkout: Path) -> None:
    [block] = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "shared" / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    (checkout / "example.py").write_text(block.replace("redis://…", stack.redis_url))
    assert fresh_shell(". .venv/bin/activate\npython example.py", stack, checkout) == "7\n"


def test_the_json_block_has_the_members_of_an_answer(stack: Stack, checkout: Path) -> None:
    [block] = [text for language, text in BLOCKS if language == "json"]
    line = "digitq submit examples/seven.png --read numbers --wait --json"
    answer = fresh_shell(f". .venv/bin/activate\n{line}", stack, checkout)
    assert [name for name in re.findall(r'"(\w+)":', block) if f'"{name}":' not in answer] == []


COMMANDS = sorted(set(re.findall(r"`(digitq [^`]+|python -m [^`]+|make [^`]+)`", TEXT)))


def test_the_commands_within_sentences_are_there() -> None:
    assert len(COMMANDS) > 15
    for command in COMMANDS:
        words = command.replace("\n", " ").split()
        if words[0] == "make":
            assert re.search(rf"^{words[1]}:|^{words[1]} .*:", (ROOT / "Makefile").read_text(), re.MULTILINE), command
        elif words[0] == "python":
            assert importlib.util.find_spec(words[2]), command
        else:
            help_text = invoked(words[1], "--help").stdout
            options = [word for word in words[2:] if word.startswith("--")]
            assert help_text.startswith("Usage:") and [one for one in options if one not in help_text] == [], command


def test_every_block_is_run_or_excluded_on_purpose() -> None:
    assert len(PYTHON) == 2 and len(SHELL) == 15
    assert [start for start in EXCLUDED if not any(line.startswith(start) for line in OTHERS)] == []


@pytest.mark.parametrize("line", [line for line in OTHERS if line.startswith("make ")])
def test_what_make_would_run_is_there(line: str) -> None:
    command = ["make", "--no-print-directory", "-n", *line.split()[1:]]  # these tests may be run by make themselves
    plan = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = plan.splitlines()[-1].removeprefix("exec ").split()
    if words[0] == ".venv/bin/digitq":
        help_text = subprocess.run([sys.executable, "-m", "digitq", words[1], "--help"], cwd=ROOT, capture_output=True,
                                   text=True, check=True).stdout  # fmt: skip
        assert [word for word in words if word.startswith("--") and word not in help_text] == []
    else:
        assert words[:3] == [".venv/bin/python", "-m", "pytest"]


def test_up_says_what_the_readme_shows(stack: Stack, checkout: Path) -> None:
    [shown] = [text.splitlines() for _, text in BLOCKS if text.startswith("digitq is ready")]
    log, end = stack.state_dir / "up.log", time.monotonic() + 30
    while "REDIS_URL" not in log.read_text() and time.monotonic() < end:  # it answers before it says so
        time.sleep(0.05)
    said = log.read_text().replace(sys.prefix, ".venv").splitlines()
    # Where the port is not 8000, the line to try has the URL too.
    expected = [f"digitq is ready at {stack.url}", f"{shown[1]} --url {stack.url}", f"  REDIS_URL {stack.redis_url}"]
    assert [line for line in said if line in expected] == expected
    assert [line.split()[0] for line in shown] == [line.split()[0] for line in expected]
    assert fresh_shell(expected[1].removeprefix("  try it "), stack, checkout).startswith("examples/seven.png: 7  ")


def test_up_on_its_usual_port_says_just_that_and_no_password() -> None:
    said = ready("http://127.0.0.1:8000", "redis://me:secret@host/0")
    assert "submit examples/seven.png --wait\n" in said and said.endswith("REDIS_URL redis://me:***@host/0")


def test_watch_for_a_second(stack: Stack, checkout: Path) -> None:
    [line] = [line for line in OTHERS if line.startswith("digitq watch")]
    said = fresh_shell(f". .venv/bin/activate\n{line.partition('#')[0]} --seconds 1.5", stack, checkout)
    assert "queued=0" in said


def test_compose_starts_the_service_that_is_scaled() -> None:
    [line] = [line for line in OTHERS if line.startswith("docker compose up")]
    [service] = re.findall(r"--scale (\w+)=", line)
    assert service in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
