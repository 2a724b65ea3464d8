"""digitq installed beside a project that has packages named `shared`, `worker`, `producer` and `verify` of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from shared import ROOT
from shared.standalone.up import http_ok
from tests.pictures import seven
from tests.stack import LEAN
from tests.tools import lacking
from tests.unit.test_architecture import imports
from tests.web import free_port

PARTS = ("producer", "shared", "verify", "worker")
PROGRAM = """
import asyncio, importlib, json, sys
from digitq import AsyncClient, BatchWorker, Client, Queue, State, errors
import producer, shared, verify, worker

url, redis_url = sys.argv[1:]
with Client(url) as client, Queue(redis_url) as queue:
    digits = [one.submit("seven.png").wait(timeout=20).digit for one in (client, queue)]
    job = importlib.import_module("digitq.tasks").classify.__name__
loaded = [name for name in sys.modules if name.partition(".")[0] in ("producer", "shared", "verify", "worker")]
print(json.dumps([digits, job, sorted(loaded), [producer.mine, shared.mine, verify.mine, worker.mine]]))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that `pip install` would put into an environment."""
    folder = tmp_path_factory.mktemp("package")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--wheel-dir",
        str(folder),
        str(copy(folder)),
    ]
    done = subprocess.run(build, capture_output=True, text=True, timeout=120, check=False)
    if "No matching distribution" in done.stderr:
        lacking("needs setuptools, which pip cannot fetch")
    assert done.returncode == 0, done.stderr
    [wheel] = folder.glob("*.whl")
    ZipFile(wheel).extractall(folder / "installed")
    return folder / "installed"


def copy(folder: Path) -> Path:
    """A copy of what the package is built of: building leaves folders behind."""
    (folder / "checkout").mkdir()
    for path in (ROOT / name for name in (*PARTS, "digitq", "setup.py", "pyproject.toml", "README.md", "LICENSE")):
        (folder / "checkout" / path.name).symlink_to(path)
    return folder / "checkout"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in PARTS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"mine = {name!r}\n")
    (tmp_path / "seven.png").write_bytes(seven())
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def environment(installed: Path) -> dict[str, str]:
    # With -S the checkout that is installed for these tests is not found, but the libraries are.
    keep = {name: value for name, value in os.environ.items() if not name.startswith("DIGITQ_") and name != "REDIS_URL"}
    path = [str(installed), LEAN["PYTHONPATH"], sysconfig.get_path("purelib")]
    return {**keep, **LEAN, "PYTHONPATH": os.pathsep.join(path)}


@pytest.fixture
def started(installed: Path, project: Path) -> Iterator[str]:
    """The URL of a `digitq up` of the installed package in the project's folder."""
    port = free_port()
    command = [sys.executable, "-S", "-m", "digitq", "up", "--port", str(port), "--workers", "1"]
    # -m finds modules in the working folder first: the project's own packages are in the way.
    with (project / "log").open("w") as log, subprocess.Popen(
        command, cwd=project, env=environment(installed), stdout=log, stderr=log
    ) as process:  # fmt: skip
        try:
            end = time.monotonic() + 60
            while not http_ok(f"http://127.0.0.1:{port}/readyz"):
                assert process.poll() is None and time.monotonic() < end, (project / "log").read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def test_everything_is_under_one_name(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if "." not in path.name} == {"digitq"}
    there = {path.relative_to(installed / "digitq").as_posix() for path in (installed / "digitq").rglob("*.*")}
    assert {"shared/scripts/claim.lua", "producer/web/openapi.json", "worker/model/card.json", "py.typed"} <= there


def test_a_project_with_packages_of_the_same_names_runs_the_whole_of_digitq(
    started: str, installed: Path, project: Path
) -> None:
    redis_url = f"unix://{project}/var/redis/redis.sock"
    command = [sys.executable, "-S", "program.py", started, redis_url]
    done = subprocess.run(command, cwd=project, env=environment(installed), capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert json.loads(done.stdout) == [[7, 7], "classify", sorted(PARTS), list(PARTS)]


def test_a_command_of_the_installed_package_names_its_extra(installed: Path, project: Path) -> None:
    program = "import sys; sys.modules['rq'] = None; import digitq; digitq.main(['worker'])"
    command = [sys.executable, "-S", "-c", program]
    done = subprocess.run(command, cwd=project, env=environment(installed), capture_output=True, text=True, check=False)
    assert done.stderr == "digitq: Not installed: rq. Needs `pip install 'digitq[worker]'`.\n"


def test_every_command_of_the_installed_package_has_its_help(installed: Path, project: Path) -> None:
    for words in ([], *([name] for name in ("submit", "up", "worker", "verify", "train", "evaluate", "explain"))):
        command = [sys.executable, "-S", "-m", "digitq", *words, "--help"]
        done = subprocess.run(command, cwd=project, env=environment(installed), capture_output=True, text=True,
                              check=False)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


def test_the_examples_are_typed_strictly(installed: Path, project: Path) -> None:
    examples = []
    for name in ("README.md", "worker/README.md"):
        for text in re.findall(r"^```python\n(.*?)^```", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE):
            examples.append(project / f"example_{len(examples)}.py")
            examples[-1].write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports", "silent", *map(str, examples)]
    done = subprocess.run(command, cwd=project, env={**os.environ, "MYPYPATH": str(installed)}, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert len(examples) == 3 and done.stdout == "Success: no issues found in 3 source files\n"


def test_no_module_imports_another_name(installed: Path) -> None:
    modules = [*(installed / "digitq").rglob("*.py")]
    assert len(modules) > 150
    assert [path for path in modules if imports(path) & set(PARTS)] == []
