"""The command line in this process: a second less for each command than in one of its own."""

from __future__ import annotations

import subprocess

from click.testing import CliRunner

from digitq.cli import main


def invoked(*words: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command; return exit code, stdout and stderr."""
    done = CliRunner().invoke(main, words, input=stdin, env=env)
    return subprocess.CompletedProcess(words, done.exit_code, done.stdout, done.stderr)
