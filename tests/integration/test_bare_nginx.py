"""An nginx as it comes, in front of a web process: its own limits, its own Host, and its own pages for errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import expect

from producer import AsyncClient, Client, Retry
from producer.client.http_requests import authorization
from shared.errors import DigitqError, ServerUnavailable, TooLarge
from shared.store import Store
from tests.chromium import browser
from tests.invoked import invoked
from tests.nginx import nginx
from tests.pictures import seven
from tests.proxy import Proxy, proxy
from tests.web import Web, free_port, sevens, web

MB = 1 << 20
PNG = {"Content-Type": "image/png"}
SITE = "server {{ listen 127.0.0.1:{port}; location / {{ {more} proxy_pass http://127.0.0.1:{web}; }} }}"
QUICK = Retry(attempts=2, first=0.01, longest=0.01)


@pytest.fixture
def site(store: Store) -> Iterator[Web]:
    with web(store) as running:
        yield running


@pytest.fixture
def bare(site: Web, tmp_path: Path) -> Iterator[str]:
    """The URL of an nginx of which nothing is set but where to go."""
    port = free_port()
    with nginx(tmp_path, SITE.format(port=port, web=site.server.port, more=""), port) as url:
        yield url


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    file = tmp_path / "seven.png"
    file.write_bytes(seven())
    return file


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file larger than nginx's default limit, and smaller than that of digitq."""
    file = tmp_path / "large.png"
    file.write_bytes(seven() + bytes(2 * MB))
    return file


def breaking(site: Web, tmp_path: Path, times: int) -> Iterator[tuple[str, Proxy]]:
    """An nginx whose web process goes away in the midst of its first answers."""
    port = free_port()
    with proxy(site.url, lambda n: n <= times) as between:
        # Tried once, so that nginx tells of it; its own probe of whether it has started must not use up a break.
        text = SITE.format(port=port, web=between.port, more="proxy_next_upstream off;")
        text = text.replace("location / ", "location = / { return 204; } location /v1/ ")
        with nginx(tmp_path, text, port) as url:
            yield url, between


@pytest.fixture
def restarting(site: Web, tmp_path: Path) -> Iterator[tuple[str, Proxy]]:
    yield from breaking(site, tmp_path, 2)


@pytest.fixture
def away(tmp_path: Path) -> Iterator[str]:
    """The URL of an nginx whose web process is not there."""
    port = free_port()
    with nginx(tmp_path, SITE.format(port=port, web=free_port(), more=""), port) as url:
        assert httpx2.get(url).status_code == 502
        yield url


# ---------------------------------------------------------------------- away for a while


def test_the_command_line_waits_for_a_web_process_that_restarts(
    restarting: tuple[str, Proxy], picture: Path, store: Store
) -> None:
    url, between = restarting
    with sevens(store):
        done = invoked("submit", str(picture), "--wait", "--url", url)
    assert (done.returncode, between.cuts) == (0, 2), done.stderr
    assert len(store.recent(10)[0]) == 1  # one key, one picture


def test_both_clients_wait_for_it(restarting: tuple[str, Proxy], store: Store) -> None:
    async def submit(url: str) -> str:
        async with AsyncClient(url) as sdk:
            return (await sdk.submit(seven())).id

    url, between = restarting
    first = asyncio.run(submit(url))
    between.cuts = between.pieces = 0
    with Client(url) as sdk:
        second = sdk.submit(seven()).id
    assert between.cuts == 2 and {one.id for one in store.recent(10)[0]} == {first, second}


def test_a_cancel_that_a_proxy_could_not_pass_on_is_not_repeated(restarting: tuple[str, Proxy], store: Store) -> None:
    url, between = restarting
    with Client(url) as sdk, pytest.raises(ServerUnavailable, match="HTTP 502"):
        sdk.cancel(store.submit(seven()).id)
    assert between.cuts == 1


def test_a_web_process_that_stays_away_is_unavailable_and_said_to_be_so(away: str, picture: Path) -> None:
    done = invoked("submit", str(picture), "--url", away)
    assert done.returncode == 3 and "a proxy cannot reach it (HTTP 502 Bad Gateway)" in done.stderr
    with Client(away, retry=QUICK) as sdk, pytest.raises(ServerUnavailable, match="proxy"):
        sdk.submit(seven())


# ---------------------------------------------------------------------- what it refuses


