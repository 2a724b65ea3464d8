"""Make each mistake in a copy of the code, run its tests, and say whether they saw it.

    python -m tests.mutants [--sample 8 [--seed 3]] [--only TEXT] [--without-server] [--jobs 2]

Before the mistakes the tests are run without any: they have to be green. Ends with 1 if a mutant survives that has no
reason to, or is killed though its list says that it survives.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import click

from shared import ROOT
from tests.mutants.mutant import Mutant, mutants

#: Exit codes of pytest: all passed; some failed. All others mean that the tests did not run.
GREEN, RED = 0, 1
#: Seconds for one test: without the code that ends a wait it would wait for ever.
PATIENCE = 60


def copied(folder: Path) -> Path:
    """Copy the files that git knows, and new ones that it does not ignore, into the folder."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if (ROOT / "var" / "mnist").exists():
        (folder / "var").mkdir()
        (folder / "var" / "mnist").symlink_to((ROOT / "var" / "mnist").resolve())
    return folder


def needs_no_server(tests: Sequence[str]) -> bool:
    """Tell whether these are unit tests alone, which run on the fake server."""
    return all(test.startswith("tests/unit/") for test in tests)


def run(folder: Path, tests: Sequence[str]) -> int:
    """Run the tests in the folder; return pytest's exit code."""
    # The copy comes before the installed code, also for the commands that tests start.
    variables = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    if needs_no_server(tests):
        variables["FAKE_REDIS"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--timeout={PATIENCE}", *tests]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, check=False).returncode


def judged(mutant: Mutant, folder: Path) -> str:
    """Make the mistake in the folder, run the tests, and undo it. Return `killed`, `survived` or `not run`."""
    path = folder / mutant.file
    text = path.read_text(encoding="utf-8")
    path.write_text(mutant.applied(text), encoding="utf-8")
    try:
        return {GREEN: "survived", RED: "killed"}.get(run(folder, mutant.tests), "not run")
    finally:
        path.write_text(text, encoding="utf-8")


@click.command()
@click.option("--sample", type=click.IntRange(min=1), help="Take as many at random. [default: all]")
@click.option("--seed", default=0, show_default=True, help="Of the sample.")
@click.option("--only", default="", help="Those whose file or sentence has this text.")
@click.option("--without-server", is_flag=True, help="Those that unit tests see.")
@click.option("--jobs", default=2, show_default=True, help="Copies at a time.")
def main(sample: int | None, seed: int, only: str, without_server: bool, jobs: int) -> None:
    """Run the tests of the mutants and print a line for each."""
    every = [
        one for one in mutants()
        if (only in one.file or only in one.guards) and (needs_no_server(one.tests) or not without_server)
    ]  # fmt: skip
    chosen = [one for one in every if one.tests]
    if sample and sample < len(chosen):
        chosen = random.Random(seed).sample(chosen, sample)
    with tempfile.TemporaryDirectory(prefix="digitq-mutants-") as temporary:
        folders: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            folders.put(copied(Path(temporary) / str(number)))

        def judge(mutant: Mutant) -> str:
            folder = folders.get()
            try:
                return judged(mutant, folder)
            finally:
                folders.put(folder)

        if run(Path(temporary) / "0", sorted({test for one in chosen for test in one.tests})) != GREEN:
            raise click.ClickException("The tests are red, or cannot be run, without any mistake")
        with ThreadPoolExecutor(jobs) as pool:
            verdicts = []
            for mutant, verdict in zip(chosen, pool.map(judge, chosen), strict=True):
                verdicts.append(verdict)
                click.echo(f"{verdict:8}  {mutant.file}: {mutant.guards}")
    reasons = [one for one in every if one.survives]
    for mutant in reasons if not sample else ():
        click.echo(f"survives  {mutant.file}: {mutant.guards} ({mutant.survives})")
    killed = verdicts.count("killed")
    click.echo(f"{killed} of {len(verdicts)} killed; {len(reasons)} of all {len(every)} survive for the reason given")
    sys.exit(killed != len(verdicts))


if __name__ == "__main__":
    main()
