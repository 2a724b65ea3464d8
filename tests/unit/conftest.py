"""Unit tests run without a server where FAKE_REDIS=1 (`make test-unit`), and on the real one otherwise."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator

import pytest
import urllib3.util.connection  # noqa: F401  # it binds a socket when it is imported, to see whether there is IPv6

from shared.connections import connection
from tests.unit.fake_redis import URL, FakePool
from tests.unit.guard import guarded

platform.uname().processor  # noqa: B018  # RQ asks for it; the first time it runs `uname`

if os.environ.get("FAKE_REDIS") == "1":

    @pytest.fixture(scope="session")
    def redis_url() -> str:
        """In place of the server's: one that leads to the fake server."""
        return URL

    @pytest.fixture(autouse=True)
    def without_server() -> Iterator[None]:
        """Every connection goes to the fake server; any other fails the test, as does a new process."""
        with pytest.MonkeyPatch.context() as patch, guarded():
            patch.setattr(connection, "Pool", FakePool)
            yield
