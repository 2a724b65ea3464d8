"""API keys and what each can see, cross-site requests, rate limits, and secrets that no log may contain."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import redis

from producer.middleware.access import Access, client_block, cookie_for, is_local, read_keys
from producer.middleware.request import Request
from producer.serving.adapter import environ_of
from producer.web import services
from shared.batches import Batches
from shared.errors import CrossSite, QueueFull, RateLimited, SettingsError
from shared.settings import Settings
from shared.store import Store
from shared.submission import Caller
from tests.api import answer_all, is_problem
from tests.pictures import seven
from tests.rsgi import Headers, Scope
from tests.served import WebClient, site
from tests.waits import until

ALICE, BOB, BARE = "correct-horse-battery", "staple-of-all-staples", "a-key-without-a-name"
KEYS = f"alice:{ALICE},bob:{BOB},{BARE}"
PICTURE = {"data": seven(), "content_type": "image/png"}


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store, api_keys=KEYS) as client:
        yield client


def shown(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def submitted(web: WebClient, key: str, **headers: str) -> str:
    answer = web.post("/v1/predictions", headers={**shown(key), **headers}, **PICTURE)
    assert answer.status_code == 202, answer.text
    return str(answer.get_json()["id"])


# ---------------------------------------------------------------------- keys


@pytest.mark.parametrize("headers", [shown(ALICE), {"Authorization": f"bearer {BARE}"}, {"X-API-Key": BOB}])
def test_a_known_key_enters(web: WebClient, headers: dict[str, str]) -> None:
    assert web.post("/v1/predictions", headers=headers, **PICTURE).status_code == 202


@pytest.mark.parametrize(
    "headers",
    [{}, shown(ALICE[:-1]), shown(""), {"Authorization": ALICE}, {"X-API-Key": f"alice:{ALICE}"},
     shown(cookie_for(ALICE)), {"Authorization": "Basic YTpi"}, {"X-API-Key": "\xe9"},
     {"Cookie": f"digitq_key={ALICE}"}],
)  # fmt: skip
def test_anything_else_does_not_and_is_told_how(web: WebClient, headers: dict[str, str]) -> None:
    answer = web.post("/v1/predictions", headers=headers, **PICTURE)
    is_problem(answer, 401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="digitq"'
    assert web.get("/nowhere", headers=headers).status_code == 401  # unknown paths are not revealed either


def test_without_a_key_one_learns_that_it_lives_and_how_to_speak_with_it(web: WebClient) -> None:
    for path in ("/healthz", "/openapi.json", "/docs", "/static/style.css"):
        with web.get(path) as answer:
            assert answer.status_code == 200


def test_keys_come_from_a_file_too_and_those_of_one_name_share_what_they_see(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# since 2026\nalice:her-second-secret-key\n\n")
    with site(store, api_keys=f"alice:{ALICE}", api_keys_file=str(file)) as web:
        id = submitted(web, ALICE)
        assert web.get(f"/v1/predictions/{id}", headers=shown("her-second-secret-key")).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [{"api_keys": "a b"}, {"api_keys": "näme:key"}, {"api_keys": "a:b:c"}, {"api_keys": " , "},
     {"api_keys_file": "/nowhere"}, {"api_keys_file": "/dev/null"}],
)  # fmt: skip
def test_a_mistake_in_the_keys_refuses_to_start_and_does_not_print_them(changes: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as error:
        Access(Settings(**changes))  # type: ignore[arg-type]
    said = str(error.value).replace("`name:key`", "").replace("neither `key`", "")
    assert changes.get("api_keys", "-") not in said.replace("holds no key", "")


def test_a_short_key_is_warned_of_and_not_printed(caplog: pytest.LogCaptureFixture) -> None:
    list(read_keys(Settings(api_keys="alice:hunter2")))
    assert "alice is short" in caplog.text and "hunter2" not in caplog.text


# ---------------------------------------------------------------------- what each sees


def test_what_is_anothers_is_not_there(web: WebClient, store: Store) -> None:
    id = submitted(web, ALICE)
    form = {"file": [(BytesIO(seven()), "a.png")]}
    batch = web.post("/v1/batches", data=form, headers=shown(ALICE)).get_json()["id"]
    answer_all(store)
    rules = [rule for rule in web.url_map.iter_rules() if "id" in rule.arguments]
    assert len(rules) >= 7
    for method in ("GET", "DELETE"):  # the owner deletes last
        for key, strange in ((BOB, True), (BARE, True), (ALICE, False)):
            for rule in (rule for rule in rules if method in (rule.methods or ())):
                url = rule.rule.replace("<id>", batch if "batches" in rule.rule else id)
                answer = web.open(url, method=method, headers=shown(key))
                assert (answer.status_code == 404) == strange, f"{method} {url} {key}: {answer.status_code}"
                if strange:
                    unknown = web.open(url.replace(id, "no-such-id").replace(batch, "no-such-id"), method=method,
                                       headers=shown(key))  # fmt: skip
                    assert answer.get_json() == unknown.get_json()


def test_each_has_a_history_and_idempotency_keys_of_their_own(web: WebClient) -> None:
    mine, yours = (submitted(web, key, **{"Idempotency-Key": "same"}) for key in (ALICE, BOB))
    assert submitted(web, ALICE, **{"Idempotency-Key": "same"}) == mine != yours
    for key, id in ((ALICE, mine), (BOB, yours)):
        page = web.get("/v1/predictions", headers=shown(key)).get_json()["predictions"]
        assert [one["id"] for one in page] == [id]
    assert web.get("/v1/predictions", headers=shown(BARE)).get_json()["predictions"] == []


def test_events_tell_each_of_their_own(web: WebClient, store: Store) -> None:
    with web.get("/v1/events", headers=shown(ALICE)):
        until(lambda: web.services.events._now.resets, 10)  # until then what ends is a reset
    streams = {key: web.get("/v1/events", headers=shown(key)) for key in (ALICE, BOB)}
    parts = {key: iter(stream.response) for key, stream in streams.items()}
    heads = [next(part) for part in parts.values()]  # from here on they listen
    ids = {key: submitted(web, key) for key in (BOB, ALICE)}
    answer_all(store)  # both in one message
    heard = {key: told_until(ids[key], part) for key, part in parts.items()}
    for stream in streams.values():
        stream.close()
    token = re.findall(r"id: (.*)", heard[ALICE])[0]
    with web.get("/v1/events", headers={**shown(BOB), "Last-Event-ID": token}) as stream:
        again = str(next(iter(stream.response)))  # the first part has the missed events
    assert ids[ALICE] not in heard[BOB] + again and ids[BOB] not in heard[ALICE] and len(heads) == 2
    web.call(web.services.events.stop)


def told_until(word: str, parts: Iterator[Any]) -> str:
    text = ""
    while word not in text:
        text += next(parts).decode()
    return text


# ---------------------------------------------------------------------- browsers


def test_a_browser_is_asked_for_the_key_and_remembers_it_where_no_script_can_read_it(web: WebClient) -> None:
    html = {"Accept": "text/html"}
    asked = web.get("/", headers=html)
    assert asked.status_code == 401 and 'type="password"' in asked.text
    assert "Unknown key" in web.post("/key", data={"key": "guessed"}, headers=html).text
    entered = web.post("/key", data={"key": f" {ALICE} "}, headers={"Origin": "https://localhost"})
    cookie = entered.headers["Set-Cookie"]
    assert entered.status_code == 303 and ALICE not in cookie
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Secure"))
    assert web.get("/", headers=html, base_url="https://localhost").status_code == 200
    web.post("/key", base_url="https://localhost")
    assert web.get("/", headers=html, base_url="https://localhost").status_code == 401
    is_problem(web.get("/v1/predictions", headers=html), 401, "unauthorized")


def test_a_form_of_the_key_that_is_far_too_long_is_a_wrong_key(web: WebClient) -> None:
    answer = web.post("/key", data=b"key=&" * 100_000, content_type="application/x-www-form-urlencoded")
    assert answer.status_code == 401 and "Unknown key" in answer.text


def test_the_plain_form_works_with_the_cookie(web: WebClient) -> None:
    web.post("/key", data={"key": ALICE})
    sent = web.post("/", data={"file": (BytesIO(seven()), "a.png")})
    assert sent.status_code == 303
    assert web.get(sent.headers["Location"].replace("/predictions", "/v1/predictions")).get_json()["state"] == "queued"


@pytest.mark.parametrize(
    ("headers", "enters"),
    [
        ({}, True),  # no browser
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://behind.a.proxy"}, True),
        ({"Origin": "http://localhost"}, True),
        ({"Origin": "http://lan:8080", "X-Forwarded-Host": "lan:8080"}, True),
        ({"Origin": "https://lan", "X-Forwarded-Host": "LAN:443, inner.proxy"}, True),
        ({"Origin": "http://lan:8080", "X-Forwarded-Host": "lan"}, False),
        ({"Origin": "http://inner.proxy", "X-Forwarded-Host": "lan, inner.proxy"}, False),
        ({"Origin": "null", "X-Forwarded-Host": "null"}, False),
        ({"Origin": "http://", "X-Forwarded-Host": ""}, False),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://lan", "X-Forwarded-Host": "lan"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"}, False),  # another port of this machine
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "http://localhost:81"}, False),
        ({"Origin": "null"}, False),
    ],
)
def test_a_page_of_another_site_hands_nothing_in(store: Store, headers: dict[str, str], enters: bool) -> None:
    with site(store) as web:
        for path in ("/", "/v1/predictions", "/v1/batches"):
            answer = web.post(path, data={"file": (BytesIO(seven()), "a.png")}, headers=headers)
            assert (answer.status_code in (202, 303)) == enters
            if not enters:
                is_problem(answer, 403, "cross_site")


def test_who_is_refused_behind_a_proxy_is_told_what_the_proxy_has_to_do(store: Store) -> None:
    with site(store) as web:
        headers = {"Origin": "http://lan:8080", "Host": "localhost:8000"}
        told = is_problem(web.post("/v1/predictions", data=seven(), headers=headers), 403, "cross_site")["detail"]
    assert "http://lan:8080" in told and "localhost:8000" in told and "proxy_set_header Host $http_host" in told


def test_a_name_that_is_pointed_at_this_machine_opens_nothing(store: Store) -> None:
    with site(store) as web:
        is_problem(web.get("/v1/predictions", headers={"Host": "evil.example:8000"}), 403, "cross_site")
        assert all(map(is_local, ("localhost:8000", "127.0.0.1:8000", "127.1.2.3", "[::1]:8000", "a.localhost")))
    for changes in ({"allow_anonymous": "1"}, {"host": "0.0.0.0"}):
        with site(store, **changes) as web:
            assert web.get("/v1/predictions", headers={"Host": "digits.example"}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["a_b.evil.example", "a_b.evil.example:8000", "evil.example", "evil.example.", "EVIL.example", "", " ", ":8000",
     "localhost.evil.example", "localhost@evil.example", "localhost:80@evil.example", "localhost, evil.example",
     "127.0.0.1,127.0.0.1", "evil.example:127.0.0.1", "127.0.0.1.evil.example", "[::1].evil.example", "[::1", "::1",
     "localhost:123456", "localhost:x", "localhost/", "evil.example#.localhost", "a_b.localhost:", "1.2.3.4",
     "[2001:db8::1]", "0.0.0.0", "\xe9vil.example", "x" * 60_000],
)  # fmt: skip
def test_a_host_that_is_no_name_of_this_machine_is_refused_however_it_is_written(store: Store, host: str) -> None:
    with site(store) as web:
        is_problem(web.get("/v1/predictions", environ_overrides={"HTTP_HOST": host}), 403, "cross_site")
        picture = web.post("/v1/predictions", environ_overrides={"HTTP_HOST": host}, **PICTURE)
        is_problem(picture, 403, "cross_site")


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:8000", "localhost.", "a.localhost:1", "127.0.0.1:", "127.9.9.9", "[::1]", "[::1]:1"],
)
def test_names_of_this_machine_are_accepted_and_so_is_a_request_without_a_host(store: Store, host: str) -> None:
    with site(store) as web:
        assert web.get("/v1/predictions", environ_overrides={"HTTP_HOST": host}).status_code == 200
        forwarded = {"X-Forwarded-Host": "evil.example", "Forwarded": "host=evil.example"}  # nobody believes them
        assert web.get("/v1/predictions", headers=forwarded).status_code == 200
        evil = {"Host": "evil.example", "X-Forwarded-Host": host, "Forwarded": f"host={host}"}
        assert web.get("/v1/predictions", headers=evil).status_code == 403


def test_the_host_in_the_target_of_a_request_is_the_one_that_counts() -> None:
    headers = Headers([("Host", "127.0.0.1:8000")])
    sent = environ_of(Scope("GET", "/v1/predictions", "", headers, authority="evil.example"))
    with pytest.raises(CrossSite):
        Access(Settings()).check(Request(sent))


def test_a_server_whose_name_has_an_underscore_is_one_site_like_any_other(store: Store) -> None:
    with site(store, allow_anonymous="1") as web:
        for origin, enters in [("http://my_host:8000", True), ("http://MY_host:8000", True), ("null", False),
                               ("http://other_host:8000", False), ("http://", False), ("x", False)]:  # fmt: skip
            sent = {"environ_overrides": {"HTTP_HOST": "my_host:8000"}, "headers": {"Origin": origin}}
            assert (web.post("/v1/predictions", **sent, **PICTURE).status_code == 202) == enters, origin  # type: ignore[arg-type]


def test_headers_that_tell_a_browser_to_be_careful(store: Store) -> None:
    with site(store) as web:
        id = web.post("/v1/predictions", **PICTURE).get_json()["id"]
        answer_all(store)
        for path in ("/", "/docs", f"/predictions/{id}", f"/v1/predictions/{id}/image", "/static/icon.svg", "/nowhere"):
            with web.get(path) as answer:
                headers = answer.headers
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "unsafe" not in policy, path
            assert "frame-ancestors 'none'" in policy or "sandbox" in policy, path
            assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "same-origin"
            assert "camera=()" in headers["Permissions-Policy"]


# ---------------------------------------------------------------------- where it listens


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_this_machine_alone_nobody_needs_a_key(host: str) -> None:
    Settings(host=host).check_exposed()


def test_on_another_address_it_starts_with_keys_or_when_it_is_told_to() -> None:
    for changes in ({"api_keys": KEYS}, {"api_keys_file": "/run/secrets/keys"}, {"allow_anonymous": "1"}):
        Settings(host="0.0.0.0", **changes).check_exposed()  # type: ignore[arg-type]


# ---------------------------------------------------------------------- rates


def test_a_client_over_its_rate_limit_is_told_when_to_retry(store: Store) -> None:
    with site(store, api_keys=KEYS, rate_limit="2/10 seconds") as web:
        submitted(web, ALICE, **{"Idempotency-Key": "k"})
        submitted(web, ALICE)
        submitted(web, ALICE, **{"Idempotency-Key": "k"})  # the same again is not another one
        refused = web.post("/v1/predictions", headers=shown(ALICE), **PICTURE)
        body = is_problem(refused, 429, "rate_limited")
        assert (body["limit"], refused.headers["Retry-After"]) == (2, "5")  # one picture each five seconds
        submitted(web, BOB)


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"), ("fe80::1%eth0", "fe80::/64"), ("::1", "::/64"),
        ("a socket", "a socket"),
    ],
)  # fmt: skip
def test_an_address_is_counted_as_the_block_that_one_client_has(address: str, counted: str) -> None:
    assert client_block(address) == counted


def test_without_keys_the_addresses_of_one_ipv6_network_have_one_rate(store: Store) -> None:
    with site(store, rate_limit="2/hour") as web:

        def status(address: str) -> int:
            return web.post("/v1/predictions", environ_base={"REMOTE_ADDR": address}, **PICTURE).status_code

        assert [status(f"2001:db8:1:2::{n}") for n in range(3)] == [202, 202, 429]
        assert [status(address) for address in ("2001:db8:1:3::1", "::ffff:192.0.2.7")] == [202, 202]
        assert [status("192.0.2.7") for _ in range(2)] == [202, 429]


def test_it_may_again_when_it_was_told(store: Store) -> None:
    with site(store, rate_limit="2/second") as web:
        answers = [web.post("/v1/predictions", **PICTURE).status_code for _ in range(3)]
        assert answers == [202, 202, 429]
        began = time.monotonic()
        until(lambda: web.post("/v1/predictions", **PICTURE).status_code == 202, 10)
        assert time.monotonic() - began > 0.2  # a half in all, less what the answers took


def test_a_batch_counts_its_pictures_and_a_large_one_is_owed(client: redis.Redis, settings: Settings) -> None:
    store = Store(client, Settings(redis_url=settings.redis_url, rate_limit="10/second"))
    batches, caller = Batches(store), Caller("alice", "alice")
    from shared.chunks import raw

    batches.submit([raw(bytes(784 * 100), 28, 28)], 100, caller=caller)  # ten times what it may in a second
    with pytest.raises(RateLimited) as error:
        store.submit(seven(), caller=caller)
    assert error.value.extensions["retry_after_seconds"] in (9, 10)
    with pytest.raises(RateLimited):
        batches.submit([raw(bytes(784), 28, 28)], 1, caller=caller)
    assert client.llen("rq:queue:digitq-low") == 1
    assert not [key for key in client.keys("digitq:chunk:*") if client.ttl(key) <= 120]  # nothing is left staged
    assert store.submit(seven()).state == "queued"  # who is at Redis itself is not counted


def test_a_full_queue_says_when_there_will_be_room_by_what_ended_lately(
    client: redis.Redis, settings: Settings
) -> None:
    store = Store(client, Settings(redis_url=settings.redis_url, queue_max_length=100))

    def told_to_wait() -> int:
        with pytest.raises(QueueFull) as error:
            for _ in range(101):
                store.submit(seven())
        return int(error.value.extensions["retry_after_seconds"])

    assert told_to_wait() == 30  # nobody works
    for _ in range(10):
        answer_all_at_once(store, 1)
    # Ten in the last 10 to 15 seconds, and a twentieth of the queue, five, and the one itself are to end first.
    assert told_to_wait() in range(6, 10)
    answer_all_at_once(store, 64)
    assert told_to_wait() in (1, 2)


def answer_all_at_once(store: Store, count: int) -> None:
    from shared import keys
    from shared.claims import Finish
    from tests.fakes import outcome

    claims = store.claim("w", keys.QUEUES, count, "n")
    done = [Finish(claim, "e30=", "", outcome(7)) for claim in claims]
    store.finish("w", done)


# ---------------------------------------------------------------------- secrets


def test_no_secret_is_printed(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    secret = "whsec_" + "A" * 32
    settings = Settings(redis_url="redis://me:pass-word@h:1/0", api_keys=KEYS, webhook_secret=secret)
    with caplog.at_level(logging.DEBUG), site(Store(store.client, settings)) as web:
        web.get("/v1/model", headers=shown("guessed-key"))
    for text in (repr(settings), str(settings.table()), caplog.text):
        assert not [word for word in (ALICE, BOB, BARE, "pass-word", secret, "guessed-key") if word in text]
    assert settings.table()["DIGITQ_API_KEYS"] == "***" and Settings().table()["DIGITQ_API_KEYS"] == ""


def test_a_wrong_key_is_not_replaced_by_a_cookie(web: WebClient) -> None:
    assert web.post("/key", data={"key": ALICE}).status_code == 303
    assert web.get("/v1/predictions").status_code == 200
    is_problem(web.get("/v1/predictions", headers=shown("wrong")), 401, "unauthorized")


@pytest.mark.parametrize("limit", [0, 16])
def test_anothers_batch_is_not_shown_to_a_waiting_client_at_or_below_the_limit_of_waits(
    limit: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(services, "MAX_BATCH_WAITS", limit)
    with site(store, api_keys=KEYS) as web:
        form = {"file": (BytesIO(seven()), "a.png")}
        path = web.post("/v1/batches", data=form, headers=shown(ALICE)).headers["Location"]
        assert web.get(f"{path}?wait=0.1", headers=shown(ALICE)).status_code == 200
        is_problem(web.get(f"{path}?wait=0.1", headers=shown(BOB)), 404, "not_found")