def test_what_is_too_large_for_it_is_told_in_words_and_not_sent_again(
    bare: str, site: Web, large: Path, store: Store
) -> None:
    assert "<html>" in httpx2.post(f"{bare}/v1/predictions", content=large.read_bytes(), headers=PNG).text
    done = invoked("submit", str(large), "--url", bare)
    assert done.returncode == 1 and "too_large" in done.stderr and "proxy in front of digitq" in done.stderr
    as_json = invoked("submit", str(large), "--json", "--url", bare)
    assert as_json.returncode == 1 and '"code": "too_large"' in as_json.stdout
    with Client(bare) as sdk, pytest.raises(TooLarge, match="proxy"):
        sdk.submit(large.read_bytes())
    assert site.posts() == 0


def test_a_head_that_it_does_not_take_is_told_in_words(bare: str, picture: Path) -> None:
    # 414 for the address; 400 for the headers, with a page that says so.
    with Client(bare) as sdk:
        with pytest.raises(DigitqError, match=r"HTTP 414 .*address too long") as address:
            sdk.submit(seven(), "x" * 40_000)
        sdk._operations._http.headers.update(authorization("k" * 40_000))
        with pytest.raises(DigitqError, match=r"HTTP 400 .*does not understand"):
            sdk.get("x")
    assert address.value.code == "http_414"


def test_the_page_tells_what_it_refuses(bare: str, large: Path, store: Store) -> None:
    with browser() as chrome:
        page = chrome.new_page()
        page.goto(bare)
        page.set_input_files("#file", str(large))
        state = page.locator(".card [data-part=state]")
        expect(state).to_have_text("The file is too large for the proxy in front of the server.")
        expect(page.get_by_role("button", name="Try again")).to_be_hidden()


# ---------------------------------------------------------------------- behind another one


@pytest.fixture
def twice(site: Web, tmp_path: Path) -> Iterator[str]:
    """The URL of an nginx in front of another: that one drops X-Accel-Buffering, and so the first buffers events."""
    inner, outer = free_port(), free_port()
    (tmp_path / "inner").mkdir()
    (tmp_path / "outer").mkdir()
    with (
        nginx(tmp_path / "inner", SITE.format(port=inner, web=site.server.port, more=""), inner),
        nginx(tmp_path / "outer", SITE.format(port=outer, web=inner, more=""), outer) as url,
    ):
        yield url


def test_cards_finish_without_live_events(twice: str, store: Store) -> None:
    with pytest.raises(httpx2.ReadTimeout):  # they are held back, otherwise this test is of no use
        httpx2.get(f"{twice}/v1/events", timeout=3)
    with browser() as chrome, sevens(store):
        page = chrome.new_page()
        page.goto(twice)
        page.set_input_files("#file", [{"name": "im.png", "mimeType": "image/png", "buffer": seven()}])
        expect(page.locator(".card[data-state=succeeded] [data-part=digit]")).to_have_text("7", timeout=20_000)
        with Client(twice) as sdk:
            assert sdk.submit(seven()).wait(timeout=10).digit == 7  # a long poll is no stream


# ---------------------------------------------------------------------- its own Host


def upload(url: str, **headers: str) -> httpx2.Response:
    return httpx2.post(f"{url}/v1/predictions", content=seven(), headers=PNG | headers)


def test_a_page_on_plain_http_whose_host_is_not_passed_on_is_told_what_to_configure(bare: str, store: Store) -> None:
    refused = upload(bare, Origin=bare)
    assert (refused.status_code, refused.json()["code"]) == (403, "cross_site")
    assert bare in refused.json()["detail"] and "proxy_set_header Host $http_host" in refused.json()["detail"]


@pytest.mark.parametrize("line", ["proxy_set_header Host $http_host;", "proxy_set_header X-Forwarded-Host $http_host;"])
def test_what_it_says_helps_and_lets_no_other_page_in(line: str, site: Web, tmp_path: Path) -> None:
    port = free_port()
    with nginx(tmp_path, SITE.format(port=port, web=site.server.port, more=line), port) as url:
        assert upload(url, Origin=url).status_code == 202
        assert upload(url, Origin="http://evil.example").status_code == 403
        assert upload(url, **{"Origin": "http://evil.example", "X-Forwarded-Host": "elsewhere"}).status_code == 403
        assert upload(url, **{"Origin": url, "Sec-Fetch-Site": "cross-site"}).status_code == 403
