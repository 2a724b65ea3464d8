"""Uploads that mean harm, through the whole stack: each ends in a 4xx or a named failure, and nothing dies or grows."""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from producer import Client
from tests.hostile.run import memory_mb
from tests.pictures import png_header, seven
from tests.stack import Stack, client_of

pytestmark = pytest.mark.timeout(600)

#: What fits the schema may be no picture, or name a webhook where there are none; what is empty counts as not given.
NOT_TOLD_BY_A_SCHEMA = ("positive_data_acceptance", "negative_data_rejection")
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF")


def truncated() -> Iterator[bytes]:
    """Every format, cut at every tenth part and at every tenth of its first bytes."""
    for format in FORMATS:
        whole = seven(112, format, "RGB")
        yield from (whole[: len(whole) * tenth // 10] for tenth in range(1, 10))
        yield from (whole[:end] for end in range(1, min(200, len(whole)), 10))


def mutated() -> Iterator[bytes]:
    """Every format with some bytes changed, the same ones in every run."""
    dice = random.Random(7)
    for format in FORMATS:
        for _ in range(40):
            data = bytearray(seven(56, format, "RGB"))
            for _ in range(dice.randint(1, 12)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            yield bytes(data)


def crafted() -> Iterator[bytes]:
    """Bombs, polyglots, animations and what is no picture at all."""
    yield from (
        b"",
        b"\0",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"GIF89a",
        b"\x89PNG\r\n\x1a\n",
        b"BM",
        b"II*\0",
    )
    yield from (
        png_header(50_000, 50_000),
        png_header(2**31 - 1, 2**31 - 1),
        png_header(0, 0),
        png_header(60_000, 1_000),
    )
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("7.png", seven())
    yield archive.getvalue()
    yield seven() + archive.getvalue()  # a polyglot: a good picture with a zip behind it
    yield seven(format="GIF") + b"<script>alert(1)</script>"
    frames = [Image.new("L", (28, 28), level) for level in (0, 128, 255)]
    for format in ("GIF", "WEBP", "TIFF", "PNG"):
        out = BytesIO()
        frames[0].save(out, format, save_all=True, append_images=frames[1:])
        yield out.getvalue()
    for mode in ("I;16", "1", "P", "LA", "RGBA"):
        yield seven(28, "PNG", mode)
    yield seven(28, "JPEG", "CMYK")
    flat = BytesIO()
    Image.new("L", (6000, 6000)).save(flat, "PNG")  # 36 million pixels in 35 kB
    yield flat.getvalue()
    yield os.urandom(30 * 1024 * 1024)


def upload(stack: Stack, client: Client, data: bytes) -> tuple[int, str]:
    """Status and, for what is accepted, how it ended; else the problem's code."""
    connection = http.client.HTTPConnection("127.0.0.1", int(stack.url.rpartition(":")[2]), timeout=60)
    try:
        connection.request("POST", "/v1/predictions", data, {"Content-Type": "image/png"})
        response = connection.getresponse()
        body = json.loads(response.read())
    except (BrokenPipeError, ConnectionResetError):
        return 413, "too_large"  # the server has answered and closed before all was sent
    finally:
        connection.close()
    if response.status >= 400:
        assert response.getheader("Content-Type") == "application/problem+json"
        return response.status, body["code"]
    ended = client.get(body["id"], wait=30)
    assert ended.state.terminal, data[:20]
    return response.status, ended.error["code"] if ended.error else ended.state.value


def test_hostile_uploads_end_in_4xx_or_a_named_failure(stack: Stack) -> None:
    uploads = [*truncated(), *mutated(), *crafted()]
    assert len(uploads) >= 500
    with client_of(stack.url) as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda data: upload(stack, client, data), crafted()))  # the first time, buffers grow
        before = {pid: memory_mb(pid) for word in ("digitq web", "digitq worker") for pid in stack.pids(word)}
        ends = list(pool.map(lambda data: upload(stack, client, data), uploads))
    after = {pid: memory_mb(pid) for pid in before}

    print(Counter(ends))
    assert [end for end in ends if end[0] >= 500] == []
    named = {"succeeded", "undecodable_image", "unsupported_type", "no_image", "too_large", "too_many_pixels"}
    assert {code for _, code in ends} <= named
    assert {pid: (before[pid], after[pid]) for pid in before if after[pid] > before[pid] + 40} == {}


def test_a_30_mb_body_is_refused_while_the_client_still_sends(stack: Stack) -> None:
    with client_of(stack.url) as client:
        assert upload(stack, client, bytes(30 * 1024 * 1024)) == (413, "too_large")


def test_nothing_that_the_description_allows_or_forbids_is_an_error_of_ours(stack: Stack, tmp_path: Path) -> None:
    words = ["--checks", "all", "--exclude-checks", ",".join(NOT_TOLD_BY_A_SCHEMA), "--exclude-path", "/v1/events",
             "--max-examples", "5", "--seed", "1", "--no-color"]  # fmt: skip
    command = [str(Path(sys.executable).with_name("st")), "run", f"{stack.url}/openapi.json", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout
