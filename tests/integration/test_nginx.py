"""deploy/nginx.conf in a real nginx, in front of a real web process, under a sub-path."""

from __future__ import annotations

import math
import re
import time
from base64 import b64encode
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import expect

from producer import Client
from producer.uploads.admission import text_limit
from shared import ROOT as HOME
from shared.errors import TooLarge
from shared.settings import Settings
from shared.store import Store
from tests.addresses import http_server, name_server
from tests.chromium import Troubles, browser
from tests.nginx import nginx
from tests.pictures import seven
from tests.web import free_port, sevens, web_process

SITE = HOME / "deploy" / "nginx.conf"
ROOT = "/digits"
STRIPS = "rewrite ^/digits(/.*)$ $1 break;"


def shipped(port: int, web: int, strips: bool = False) -> str:
    """The shipped site, listening on a port of ours."""
    site = SITE.read_text()
    for theirs, ours in (("listen 8080", f"listen 127.0.0.1:{port}"), ("127.0.0.1:8000", f"127.0.0.1:{web}")):
        assert site.count(theirs) == 1
        site = site.replace(theirs, ours)
    if strips:
        assert STRIPS in site  # named in a comment
        site = site.replace("        proxy_pass ", f"        {STRIPS} proxy_pass ")
    return site


@pytest.fixture(scope="module", params=["kept", "stripped"])
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Iterator[str]:
    """The URL under which nginx serves a web process."""
    folder, port, web = tmp_path_factory.mktemp("nginx"), free_port(), free_port()
    with (
        web_process(redis_url, web, DIGITQ_ROOT_PATH=ROOT),
        nginx(folder, shipped(port, web, request.param == "stripped"), port) as url,
    ):
        yield url


def test_the_api_answers_below_the_sub_path(proxied: str, store: Store) -> None:
    with httpx2.Client(base_url=proxied) as http:
        answer = http.post(f"{ROOT}/v1/predictions", content=seven(), headers={"Content-Type": "image/png"})
        assert answer.status_code == 202 and answer.headers["Location"].startswith(f"{ROOT}/v1/predictions/")
        assert http.get(answer.headers["Location"]).json()["links"] == answer.json()["links"]
        assert http.get(ROOT, follow_redirects=True).url.path == f"{ROOT}/"


def test_uploads_over_nginx_default_limit_arrive_and_too_large_ones_get_our_error(proxied: str, store: Store) -> None:
    url, png = f"{proxied}{ROOT}/v1/predictions", {"Content-Type": "image/png"}
    assert httpx2.post(url, content=seven() + bytes(2_000_000), headers=png).status_code == 202
    largest = seven() + bytes(Settings().max_upload_bytes - len(seven()))
    assert httpx2.post(url, json={"image": b64encode(largest).decode()}).status_code == 202
    assert httpx2.post(url, files={"file": largest}).status_code == 202
    assert httpx2.post(url, content=largest + b"\0", headers=png).json()["limit"] == len(largest)  # by digitq
    refused = httpx2.post(url, content=seven() + bytes(17_000_000), headers=png)
    assert refused.headers["Content-Type"] == "application/problem+json" and refused.status_code == 413
    told = refused.json()
    assert (told["type"], told["title"], told["status"]) == ("urn:digitq:problem:too_large", TooLarge.title, 413)
    images = [("file", (f"{n}.png", seven() + bytes(2_000_000), "image/png")) for n in range(6)]
    assert httpx2.post(f"{proxied}{ROOT}/v1/batches", files=images, timeout=30).status_code == 202


def test_the_sdk_is_told_of_it_as_by_digitq(proxied: str, store: Store) -> None:
    with Client(proxied + ROOT) as client, pytest.raises(TooLarge):
        client.submit(seven() + bytes(17_000_000))


def test_nginx_passes_on_why_an_upload_is_refused(proxied: str, store: Store) -> None:
    # It makes 502 of an answer upon which the connection closes while it still sends.
    evil = {"Origin": "https://evil.example"}
    for path, size in (("/v1/predictions", 9_000_000), ("/v1/batches", 60_000_000)):
        for _ in range(3):
            assert httpx2.post(f"{proxied}{ROOT}{path}", content=bytes(size), headers=evil).status_code == 403


def test_the_limits_are_those_of_the_settings() -> None:
    sizes = re.findall(r"client_max_body_size (\d+)m;", SITE.read_text())
    settings = Settings()
    single = text_limit(settings)
    assert [int(size) for size in sizes] == [math.ceil(most / (1 << 20)) for most in (single, settings.batch_max_bytes)]


def test_the_page_works_below_the_sub_path_with_its_events(proxied: str, store: Store) -> None:
    store.renew("w", [], '{"version": "m", "thresholds": {"accept": 0.9}}')
    with browser() as chrome, sevens(store):
        page, troubles = chrome.new_page(), Troubles()
        troubles.watch(page)
        missed: list[str] = []
        page.on("response", lambda answer: missed.append(answer.url) if answer.status >= 400 else None)
        with page.expect_response("**/v1/events"):
            page.goto(f"{proxied}{ROOT}/")
        expect(page.locator("#live-queued")).to_have_text("0")  # an event has come
        page.set_input_files("#file", [{"name": "im.png", "mimeType": "image/png", "buffer": seven()}])
        expect(page.locator(".card[data-state=succeeded] [data-part=digit]")).to_have_text("7")
        page.locator(".card [data-part=name]").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("The prediction is 7")
        page.locator("a.brand").click()
        expect(page.locator(".card[data-state=succeeded]")).to_have_count(1)
        assert page.url == f"{proxied}{ROOT}/" and missed == [] and troubles.unexpected() == []


def test_events_arrive_through_another_nginx_in_front_of_it(proxied: str, tmp_path: Path, store: Store) -> None:
    port, inner = free_port(), proxied.rpartition(":")[2]
    outer = f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{inner}; }} }}"
    with nginx(tmp_path, outer, port) as url, httpx2.stream("GET", f"{url}{ROOT}/v1/events", timeout=5) as events:
        assert any(b"event: status" in piece for piece in islice(events.iter_raw(), 3))


# ---------------------------------------------------------------------- addresses that change hands


def test_web_that_comes_back_under_another_address_is_found_by_its_name(tmp_path: Path) -> None:
    port, web, addresses = free_port(), free_port(), {"web.test": "127.0.0.2"}
    with name_server(addresses) as dns:
        site = shipped(port, web)
        for theirs, ours in (
            ("# resolver 127.0.0.11 valid=2s;", f"resolver 127.0.0.1:{dns} valid=2s;"),  # as the comment tells
            (f"set $digitq 127.0.0.1:{web}", f"set $digitq web.test:{web}"),
        ):
            assert site.count(theirs) == 1
            site = site.replace(theirs, ours)
        with nginx(tmp_path, site, port) as url:
            with http_server("127.0.0.2", web, b"digitq"), http_server("127.0.0.3", web, b"another"):
                assert httpx2.get(f"{url}/digits/").text == "digitq"
            # Both stop, and start in the other order.
            addresses["web.test"] = "127.0.0.3"
            with http_server("127.0.0.2", web, b"another"), http_server("127.0.0.3", web, b"digitq"):
                end = time.monotonic() + 30
                while httpx2.get(f"{url}/digits/").text != "digitq":
                    assert time.monotonic() < end, "nginx asks the old address for ever"
                    time.sleep(0.1)
