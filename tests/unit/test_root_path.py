"""Under a sub-path behind a proxy, which may strip it from the path or not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import pytest

from producer.serving.adapter import without_root
from producer.web.app import create_flask
from producer.webhooks.delivery import message
from shared.errors import SettingsError
from shared.settings import Settings
from shared.store import Store
from tests.api import answer_all
from tests.pictures import seven
from tests.served import WebClient, site

ROOT = "/digits"
KEY = "correct-horse-battery"
HTML = {"Accept": "text/html"}
#: What a link to this server starts with, wherever one is written.
LINK = re.compile(r"""(?:href|src|action)="(/[^"]*)\"""")


@pytest.fixture(params=["kept", "stripped"])
def prefix(request: pytest.FixtureRequest) -> str:
    """Return the sub-path as passed on by the proxy."""
    return ROOT if request.param == "kept" else ""


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store, root_path=ROOT) as client:
        yield client


def links(body: Any) -> list[str]:
    """Every link in a JSON answer."""
    found = re.findall(r'"links": (\{[^}]*\})', json.dumps(body))
    return [link for links in found for link in json.loads(links).values()]


# ---------------------------------------------------------------------- the API


def test_links_and_locations_of_the_api_have_the_sub_path(web: WebClient, prefix: str) -> None:
    one = web.post(f"{prefix}/v1/predictions", data=seven(), content_type="image/png")
    id = one.get_json()["id"]
    assert one.headers["Location"] == f"{ROOT}/v1/predictions/{id}"
    many = web.post(f"{prefix}/v1/batches", data={"file": (BytesIO(seven()), "a.png")})
    assert many.headers["Location"] == f"{ROOT}/v1/batches/{many.get_json()['id']}"
    bodies = [one.get_json(), many.get_json()]
    bodies += [web.get(f"{prefix}/v1/{path}").get_json() for path in (f"predictions/{id}", "predictions")]
    found = [links(body) for body in bodies]
    assert all(found)
    for link in (link for several in found for link in several):
        assert link.startswith(f"{ROOT}/v1/")
        assert web.get(link).status_code == web.get(link.removeprefix(ROOT)).status_code == 200


def test_events_and_webhooks_tell_links_with_it(web: WebClient, store: Store) -> None:
    with web.get("/digits/v1/events") as stream:
        parts = iter(stream.response)
        next(parts)
        id = web.post("/v1/predictions", data=seven(), content_type="image/png").get_json()["id"]
        answer_all(store)
        heard = ""
        while id not in heard:
            heard += next(parts).decode()  # type: ignore[union-attr]
    web.call(web.services.events.stop)
    assert f'"self": "{ROOT}/v1/predictions/{id}"' in heard
    assert links(json.loads(message(store.fetch(id), ROOT)))[0] == f"{ROOT}/v1/predictions/{id}"


# ---------------------------------------------------------------------- pages


def test_pages_and_the_description_link_below_it(web: WebClient, store: Store, prefix: str) -> None:
    form = {"file": (BytesIO(seven()), "a.png")}
    sent = web.post(f"{prefix}/", data=form, headers=HTML)
    assert sent.status_code == 303 and sent.headers["Location"].startswith(f"{ROOT}/predictions/")
    answer_all(store)
    for path in ("/", "/docs", sent.headers["Location"].removeprefix(ROOT)):
        page = web.get(f"{prefix}{path}", headers=HTML)
        found = LINK.findall(page.text)
        assert page.status_code == 200 and found
        assert [link for link in found if not link.startswith(f"{ROOT}/")] == [], path
        for link in set(found):
            with web.get(link) as answer:
                assert answer.status_code in (200, 405), link
    assert "http://localhost/digits/v1/predictions" in web.get(f"{prefix}/docs").text
    assert web.get(f"{prefix}/openapi.json").get_json()["servers"] == [{"url": ROOT}]


def test_the_sub_path_itself_is_the_page(web: WebClient) -> None:
    assert "Which digit" in web.get(ROOT, headers=HTML).text


def test_the_cookie_and_its_redirect_stay_below_it(store: Store, prefix: str) -> None:
    with site(store, root_path=ROOT, api_keys=KEY) as web:
        asked = web.get(f"{prefix}/", headers=HTML)
        assert asked.status_code == 401 and f'action="{ROOT}/key"' in asked.text
        entered = web.post(f"{prefix}/key", data={"key": KEY})
        assert entered.headers["Location"] == f"{ROOT}/" and "Path=/digits;" in entered.headers["Set-Cookie"] + ";"
        assert web.get(f"{ROOT}/", headers=HTML).status_code == 200
        assert web.get("/healthz").status_code == web.get(f"{ROOT}/healthz").status_code == 200
        left = web.post(f"{prefix}/key", data={})
        assert "Path=/digits" in left.headers["Set-Cookie"] and "Expires=Thu, 01 Jan 1970" in left.headers["Set-Cookie"]


# ---------------------------------------------------------------------- the setting


@pytest.mark.parametrize(
    ("path", "inner"),
    [("/digits", "/"), ("/digits/", "/"), ("/digits/docs", "/docs"), ("/docs", "/docs"), ("/", "/"),
     ("/digitsandmore", "/digitsandmore"), ("/digits//docs", "//docs"), ("/a/digits/docs", "/a/digits/docs")],
)  # fmt: skip
def test_the_prefix_is_stripped_where_it_is_one(path: str, inner: str) -> None:
    assert without_root(path, ROOT) == inner
    assert without_root(inner, "") == inner


def test_a_root_path_is_read_with_or_without_its_last_slash() -> None:
    for text in ("/digits", "/digits/", "/a/b-c_d.e~f"):
        assert Settings.from_env({"DIGITQ_ROOT_PATH": text}).root_path == text.rstrip("/")
    assert Settings.from_env({"DIGITQ_ROOT_PATH": "/"}).root_path == ""


NO_PATHS = ["digits", "//digits", "/a b", "/a//b", "/ä", "/a?b", "/a/../b", "/.", "http://x/", '/"x']


@pytest.mark.parametrize("text", NO_PATHS)
def test_what_is_no_path_refuses_to_start(text: str) -> None:
    with pytest.raises(SettingsError, match=r"DIGITQ_ROOT_PATH .* such as /digits"):
        Settings.from_env({"DIGITQ_ROOT_PATH": text})


def test_a_root_path_cannot_be_taken_for_a_path_of_ours(store: Store) -> None:
    rules = {rule.rule.split("/")[1] for rule in create_flask(store.settings, False).url_map.iter_rules()} - {""}
    for first in rules:
        with pytest.raises(SettingsError, match="DIGITQ_ROOT_PATH"):
            Settings.from_env({"DIGITQ_ROOT_PATH": f"/{first}/x"})
