"""The example commands of the API's page work."""

from __future__ import annotations

import gzip
import struct
import subprocess
from pathlib import Path

import pytest

from producer import Client
from producer.web.docs import DOCUMENT
from tests.pictures import seven
from tests.stack import Stack
from tests.tools import tool

PAGE = [one["x-example"] for path in DOCUMENT["paths"].values() for one in path.values() if "x-example" in one]
#: curl's exit status shows refused requests.
FUNCTIONS = """
set -eo pipefail
curl() { command curl -sS --fail-with-body --max-time 30 "$@"; }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the files named in the examples."""
    (tmp_path / "im3.png").write_bytes(seven())
    images = struct.pack(">4I", 0x803, 2, 28, 28) + bytes(2 * 784)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    return tmp_path


def typed(command: str, stack: Stack, folder: Path, id: str) -> str:
    """Run a command with an existing id, and return its output; it must succeed."""
    tool("curl")
    command = command.replace("{origin}", stack.url).replace("/ID", f"/{id}")
    end = " | head -n 4 || true" if command.endswith("/v1/events") else ""
    script = FUNCTIONS + command + end
    run = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, timeout=60)
    assert run.returncode == 0, f"{command}: {run.stdout.decode(errors='replace')} {run.stderr.decode()}"
    return run.stdout.decode(errors="replace")


@pytest.mark.parametrize("command", PAGE)
def test_the_examples_of_the_apis_page(command: str, stack: Stack, folder: Path) -> None:
    with Client(stack.url) as client:
        if "/v1/batches/ID" in command:
            id = client.submit_batch([seven()]).wait(timeout=30).id
        else:
            id = client.submit(seven()).wait(timeout=30).id
    said = typed(command, stack, folder, id)
    assert said or "DELETE" in command or (folder / "seen.png").read_bytes().startswith(b"\x89PNG")
