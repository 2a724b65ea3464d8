"""Uploads as people really send them: forms, JSON, data URLs, and zips of every operating system."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from zlib import crc32

import pytest
import redis

from producer.uploads import archive, files
from producer.uploads.admission import admit, clean_filename, text_limit
from producer.uploads.archive import Archive, decoded
from producer.uploads.files import opened
from producer.uploads.forms import MAX_BOUNDARY, MAX_PART_HEAD
from producer.uploads.received import BLOCK, Received
from shared.errors import MalformedBatch, TooLarge, TooManyImages, TooManyPixels, UndecodableImage
from shared.settings import Settings
from shared.store import Store
from tests.api import is_problem
from tests.formats import heif, ispe
from tests.pictures import seven, zip_of
from tests.served import WebClient, site

JSON = {"content_type": "application/json"}
SEVEN = b64encode(seven()).decode()
DATA_URL = f"data:image/png;base64,{SEVEN}"


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store) as client:
        yield client


def multipart(*parts: tuple[str, str | None, bytes]) -> dict[str, Any]:
    """A form of (name, filename, content); without a filename it is a text field."""
    body = b""
    for name, filename, content in parts:
        file = "" if filename is None else f'; filename="{filename}"'
        body += f'--x\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"
    return {"data": body + b"--x--\r\n", "content_type": "multipart/form-data; boundary=x"}


def rows(web: WebClient, id: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in web.get(f"/v1/batches/{id}/results").text.splitlines()]


# ---------------------------------------------------------------------- forms


@pytest.mark.parametrize("path", ["/v1/predictions", "/"])
def test_two_files_are_refused_and_shown_where_many_go(web: WebClient, client: redis.Redis, path: str) -> None:
    for parts in ([("file", "a.png", seven()), ("file", "b.png", seven())],
                  [("file", "a.png", seven()), ("file", None, DATA_URL.encode())]):  # fmt: skip
        problem = is_problem(web.post(path, **multipart(*parts)), 400, "too_many_files")
        assert "/v1/batches" in problem["detail"] and "`file`" in problem["detail"]
    assert client.keys("rq:job:*") == []


@pytest.mark.parametrize("path", ["/v1/predictions", "/v1/batches", "/"])
def test_a_field_of_another_name_is_refused_and_named(web: WebClient, client: redis.Redis, path: str) -> None:
    for name, filename in (("images", "a.png"), ("file[]", "a.png"), ("priority", None), ("callback_url", "a.png")):
        for parts in ([(name, filename, seven())], [("file", "a.png", seven()), (name, filename, b"x")]):
            problem = is_problem(web.post(path, **multipart(*parts)), 400, "unexpected_field")
            assert name in problem["detail"] and "/v1/batches" in problem["detail"]
    nameless = multipart(("file", "a.png", seven()))
    nameless["data"] = nameless["data"].replace(b'name="file"; ', b"")
    is_problem(web.post(path, **nameless), 400, "unexpected_field")
    assert client.keys("rq:job:*") == []


@pytest.mark.parametrize("path", ["/v1/predictions", "/v1/batches"])
@pytest.mark.parametrize(
    ("name", "encoding"),
    [("März größer.png", "cp1252"), ("école.png", "cp1252"), ("数字.png", "cp932"), ("七.png", "utf-8")],
)
def test_a_name_in_the_code_page_of_windows_is_no_reason_to_refuse_a_form(
    web: WebClient, path: str, name: str, encoding: str
) -> None:
    form = multipart(("file", "NAME", seven()))
    form["data"] = form["data"].replace(b"NAME", name.encode(encoding))
    found = web.post(path, **form)
    assert found.status_code == 202
    assert (found.get_json() if path.endswith("predictions") else rows(web, found.get_json()["id"])[0])[
        "filename"
    ] == name


def test_the_field_of_the_callback_is_known(web: WebClient) -> None:
    parts = ("file", "a.png", seven()), ("callback_url", None, b"https://example.com/")
    is_problem(web.post("/v1/predictions", **multipart(*parts)), 400, "webhooks_disabled")


def test_a_text_field_that_holds_a_data_url_is_read_and_any_other_is_named(web: WebClient) -> None:
    for filename in (None, "canvas.txt"):
        assert web.post("/v1/predictions", **multipart(("file", filename, DATA_URL.encode()))).status_code == 202
        wrong = web.post("/v1/predictions", **multipart(("file", filename, b"C:\\fakepath\\seven.png")))
        assert "text" in is_problem(wrong, 415, "unsupported_type")["detail"]
    large = seven(2000, "BMP", "RGB")[:7_000_000]  # larger than werkzeug's limit for a form field
    url = b"data:image/bmp;base64," + b64encode(large)
    assert web.post("/v1/predictions", **multipart(("file", None, url))).status_code == 202


def test_a_data_url_in_a_batch_is_read(web: WebClient) -> None:
    form = multipart(("file", None, DATA_URL.encode()), ("file", "b.png", b"data:image/png,x"))
    upload = web.post("/v1/batches", **form)
    assert len(rows(web, upload.get_json()["id"])) == 2


def test_one_heic_file_is_a_batch_of_one_in_a_form_but_not_as_a_raw_body(web: WebClient) -> None:
    picture = heif(ispe(28, 28))
    assert web.post("/v1/batches", **multipart(("file", "a.heic", picture))).get_json()["total"] == 1
    single, text = "send it to /v1/predictions", DATA_URL.encode()
    for data, said in (
        (picture, single),
        (seven(), single),
        (text, f"a data URL: {single}"),
        (b"Rar!\x1a\7\0", "as a zip"),
    ):
        assert said in is_problem(web.post("/v1/batches", data=data), 415, "unsupported_type")["detail"]


@pytest.mark.parametrize("path", ["/v1/predictions", "/v1/batches"])
def test_a_form_that_breaks_off_or_has_no_boundary_is_malformed(web: WebClient, path: str) -> None:
    form = multipart(("file", "a.png", seven()))
    for data, type in [
        (form["data"][:-6], form["content_type"]),
        (form["data"], "multipart/form-data"),
        (b"x" * 99, form["content_type"]),
    ]:
        is_problem(web.post(path, data=data, content_type=type), 400, "bad_request")
    without = {"data": form["data"].replace(b"--x", b"--"), "content_type": "multipart/form-data"}
    assert "has a boundary" in is_problem(web.post(path, **without), 400, "bad_request")["detail"]


@pytest.mark.parametrize("what", ["preamble", "head of a part", "name", "epilogue"])
def test_what_is_no_picture_in_a_form_is_bounded_and_not_kept_in_memory(web: WebClient, what: str) -> None:
    form, filler = multipart(("file", "a.png", seven())), b"x" * 30_000_000
    data = {
        "preamble": filler + b"\r\n" + form["data"],
        "head of a part": form["data"].replace(b'filename="a.png"', b'filename="a.png"\r\nX-Filler: ' + filler),
        "name": form["data"].replace(b"a.png", filler),
        "epilogue": form["data"] + filler,
    }[what]
    tracemalloc.start()
    try:
        answer = web.post("/v1/batches", input_stream=io.BytesIO(data), content_length=len(data),
                          content_type=form["content_type"])  # fmt: skip
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(MAX_PART_HEAD) in is_problem(answer, 400, "bad_request")["detail"]
    assert peak < 5_000_000


def test_a_long_boundary_is_refused(web: WebClient) -> None:
    type = f"multipart/form-data; boundary={'x' * 1000}"
    is_problem(web.post("/v1/batches", data=b"--x", content_type=type), 400, "bad_request")


# ---------------------------------------------------------------------- JSON


@pytest.mark.parametrize(
    "body",
    [
        {"image": DATA_URL},
        {"image": SEVEN, "filename": "a.png"},
        {"image": SEVEN.rstrip("="), "filename": None},
        {"image": urlsafe_b64encode(seven()).decode()},
        {"image": "\r\n".join(SEVEN[at : at + 76] for at in range(0, len(SEVEN), 76)) + "\n"},
        {"image": DATA_URL.replace("+", "%2B").replace("=", "%3D")},
        {"image": f"data:image/png;charset=utf-8;BASE64,{SEVEN}"},
    ],
)
def test_json_with_the_picture_as_base64_is_read(web: WebClient, store: Store, body: dict[str, Any]) -> None:
    response = web.post("/v1/predictions?filename=b.png", data=json.dumps(body).encode(), **JSON)
    answer = response.get_json()
    assert (response.status_code, answer["filename"]) == (202, body.get("filename") or "b.png")
    assert store.image(answer["id"]) == seven()


def test_the_declared_type_of_json_plays_no_part_either(web: WebClient) -> None:
    body = "\ufeff \n" + json.dumps({"image": SEVEN})
    for type in ("application/json; charset=utf-8", "text/plain", "application/x-www-form-urlencoded", ""):
        assert web.post("/v1/predictions", data=body.encode(), content_type=type).status_code == 202
    assert web.post("/v1/predictions", data=seven(), **JSON).status_code == 202
    assert web.post("/v1/predictions", data=DATA_URL.encode(), content_type="text/plain").status_code == 202


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        ('{"image": "', 400, "bad_request", "JSON"),
        ('{"image": 7}', 400, "bad_request", "strings"),
        ('{"image": "AAAA", "filename": 7}', 400, "bad_request", "strings"),
        ('{"filename": "a.png"}', 400, "no_image", "image"),
        ('{"image": ""}', 400, "no_image", "image"),
        ("{}", 400, "no_image", "image"),
        ('{"image": "AAAA", "priority": "high"}', 400, "unexpected_field", "priority"),
        ('{"img": "AAAA"}', 400, "unexpected_field", "img"),
        ('{"image": "not base64!"}', 400, "invalid_base64", "base64"),
        ('{"image": "AAAAA"}', 400, "invalid_base64", "base64"),
        ('{"image": "sieben\u00fc"}', 400, "invalid_base64", "base64"),
        ('{"image": "data:image/svg+xml,<svg/>"}', 400, "invalid_base64", "base64"),
        ('{"image": "data:image/png;base64"}', 400, "invalid_base64", "base64"),
        ('{"image": "https://example.com/7.png"}', 400, "invalid_base64", "not fetched"),
        ('{"image": "aGVsbG8="}', 415, "unsupported_type", "text"),
        ('{"image": "data:image/png;base64,"}', 400, "no_image", ""),
        ("[1]", 415, "unsupported_type", "JSON"),
        ('"x"', 415, "unsupported_type", "JSON"),
        ("", 400, "no_image", ""),
        ("{" + '"a":{' * 5000, 400, "bad_request", "JSON"),
    ],
)
def test_json_that_is_not_right_is_told_what_is_wrong(
    web: WebClient, body: str, status: int, code: str, said: str
) -> None:
    answer = web.post("/v1/predictions", data=body.encode(), **JSON)
    assert said in is_problem(answer, status, code)["detail"]


def test_the_decoded_size_counts(store: Store) -> None:
    picture = seven(100, "BMP", "RGB")
    for limit, status in ((len(picture), 202), (len(picture) - 1, 413)):
        with site(store, max_upload_bytes=limit) as web:
            answer = web.post("/v1/predictions", data=json.dumps({"image": b64encode(picture).decode()}), **JSON)
            assert answer.status_code == status
    with site(store, max_upload_bytes=100_000) as web:
        is_problem(web.post("/v1/predictions", data=b"{" + b" " * 300_000, **JSON), 413, "too_large")
        chunked = {
            "input_stream": io.BytesIO(b"{" + b" " * 300_000),
            "environ_overrides": {"wsgi.input_terminated": True},
        }
        is_problem(web.post("/v1/predictions", **chunked, **JSON), 413, "too_large")


@pytest.mark.parametrize("pump", [b"[],", b"{},", b"1.5,", b'"ab",', b'["'])
def test_json_of_many_parts_is_refused_before_it_takes_memory(web: WebClient, pump: bytes) -> None:
    data = b'{"image":[' + pump * (5_000_000 // len(pump)) + b"0]}"
    tracemalloc.start()
    try:
        answer = web.post("/v1/predictions", data=data, **JSON)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "strings" in is_problem(answer, 400, "bad_request")["detail"]
    assert peak < 4 * len(data)


# ---------------------------------------------------------------------- zips


def test_what_is_plainly_no_picture_in_a_zip_is_skipped_and_counted(web: WebClient) -> None:
    junk = ["Thumbs.db", "a/desktop.ini", "__MACOSX/._3.png", ".DS_Store", "a/.DS_Store", "@eaDir/3.png", "Icon\r"]
    beside = ["readme.txt", "labels.csv", "a/meta.JSON", "README", "a/index.html", "notes.md"]
    data = zip_of(
        *((name, b"x" * 40) for name in junk), *((name, b"labels are in the folders") for name in beside),
        ("a/3.png", seven()), ("c/3.png", seven(56)), ("c/scan.txt", seven()), ("icon/4", seven()),
        ("broken.png", b"no picture"), ("page.pdf", b"%PDF-1.7\n"), ("empty", b""),
    )  # fmt: skip
    body = web.post("/v1/batches", data=data, headers={"Idempotency-Key": "k"}).get_json()
    assert (body["total"], body["skipped"]) == (7, len(junk) + len(beside))
    again = web.post("/v1/batches", data=data, headers={"Idempotency-Key": "k"}).get_json()
    assert (again["id"], again["skipped"]) == (body["id"], body["skipped"])
    assert web.get(f"/v1/batches/{body['id']}").get_json()["skipped"] == body["skipped"]
    names = [row["filename"] for row in rows(web, body["id"])]
    assert names == ["a/3.png", "c/3.png", "c/scan.txt", "icon/4", "broken.png", "page.pdf", "empty"]


def test_a_folder_is_no_file_whichever_slash_ends_it(web: WebClient) -> None:
    data = zip_of(("a/", b""), ("b\\", b""), ("b\\3.png", seven()))
    body = web.post("/v1/batches", data=data).get_json()
    assert (body["total"], body["skipped"]) == (1, 0)
    assert rows(web, body["id"])[0]["filename"] == "b/3.png"


def test_other_batches_skip_nothing(web: WebClient) -> None:
    form = multipart(("file", "notes.txt", b"hello"), ("file", "a.png", seven()))
    body = web.post("/v1/batches", **form).get_json()
    assert (body["total"], body["skipped"]) == (2, 0)


def test_a_zip_without_a_picture_is_empty_and_leaves_nothing_behind(web: WebClient, client: redis.Redis) -> None:
    for inside in ([("a.txt", b"hello")], [("a", b"hello")], [(".DS_Store", b"x")], [("d/", b"")]):
        is_problem(web.post("/v1/batches", data=zip_of(*inside)), 400, "empty_batch")
    assert client.keys("*") == []


def test_what_is_skipped_does_not_count_toward_the_number_of_pictures(store: Store, client: redis.Redis) -> None:
    with site(store, batch_max_images=2) as web:
        data = zip_of(("a.png", seven()), ("b.png", seven()), ("labels.csv", b"a,7\n"))
        assert web.post("/v1/batches", data=data).get_json()["total"] == 2
        client.flushall()
        data = zip_of(("a.png", seven()), ("b.png", seven()), ("c.txt", seven()))
        is_problem(web.post("/v1/batches", data=data), 413, "too_many_images")
        assert client.keys("*") == []


def test_a_zip_that_is_sent_as_one_picture_is_told_where_to_go(web: WebClient) -> None:
    for sent in ({"data": zip_of(("a.png", seven()))}, multipart(("file", "a.zip", zip_of(("a.png", seven()))))):
        answer = web.post("/v1/predictions", **sent)
        assert "send it to /v1/batches" in is_problem(answer, 415, "unsupported_type")["detail"]


def test_damaged_files_of_a_zip_count_toward_what_may_be_unpacked() -> None:
    settings = replace(Settings(), max_upload_bytes=1_000_000, batch_max_bytes=3_000_000)
    good = zip_of(*((f"{n}.png", bytes(900_000)) for n in range(5)))
    data = good.replace(struct.pack("<I", crc32(bytes(900_000))), b"abcd")
    for suffix in (b".png", b".txt"):
        signed = zip_of(*((f"{n}.txt", seven() + bytes(900_000)) for n in range(5))) if suffix == b".txt" else data
        with pytest.raises(TooLarge):
            list(opened(io.BytesIO(signed), settings).chunks)


def test_a_zip_whose_files_overlap_or_lie_about_their_size_is_no_way_around_the_limit() -> None:
    settings = replace(Settings(), max_upload_bytes=1_000_000, batch_max_bytes=3_000_000)
    one = zip_of(("a.png", bytes(range(256)) * 3_000), method=zipfile.ZIP_STORED)
    place = one.index(b"PK\1\2")
    entry, end = one[place : one.index(b"PK\5\6")], one[one.index(b"PK\5\6") :]
    many = one[:place] + entry * 100 + end[:8] + struct.pack("<HHII", 100, 100, 100 * len(entry), place) + b"\0\0"
    with pytest.raises(MalformedBatch, match="overlap"):
        opened(io.BytesIO(many), settings)
    size = struct.pack("<I", 20_000_000)
    lying = zip_of(("a.png", bytes(20_000_000))).replace(size, struct.pack("<I", 10))  # 20 kB that unpack to 20 MB
    tracemalloc.start()
    list(opened(io.BytesIO(lying), settings).chunks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def test_an_extra_field_that_is_slow_to_read_is_refused() -> None:
    info = zipfile.ZipInfo("a.png")
    info.extra = struct.pack("<HH", 0x9999, 0) * 600
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as one:
        one.writestr(info, seven())
    with pytest.raises(MalformedBatch, match="extra"):
        opened(io.BytesIO(out.getvalue()), Settings())


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("数字/７.png", "cp932"), ("画像.png", "cp932"), ("テスト7.png", "cp932"), ("表示.png", "cp932"),
        ("7番.png", "cp932"), ("数字の表", "cp932"),
        ("ソ能/表.png", "cp932"), ("ソ.png", "cp932"), ("表/1.png", "cp932"),
        ("予.png", "cp932"), ("Größe.png", "cp437"), ("schön.png", "cp437"),
        ("Öl.png", "cp437"),
        ("élève/âge.png", "cp437"), ("España ñ.png", "cp437"), ("größe.png", "utf-8"), ("数字.png", "utf-8"),
        ("crâne préféré.png", "cp437"), ("Äpfel/Übung für später.png", "cp437"), ("seven.png", "ascii"),
    ],
)  # fmt: skip
def test_a_name_is_decoded_as_the_system_that_wrote_it_meant(web: WebClient, name: str, encoding: str) -> None:
    raw = name.encode(encoding)
    assert decoded(raw) == name
    data = zip_of(("x" * len(raw), seven())).replace(b"x" * len(raw), raw)
    assert rows(web, web.post("/v1/batches", data=data).get_json()["id"])[0]["filename"] == name


def test_the_extra_field_for_unicode_names_comes_first(web: WebClient) -> None:
    extra = struct.pack("<BI", 1, crc32(b"x.png")) + "семь.png".encode()
    info = zipfile.ZipInfo("x.png")
    info.extra = struct.pack("<HH", 0x5455, 5) + b"\1abcd" + struct.pack("<HH", 0x7075, len(extra)) + extra
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as one:
        one.writestr(info, seven())
    id = web.post("/v1/batches", data=out.getvalue()).get_json()["id"]
    assert rows(web, id)[0]["filename"] == "семь.png"


def test_a_zip_of_too_many_entries_is_never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    data = zip_of(*((f"{n}.png", b"x") for n in range(5)))
    monkeypatch.setattr(archive, "ZipFile", lambda _: pytest.fail("it was opened"))
    with pytest.raises(TooManyImages, match="5 entries"):
        Archive(io.BytesIO(data), Settings(batch_max_images=2))


def test_an_entry_across_two_blocks_is_counted() -> None:
    block = 1024 * 1024
    assert archive._count(io.BytesIO(bytes(block - 2) + b"PK\x01\x02" + bytes(60))) == (1, block + 62)


def test_an_encrypted_file_of_a_zip_is_named_as_such() -> None:
    data = bytearray(zip_of(("7.png", seven()), method=zipfile.ZIP_STORED))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    zip = Archive(io.BytesIO(bytes(data)), Settings())
    with pytest.raises(UndecodableImage, match="encrypted"):
        zip.read(zip.members[0])


@pytest.mark.parametrize(("checksum", "shown"), [(0, "old.png"), (crc32(b"old.png"), "new.png")])
def test_a_unicode_name_counts_only_for_the_name_it_was_made_for(checksum: int, shown: str) -> None:
    info = zipfile.ZipInfo("old.png")
    info.extra = struct.pack("<HHBI", 0x7075, 5 + len(b"new.png"), 1, checksum) + b"new.png"
    assert archive.path_of(info) == shown


def test_an_image_of_the_largest_size_is_taken_and_one_pixel_more_is_not() -> None:
    data = seven(28)
    assert admit(data, Settings(max_pixels=28 * 28)) == "image/png"
    with pytest.raises(TooManyPixels):
        admit(data, Settings(max_pixels=28 * 28 - 1))


@pytest.mark.parametrize("side", [16, 20])
def test_an_image_without_pixels_is_refused(side: int) -> None:
    data = bytearray(seven(28))
    data[side : side + 4] = bytes(4)
    with pytest.raises(UndecodableImage):
        admit(bytes(data), Settings())


def test_a_long_name_is_cut() -> None:
    assert clean_filename("x" * 300) == "x" * 255


def test_a_form_of_as_many_files_as_a_batch_may_have_is_taken_and_more_are_not_read(store: Store) -> None:
    with site(store, batch_max_images=2) as web:
        parts = [("file", f"{n}.png", seven()) for n in range(3)]
        assert web.post("/v1/batches", **multipart(*parts[:2])).status_code == 202
        endless = multipart(*parts)
        endless["data"] = endless["data"].removesuffix(b"--x--\r\n")  # it breaks off, which nobody reads
        is_problem(web.post("/v1/batches", **endless), 413, "too_many_images")


def test_a_body_as_large_as_a_batch_may_be_is_taken_and_one_byte_more_is_not(store: Store) -> None:
    data = zip_of(("a.png", seven()))
    for limit, status in ((len(data), 202), (len(data) - 1, 413)):
        with site(store, batch_max_bytes=limit) as web:
            assert web.post("/v1/batches", data=data).status_code == status


def test_an_idx_file_at_all_limits_is_taken_and_one_above_any_is_not() -> None:
    file = struct.pack(">4I", 0x803, 4, 10, 10) + bytes(400)
    limits = {"max_pixels": 100, "max_upload_bytes": 100, "batch_max_bytes": 400, "batch_max_images": 4}
    assert opened(io.BytesIO(file), Settings(**limits)).total == 4
    errors = {"max_pixels": TooManyPixels, "batch_max_images": TooManyImages}
    for name, limit in limits.items():
        with pytest.raises(errors.get(name, TooLarge)):
            opened(io.BytesIO(file), Settings(**{**limits, name: limit - 1}))


def test_the_longest_boundary_is_taken(web: WebClient) -> None:
    form = multipart(("file", "a.png", seven()))
    for length, status in ((MAX_BOUNDARY, 202), (MAX_BOUNDARY + 1, 400)):
        body = form["data"].replace(b"--x", b"--" + b"x" * length)
        kind = f"multipart/form-data; boundary={'x' * length}"
        assert web.post("/v1/predictions", data=body, content_type=kind).status_code == status


def test_a_text_as_long_as_it_may_be_is_read_and_one_character_more_is_not(store: Store) -> None:
    with site(store, max_upload_bytes=1000) as web:
        text = json.dumps({"image": b64encode(seven()).decode()})
        longest = text_limit(web.services.settings)
        for length, status in ((longest, 202), (longest + 1, 413)):
            body = text[:-1] + " " * (length - len(text)) + "}"
            assert web.post("/v1/predictions", data=body, **JSON).status_code == status


def test_a_key_stands_for_the_names_and_the_bounds_of_files_too(web: WebClient) -> None:
    def sent(*files: tuple[str, bytes]) -> int:
        form = multipart(*(("file", name, data) for name, data in files))
        return web.post("/v1/batches", headers={"Idempotency-Key": "k"}, **form).status_code

    one, other = seven(), seven(56)
    assert sent(("a.png", one), ("b.png", other)) == sent(("a.png", one), ("b.png", other)) == 202
    assert sent(("a.png", one), ("c.png", other)) == 422
    assert sent(("a.png", one[:-1]), ("b.png", one[-1:] + other)) == 422


def test_a_key_stands_for_a_body_to_its_end() -> None:
    body = bytes(2 * BLOCK + 1)
    prints = {Received(io.BytesIO(data)).fingerprint() for data in (body, body[:-1] + b"x", body[:-1], body)}
    assert len(prints) == 3


def test_a_form_without_the_file_is_told_what_is_missing(web: WebClient) -> None:
    form = multipart(("callback_url", None, b"https://example.com/"))
    assert "`file` is missing" in is_problem(web.post("/v1/predictions", **form), 400, "no_image")["detail"]


def test_an_idx_file_of_labels_is_told_from_one_of_images() -> None:
    with pytest.raises(MalformedBatch, match="magic number 2051, found 2049"):
        opened(io.BytesIO(struct.pack(">2I", 0x801, 8) + bytes(range(1, 9))), Settings())


def test_large_images_of_an_idx_file_come_in_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 250)
    file = struct.pack(">4I", 0x803, 5, 10, 10) + bytes(500)
    assert [chunk.count for chunk in opened(io.BytesIO(file), Settings()).chunks] == [2, 2, 1]


def test_what_is_no_base64_is_refused_even_around_a_picture(web: WebClient) -> None:
    for image in (f"{SEVEN[:40]}****{SEVEN[40:]}", f"data:image/png,{SEVEN}"):
        is_problem(web.post("/v1/predictions", json={"image": image}), 400, "invalid_base64")


@pytest.mark.parametrize(
    ("name", "shown"), [("a\x07\x7f.png", "a.png"), (r"C:\scans\7.png", "7.png"), ("/a/b.png", "b.png")]
)
def test_a_name_is_the_last_part_without_control_characters(name: str, shown: str) -> None:
    assert clean_filename(name) == shown
