"""Settings of a folder in which a stack is up."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from shared.settings import Settings


def test_the_server_of_an_up_in_this_folder_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="dq-") as folder, socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(folder)
        path = Path("var/redis/redis.sock").absolute()
        path.parent.mkdir(parents=True)
        server.bind(str(path))
        assert Settings.from_env({}).redis_url == Settings().redis_url  # what a killed server leaves behind
        server.listen()
        assert Settings.from_env({}).redis_url == f"unix://{path}"
        assert Settings.from_env({"REDIS_URL": "redis://r:1"}).redis_url == "redis://r:1"
        assert Settings.from_env({"DIGITQ_STATE_DIR": "elsewhere"}).redis_url == Settings().redis_url
        monkeypatch.setattr(os, "getuid", lambda: path.stat().st_uid + 1)
        assert Settings.from_env({}).redis_url == Settings().redis_url  # somebody else's
        monkeypatch.chdir("/")
