"""Downloads of IDX files from mirrors."""

from __future__ import annotations

import gzip
import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from shared.errors import DataError
from worker.training.data.download import download
from worker.training.data.idx import encode

RNG = np.random.default_rng(7)
NAME = "labels"
CONTENT = encode(RNG.integers(0, 10, 50_000, dtype=np.uint8))
PACKED = gzip.compress(CONTENT, mtime=0)
SHA256 = {NAME: hashlib.sha256(CONTENT).hexdigest()}


@contextmanager
def mirror(content: bytes = PACKED, ranges: bool = True, cut: int | None = None) -> Iterator[tuple[str, list[str]]]:
    """A server of one file: its URL, and the ranges it was asked for. With `cut` it hangs up after that many bytes."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            asked.append(wanted)
            start = int(re.findall(r"\d+", wanted)[0]) if wanted and ranges else 0
            status = 206 if start else 200
            self.send_response(416 if start >= len(content) else status)
            rest = content[start:]
            self.send_header("Content-Length", str(len(rest)))
            self.end_headers()
            self.wfile.write(rest[:cut])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        server.server_close()


def test_a_missing_file_is_fetched_once(tmp_path):
    with mirror() as (url, asked):
        assert download(tmp_path, [url], SHA256) == [tmp_path / "labels.gz"]
        assert download(tmp_path, [url], SHA256) == []
    assert (tmp_path / "labels.gz").read_bytes() == PACKED
    assert asked == [""]


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
def test_an_interrupted_download_goes_on_where_it_stopped(ranges, tmp_path):
    with mirror(cut=1000) as (url, _), pytest.raises(DataError, match="bytes early"):
        download(tmp_path, [url], SHA256)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.gz.part"]
    with mirror(ranges=ranges) as (url, asked):
        download(tmp_path, [url], SHA256)
    assert asked == ["bytes=1000-"]
    assert [path.name for path in tmp_path.iterdir()] == ["labels.gz"]


def test_a_part_that_was_whole_is_taken_as_it_is(tmp_path):
    (tmp_path / "labels.gz.part").write_bytes(PACKED)
    with mirror() as (url, _):
        download(tmp_path, [url], SHA256)
    assert (tmp_path / "labels.gz").read_bytes() == PACKED


@pytest.mark.parametrize("wrong", [gzip.compress(b"another file", mtime=0), b"<html>not found</html>", PACKED[:-500]])
def test_the_next_mirror_stands_in_for_one_with_wrong_content(wrong, tmp_path):
    with mirror(wrong) as (bad, _), mirror() as (good, _):
        download(tmp_path, [bad, good], SHA256)
    assert (tmp_path / "labels.gz").read_bytes() == PACKED


def test_wrong_content_everywhere_is_an_error_and_leaves_nothing(tmp_path):
    with mirror(b"<html>") as (url, _), pytest.raises(DataError, match="expected content with SHA-256"):
        download(tmp_path, [url], SHA256)
    assert list(tmp_path.iterdir()) == []


def test_offline_the_error_says_what_to_do(tmp_path):
    with mirror() as (url, _):
        pass  # closed again: nobody listens there any more
    with pytest.raises(DataError, match=r"labels\.gz cannot be downloaded .* check the network .* by hand"):
        download(tmp_path, [url], SHA256)
