"""A real server behind TLS: whoever knows the authority that signed its certificate works as ever, nobody else does."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import trustme

from producer import NEVER, AsyncQueue, Queue
from shared import ROOT
from shared.errors import RedisUnavailable
from shared.settings import Settings
from shared.store import Store, connect
from tests.pictures import seven
from tests.served import site
from tests.stack import LEAN, client_of, up
from verify.proxy import Proxy


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="digitq-") as name:
        yield Path(name)


@pytest.fixture
def address(folder: Path, redis_url: str) -> Iterator[str]:
    """Return the URL of a TLS server; its authority is in `ca.pem`, another one in `other.pem`."""
    context, authority = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), trustme.CA()
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    with closing(Proxy(Path(redis_url.removeprefix("unix://")), context)) as proxy:
        yield f"rediss://127.0.0.1:{proxy.port}/0"


def test_web_worker_queue_and_command_line_speak_tls(address: str, folder: Path) -> None:
    url = f"{address}?ssl_ca_certs={folder / 'ca.pem'}"
    with up(folder, REDIS_URL=url, **LEAN) as stack:
        with client_of(stack.url) as client:
            assert client.submit(seven()).wait(20).digit == 7
            assert client.submit_batch([seven()] * 3).wait(20).succeeded == 3
        with Queue(url) as queue:
            assert queue.submit(seven()).wait(20).digit == 7
        assert asyncio.run(read(url)) == 7
        command = [sys.executable, "-m", "digitq", "submit", "-", "--wait", "--json", "--url", stack.url]
        told = subprocess.run(command, cwd=ROOT, input=seven(), capture_output=True, check=True, timeout=60).stdout
        assert json.loads(told)["digit"] == 7


async def read(url: str) -> int | None:
    async with AsyncQueue(url) as queue:
        [read] = await queue.wait([await queue.submit(seven())], timeout=20)
        return read.digit


def test_an_async_queue_that_is_closed_while_it_connects_ends_at_once_and_leaves_nothing_open(
    address: str, folder: Path
) -> None:
    async def submit_and_leave(url: str, seconds: float) -> None:
        async with AsyncQueue(url) as queue:
            await queue.get((await queue.submit(seven())).id, wait=seconds)

    for round in range(30):  # at another moment of the handshake each time
        asyncio.run(asyncio.wait_for(submit_and_leave(f"{address}?ssl_ca_certs={folder / 'ca.pem'}", round / 1000), 20))
    gc.collect()  # what is still open fails the test


@pytest.mark.parametrize("wrong", ["?ssl_ca_certs={folder}/other.pem", ""])
def test_a_certificate_of_an_unknown_authority_is_refused_and_the_log_says_why(
    wrong: str, address: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = address + wrong.format(folder=folder)
    with Queue(url, retry=NEVER) as queue, pytest.raises(RedisUnavailable):
        queue.submit(seven())
    assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    with site(Store(connect(url), Settings(redis_url=url))) as web:
        answer = web.post("/v1/predictions", data=seven(), content_type="image/png")
    assert (answer.status_code, answer.get_json()["code"]) == (503, "redis_unavailable")


def test_a_certificate_for_another_host_is_refused(folder: Path, redis_url: str, address: str) -> None:
    url = f"{address.replace('127.0.0.1', 'localhost')}?ssl_ca_certs={folder / 'ca.pem'}"
    with Queue(url, retry=NEVER) as queue, pytest.raises(RedisUnavailable):
        queue.submit(seven())
