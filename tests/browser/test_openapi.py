"""The page of the API's documentation in a browser."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from shared.store import Store
from tests.chromium import Troubles, browser
from tests.served import WebClient, site


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store) as client:
        yield client


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
def test_the_page_fits_and_does_not_complain_in_a_browser(web: WebClient, width: int, scheme: Any) -> None:
    server = make_server("127.0.0.1", 0, web.application, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    troubles = Troubles()
    with browser() as chrome:
        page = chrome.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
        troubles.watch(page)
        page.goto(f"http://127.0.0.1:{server.port}/docs")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.keyboard.press("Tab")
        page.get_by_role("link", name="A prediction has finished").press("Enter")
        page.locator("#ended summary").first.press("Enter")
        assert "prediction.succeeded" in page.locator("#ended pre").first.inner_text()
    server.shutdown()
    assert troubles == []


class Quiet(WSGIRequestHandler):
    def log(self, *_: Any) -> None:
        pass
