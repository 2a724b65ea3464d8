"""A real nginx with a site of the test's, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.tools import tool

#: What nginx needs around a site to run as nobody in a folder of its own.
AROUND = """
{user}
daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/log;
events {{ worker_connections 64; }}
http {{
    access_log off; {paths}
    types {{ }}
    {site}
}}
"""
FOLDERS = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
PATHS = " ".join(f"{name}_temp_path {{folder}}/{name};" for name in FOLDERS)


@contextmanager
def nginx(folder: Path, site: str, port: int) -> Iterator[str]:
    """The URL of an nginx with this site, which listens on the port, from when it answers; skipped without nginx."""
    binary = tool("nginx-light", "nginx")
    file, url = folder / "nginx.conf", f"http://127.0.0.1:{port}"
    # Started by root, nginx would switch to a user without write access to the folder.
    user = "user root root;" if os.getuid() == 0 else ""
    file.write_text(AROUND.format(user=user, folder=folder, paths=PATHS.format(folder=folder), site=site))
    command = [binary, "-p", str(folder), "-e", str(folder / "log"), "-c", str(file)]
    checked = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    running = subprocess.Popen(command)
    try:
        end = time.monotonic() + 20
        while not _answers(url):
            assert time.monotonic() < end and running.poll() is None, "nginx did not start"
            time.sleep(0.05)
        yield url
    finally:
        running.terminate()
        running.wait(20)


def _answers(url: str) -> bool:
    try:
        return bool(httpx2.get(url, timeout=10).status_code)
    except httpx2.TransportError:
        return False
