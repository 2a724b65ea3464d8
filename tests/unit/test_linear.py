"""No upload and no header costs more than in proportion to its size, whatever its bytes are.

Each case is sent through the whole application at one size and at eight times that. What is compared is the process's
own CPU time: linear work takes 8 times as much, quadratic work 64 times, and 24 is between them on a busy machine too.
"""

from __future__ import annotations

import gzip
import io
import struct
import time
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.store import Store
from tests.formats import box, ftyp
from tests.pictures import png_header, seven
from tests.rsgi import Served
from tests.served import site

FACTOR, MOST = 8, 24
#: CPU seconds that are ignored: the fixed cost of a request, and other threads.
FLOOR = 0.03
BODY, HEADER = 16_000, 6_000
KEY = "correct-horse-battery"
UPLOAD, BATCH = "/v1/predictions", "/v1/batches"
FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'


def cost(send: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    start = time.process_time()
    send()
    return time.process_time() - start


def is_linear(send: Callable[[int], object], size: int) -> None:
    """Raise AssertionError if eight times the size costs far more than eight times as much."""
    # The first one may also pay for what is done once.
    allowed = MOST * min(cost(lambda: send(size)) for _ in range(2)) + FLOOR
    seen = []
    for _ in range(3):
        seen.append(cost(lambda: send(FACTOR * size)))
        if seen[-1] <= allowed:
            return
    raise AssertionError(f"{FACTOR} times the size took {min(seen):.3f} s, {allowed:.3f} s were allowed")


@pytest.fixture
def here(store: Store) -> Iterator[Served]:
    with site(store, webhook_secret="whsec_" + "A" * 32) as web:
        yield web.here


@pytest.fixture
def keyed(store: Store) -> Iterator[Served]:
    with site(store, api_keys=KEY) as web:
        yield web.here


# ---------------------------------------------------------------------- bodies


@pytest.mark.parametrize("pump", [b"%", b"%41", b"%2b", b"%0A"])
def test_escapes_in_a_data_url_are_not_slow_either(here: Served, pump: bytes) -> None:
    data = fill(pump, 250_000, b"data:image/png;base64,")
    assert min(cost(lambda: here.ask("POST", UPLOAD, data)) for _ in range(3)) < 0.1  # 0.4 s by urllib


def fill(pump: bytes, size: int, before: bytes = b"", after: bytes = b"") -> bytes:
    return before + pump * ((size - len(before) - len(after)) // len(pump)) + after


def tiff(size: int) -> bytes:
    return fill(struct.pack("<HHII", 1, 3, 1, 1), size, b"II*\0\x08\0\0\0\xff\xff")


def sizes(size: int) -> bytes:
    return fill(box(b"ispe", bytes(12)), size)


def deep(size: int) -> bytes:
    """Boxes in boxes."""
    return ftyp(b"heic") + b"".join(struct.pack(">I", size - 8 * n) + b"meta" for n in range(size // 8))


def zipped(size: int, name: int = 1, extra: bytes = b"", each: int = 200, content: bytes = b"") -> bytes:
    """A zip of `size` bytes, of files of about `each` bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as one:
        for n in range(size // each):
            info = zipfile.ZipInfo(f"{n:0{name}}")
            info.extra = extra
            one.writestr(info, content)
    return out.getvalue()


IMAGES: dict[str, Callable[[int], bytes]] = {
    "jpeg of fill bytes": lambda n: fill(b"\xff", n, b"\xff\xd8"),
    "jpeg of fill bytes and zeros": lambda n: fill(b"\xff\xff\xff\0", n, b"\xff\xd8"),
    "jpeg of empty segments": lambda n: fill(b"\xff\xe1\0\2", n, b"\xff\xd8"),
    "jpeg of segments without a length": lambda n: fill(b"\xff\xe1\0\0", n, b"\xff\xd8"),
    "jpeg of restarts": lambda n: fill(b"\xff\xd0", n, b"\xff\xd8\xff"),
    "jpeg of one long segment": lambda n: fill(b"\0", n, b"\xff\xd8\xff\xe1\xff\xff"),
    "png": lambda n: fill(b"\0\0\0\0tEXt\0\0\0\0", n, b"\x89PNG\r\n\x1a\n"),
    "png with a size": lambda n: fill(b"\0", n, png_header(9, 9)),
    "tiff of entries": tiff,
    "gif": lambda n: fill(b"!\xff\0", n, b"GIF89a"),
    "bmp": lambda n: fill(b"\xff", n, b"BM"),
    "webp": lambda n: fill(b"VP8X", n, b"RIFF\0\0\0\0WEBP"),
    "heic of empty boxes": lambda n: fill(b"\0\0\0\x08free", n, ftyp(b"heic")),
    "heic of sizes": lambda n: ftyp(b"heic") + box(b"meta", bytes(4), box(b"iprp", box(b"ipco", sizes(n)))),
    "heic of boxes in boxes": deep,
    "avif of brands": lambda n: fill(b"mif1", n, struct.pack(">I", n) + b"ftypmif1"),
    "text": lambda n: fill(b"a", n),
    "spaces": lambda n: fill(b" ", n),
    "svg": lambda n: fill(b"<svg", n),
    "html": lambda n: fill(b"<!doctype ", n),
    "not quite utf-8": lambda n: fill(b"\xe2\x82", n),
    "json of spaces": lambda n: fill(b" ", n, b"{"),
    "json of brackets": lambda n: fill(b"[", n, b'{"image":'),
    "json of escapes": lambda n: fill(b"\\u0041", n, b'{"image":"', b'"}'),
    "json of members": lambda n: fill(b'"image":"",', n, b"{", b'"image":""}'),
    "json of digits": lambda n: fill(b"9", n, b'{"image":', b"}"),
    "json of base64": lambda n: fill(b"AAAA", n, b'{"image":"', b'"}'),
    "json of padding": lambda n: fill(b"=", n, b'{"image":"', b'"}'),
    "json of line breaks": lambda n: fill(b"\\r\\n", n, b'{"image":"', b'"}'),
    "json with a long name": lambda n: fill(b"/", n, b'{"image":"' + b64encode(seven()) + b'","filename":"', b'"}'),
    "data url of percents": lambda n: fill(b"%3D", n, b"data:;base64,"),
    "data url of parameters": lambda n: fill(b";", n, b"data:"),
}  # fmt: skip
FORMS: dict[str, Callable[[int], bytes]] = {
    "a preamble of boundaries": lambda n: fill(b"--x ", n),
    "a preamble of line breaks": lambda n: fill(b"\r\n", n),
    "many fields": lambda n: fill(PART + b"\r\n\r\n", n, after=b"--x--"),
    "a head of continued lines": lambda n: fill(b"\r\n a", n, PART + b"A: b"),
    "a head of many lines": lambda n: fill(b"\r\na:b", n, PART),
    "a name of quotes": lambda n: fill(b'\\"', n, PART.rstrip(b'\r\na"'), b'"\r\n\r\na\r\n--x--'),
    "a name in pieces": lambda n: fill(b";name*0=a", n, PART.rstrip(), b"\r\n\r\na\r\n--x--"),
    "data of line breaks": lambda n: fill(b"\r\n", n, PART + b"\r\n"),
    "data of half boundaries": lambda n: fill(b"\r\n--", n, PART + b"\r\n"),
    "data of false boundaries": lambda n: fill(b"\r\n--xy", n, PART + b"\r\n"),
    "data of boundaries and spaces": lambda n: fill(b" ", n, PART + b"\r\n\r\n--x"),
    "an epilogue": lambda n: fill(b"\r\n--x", n, PART + b"\r\na\r\n--x--\r\n"),
}  # fmt: skip
BATCHES: dict[str, Callable[[int], bytes]] = {
    "zip of empty files": lambda n: zipped(n),
    "zip of long names": lambda n: zipped(n, name=1900, each=4000),
    "zip of extra fields": lambda n: zipped(n, extra=struct.pack("<HH", 0x9999, 0) * 500, each=4200),
    "zip of one long extra field": lambda n: zipped(4300, extra=struct.pack("<HH", 0x9999, 0) * (n // 16), each=4200),
    "zip of jpegs of fill bytes": lambda n: zipped(n, content=b"\xff\xd8" + b"\xff" * 1800, each=2000),
    "zip of texts": lambda n: zipped(n, content=b"a" * 100),
    "zip of directories": lambda n: fill(b"PK\1\2", n, b"PK\3\4"),
    "zip of ends": lambda n: fill(b"PK\5\6", n, b"PK\3\4"),
    "idx": lambda n: struct.pack(">4I", 0x803, n // 784, 28, 28) + bytes(n // 784 * 784),
    "idx of small images": lambda n: struct.pack(">4I", 0x803, n, 1, 1) + bytes(n),
    "gzip of empty files": lambda n: gzip.compress(b"") * (n // 20),
    "gzip with a long name": lambda n: fill(b"a", n, b"\x1f\x8b\x08\x08" + bytes(6)),
    "gzip that is cut": lambda n: gzip.compress(struct.pack(">4I", 0x803, n, 1, 1) + bytes(n))[:-9],
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_an_upload(here: Served, name: str) -> None:
    is_linear(lambda size: here.ask("POST", UPLOAD, IMAGES[name](size)), BODY)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("path", [UPLOAD, BATCH])
def test_a_form(here: Served, path: str, name: str) -> None:
    is_linear(lambda size: here.ask("POST", path, FORMS[name](size), FORM), BODY)


@pytest.mark.parametrize("name", BATCHES)
def test_a_batch(here: Served, name: str) -> None:
    bodies = {size: BATCHES[name](size) for size in (BODY, FACTOR * BODY)}
    is_linear(lambda size: here.ask("POST", BATCH, bodies[size]), BODY)


# ---------------------------------------------------------------------- headers and the query

#: Before, again and again, and after: what the patterns of parsers stumble over.
PUMPS = [
    ("", " ", "x"), ("a=", " ", "x y"), ("]", "  ", "=W/"), ("=", " ", "\\*"), ("a;b=", "\t ", "=q="), ("", "/", ""),
    ('a="', "\\", ""), ('"', '\\"', "x"), ("", ",", ""), ("", ";", ""), ("", "a=b;", ""), ("", "a/b;q=0.1,", ""),
    ("a", ';a="', ""), ("", 'W/"a",', ""), ("wait", " ", "x"), ("wait=", "0", "x"), ("", "a", ""), ("", "&a=%41", ""),
    ("a*=utf-8''", "%", ""), ("", "://", ""), (":", "1", "x"), ("bytes=", "0-0,", ""), ("[", ":", "]"), ("", ".", ""),
    ("", "-0", ""), ("", "../", ""),
]  # fmt: skip
PICTURE: dict[str, Any] = {"method": "POST", "path": UPLOAD, "data": seven()}
FILE: dict[str, Any] = {"method": "GET", "path": "/static/icon.svg"}
READERS: dict[str, dict[str, Any]] = {
    "Accept": {"method": "GET", "path": "/predictions/nothing"}, "Range": FILE, "If-Modified-Since": FILE,
    "If-Range": FILE, "Host": PICTURE, "Origin": PICTURE, "Sec-Fetch-Site": PICTURE, "Content-Type": PICTURE,
    "Prefer": PICTURE, "Idempotency-Key": PICTURE, "traceparent": PICTURE, "X-Request-ID": PICTURE,
    "X-Forwarded-For": PICTURE,
}  # fmt: skip


def pumped(before: str, pump: str, after: str, size: int) -> str:
    return before + pump * (size // len(pump)) + after


@pytest.mark.parametrize("name", READERS)
def test_a_header(here: Served, name: str) -> None:
    for pump in PUMPS:
        is_linear(lambda size, pump=pump: here.ask(headers={name: pumped(*pump, size)}, **READERS[name]), HEADER)


@pytest.mark.parametrize("name", ["Cookie", "Authorization", "X-API-Key"])
def test_a_header_that_shows_a_key(keyed: Served, name: str) -> None:
    for pump in PUMPS:
        is_linear(lambda size, pump=pump: keyed.ask(headers={name: pumped(*pump, size)}, **PICTURE), HEADER)


@pytest.mark.parametrize("path", [UPLOAD, BATCH, "/key"])
def test_a_media_type_of_a_form(here: Served, path: str) -> None:
    for pump in PUMPS:
        type = "multipart/form-data; boundary="
        is_linear(
            lambda size, pump=pump, type=type: here.ask(
                "POST", path, PART + b"\r\na", {"Content-Type": type + pumped(*pump, size)}
            ),
            HEADER,
        )


def test_an_etag_of_what_is_there(here: Served, store: Store) -> None:
    path = f"{UPLOAD}/{store.submit(seven()).id}"
    for pump in PUMPS:
        is_linear(lambda size, pump=pump: here.ask("GET", path, headers={"If-None-Match": pumped(*pump, size)}), HEADER)


@pytest.mark.parametrize("query", ["filename=", "wait=", "priority=", "callback_url=https://", ""])
def test_the_query(here: Served, query: str) -> None:
    for pump in PUMPS:
        is_linear(lambda size, pump=pump: here.ask(**PICTURE, query=query + pumped(*pump, size)), HEADER)


@pytest.mark.parametrize("query", ["limit=", "cursor=", "stage="])
def test_the_query_of_the_history(here: Served, query: str) -> None:
    for pump in PUMPS:
        is_linear(lambda size, pump=pump: here.ask("GET", UPLOAD, query=query + pumped(*pump, size)), HEADER)


@pytest.mark.parametrize("path", ["/v1/predictions/", "/static/", "/"])
def test_the_path(here: Served, path: str) -> None:
    for pump in PUMPS:
        is_linear(lambda size, pump=pump: here.ask("GET", path + pumped(*pump, size)), HEADER)


def test_a_form_of_the_key(keyed: Served) -> None:
    for pump in PUMPS:
        is_linear(lambda size, pump=pump: keyed.ask("POST", "/key", f"key={pumped(*pump, size)}".encode(),
                  {"Content-Type": "application/x-www-form-urlencoded"}), BODY)  # fmt: skip
