"""Webhooks that are delivered to a receiver."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis

from producer.webhooks import safe_http
from producer.webhooks.delivery import DELAYS, PER_PARTY, Deliverer
from producer.webhooks.safe_http import Unreachable, post
from shared import ROOT, keys
from shared.settings import Settings
from shared.standalone.up import http_ok
from shared.store import Store
from shared.submission import Caller
from tests.api import answer_all
from tests.pictures import seven
from tests.receiver import KEY, SECRET, SENDS, Receiver, fate, receiver, submit
from tests.served import WebClient, site
from tests.tools import tool
from tests.waits import until

__all__ = ["receiver"]


@pytest.fixture
def sending(store: Store) -> Store:
    return Store(store.client, replace(store.settings, **SENDS))


@pytest.fixture
def deliverer(sending: Store) -> Iterator[Deliverer]:
    running = Deliverer(sending, delays=(0.1,) * 7)
    running.start()
    yield running
    running.close()


@pytest.fixture
def web(store: Store) -> Iterator[WebClient]:
    with site(store, **SENDS) as client:
        yield client


def test_the_end_is_told_signed_and_whole(
    web: WebClient, store: Store, receiver: Receiver, deliverer: Deliverer, client: redis.Redis
) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    id = submit(web, receiver.url, traceparent=trace)
    assert client.zcard(keys.WEBHOOKS) == 0 and receiver.got == []  # not before it has ended
    answer_all(store)
    [(headers, body, path)] = receiver.wait_for(1)
    assert path == "/hook?a=b"
    signed = f"{id}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
    assert (headers["webhook-id"], headers["webhook-signature"]) == (id, f"v1,{expected}")
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert (headers["traceparent"], headers["content-type"]) == (trace, "application/json")
    told = json.loads(body)
    assert told["type"] == "prediction.succeeded" and told["timestamp"] == told["data"]["finished_at"]
    assert told["data"] == web.get(f"/v1/predictions/{id}").get_json()
    until(lambda: fate(client, id) == ("delivered", 1))
    assert client.zcard(keys.WEBHOOKS) == 0


def test_a_form_may_name_it_and_a_cancelled_picture_is_told_too(
    web: WebClient, receiver: Receiver, deliverer: Deliverer
) -> None:
    form = {"file": (BytesIO(seven()), "a.png"), "callback_url": receiver.url}
    id = web.post("/v1/predictions", data=form).get_json()["id"]
    web.delete(f"/v1/predictions/{id}")
    assert json.loads(receiver.wait_for(1)[0][1])["type"] == "prediction.cancelled"


def test_two_secrets_sign_twice_while_they_are_changed(store: Store, receiver: Receiver) -> None:
    new = bytes(range(32, 64))
    secrets = f"{SECRET} whsec_{base64.b64encode(new).decode()}"
    both = replace(store.settings, **{**SENDS, "webhook_secret": secrets})
    id = Store(store.client, both).submit(seven(), notes={"callback_url": receiver.url}).id
    answer_all(store)
    deliverer = Deliverer(Store(store.client, both))
    assert deliverer.deliver_one() and not deliverer.deliver_one()
    headers, body, _ = receiver.got[0]
    signed = f"{id}.{headers['webhook-timestamp']}.".encode() + body
    expected = [base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in (KEY, new)]
    assert headers["webhook-signature"].split() == [f"v1,{one}" for one in expected]
    assert headers["webhook-id"] == id


def test_it_is_tried_again_until_it_is_taken(
    web: WebClient, store: Store, receiver: Receiver, deliverer: Deliverer, client: redis.Redis
) -> None:
    receiver.statuses = [500, 302, 429]
    id = submit(web, receiver.url)
    answer_all(store)
    got = receiver.wait_for(4)
    assert {headers["webhook-id"] for headers, _, _ in got} == {id} and len({body for _, body, _ in got}) == 1
    until(lambda: fate(client, id) == ("delivered", 4))
    assert client.zcard(keys.WEBHOOKS) == 0 and len(receiver.got) == 4


def test_gone_stops_at_once_and_eight_failures_in_the_end(
    web: WebClient, store: Store, receiver: Receiver, deliverer: Deliverer, client: redis.Redis
) -> None:
    receiver.statuses = [410]
    id = submit(web, receiver.url)
    answer_all(store)
    until(lambda: fate(client, id) == ("gone", 1))
    receiver.statuses = [500] * 9
    id = submit(web, receiver.url)
    answer_all(store)
    until(lambda: fate(client, id) == ("given_up", 8))
    assert client.zcard(keys.WEBHOOKS) == 0 and len(DELAYS) == 7


def test_the_next_try_waits_as_long_as_is_said(store: Store, sending: Store, client: redis.Redis) -> None:
    sending.submit(seven(), notes={"callback_url": "http://127.0.0.1:1/"})
    answer_all(store)
    for delay in DELAYS[:3]:
        assert Deliverer(sending).deliver_one()
        [(id, due)] = client.zrange(keys.WEBHOOKS, 0, -1, withscores=True)
        assert delay <= due - store.time() + 1 <= 1.1 * delay + 1
        client.zadd(keys.WEBHOOKS, {id: 0})


def test_dead_callbacks_of_one_owner_do_not_hold_up_anothers(
    store: Store, sending: Store, receiver: Receiver, deliverer: Deliverer, client: redis.Redis
) -> None:
    receiver.hold.clear()  # it takes what it is told, and does not answer
    for _ in range(40):
        sending.submit(seven(), notes={"callback_url": receiver.url}, caller=Caller("alice"))
    answer_all(store)
    until(lambda: len(receiver.got) == PER_PARTY)
    with suppress(AssertionError):
        until(lambda: len(receiver.got) > PER_PARTY, 0.3)
    assert len(receiver.got) == PER_PARTY
    id = sending.submit(seven(), notes={"callback_url": "http://127.0.0.1:1/"}, caller=Caller("bob")).id
    answer_all(store)
    until(lambda: fate(client, id)[1])
    assert len(receiver.got) == PER_PARTY  # none of alice's has been answered yet
    assert all(client.ttl(key) > 0 for key in client.scan_iter("digitq:pa*"))
    receiver.hold.set()
    until(lambda: len({headers["webhook-id"] for headers, _, _ in receiver.got}) == 40)


def test_a_deliverer_that_is_killed_in_the_middle_leaves_its_message_to_another(
    web: WebClient, store: Store, sending: Store, receiver: Receiver, client: redis.Redis, redis_url: str
) -> None:
    receiver.hold.clear()
    id = submit(web, receiver.url)
    answer_all(store)
    script = (
        "import sys; from shared.store import Store, connect; from shared.settings import Settings\n"
        "from producer.webhooks.delivery import Deliverer\n"
        f"s = Settings(redis_url=sys.argv[1], webhook_secret={SECRET!r}, webhook_allow_private='1')\n"
        "Deliverer(Store(connect(sys.argv[1]), s), lease_seconds=1.5).deliver_one()"
    )
    process = subprocess.Popen([sys.executable, "-c", script, redis_url], cwd=ROOT)
    receiver.wait_for(1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    receiver.hold.set()
    other = Deliverer(sending)
    assert not other.deliver_one()  # it is under the lease of the dead
    until(other.deliver_one)
    assert [headers["webhook-id"] for headers, _, _ in receiver.got] == [id, id]
    assert fate(client, id) == ("delivered", 2)


def test_the_web_process_sends(store: Store, receiver: Receiver, cli_env: dict[str, str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = {**cli_env, "DIGITQ_PORT": str(port), **{f"DIGITQ_{name.upper()}": value for name, value in SENDS.items()}}
    web = subprocess.Popen([sys.executable, "-m", "digitq", "web"], cwd=ROOT, env=env)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: http_ok(f"{url}/healthz"))
        answer = httpx2.post(f"{url}/v1/predictions", params={"callback_url": receiver.url}, content=seven())
        answer_all(store)
        [(headers, _, _)] = receiver.wait_for(1)
        assert headers["webhook-id"] == answer.json()["id"]
    finally:
        web.terminate()
        assert web.wait(10) in (0, -signal.SIGTERM)


def test_a_receiver_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_http, "TIMEOUT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, args=(server,))
        thread.start()
        start = time.monotonic()
        with pytest.raises(Unreachable):
            post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"x", {}, Settings(**SENDS))  # type: ignore[arg-type]
        assert 0.4 < time.monotonic() - start < 4  # of five
        thread.join()


def drip(server: socket.socket) -> None:
    """An answer whose first line never ends, a byte at a time."""
    connection, _ = server.accept()
    with connection, suppress(OSError):
        connection.sendall(b"HTTP/1.1 2")
        for _ in range(50):
            connection.sendall(b"x")
            time.sleep(0.1)


def test_https_is_verified_and_named(monkeypatch: pytest.MonkeyPatch, receiver: Receiver, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = [tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(cert)]  # fmt: skip
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    receiver.socket = context.wrap_socket(receiver.socket, server_side=True)
    port, private = receiver.server_port, Settings(**SENDS)  # type: ignore[arg-type]
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        post(f"https://localhost:{port}/", b"x", {}, private)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        post(f"https://127.0.0.1:{port}/", b"x", {}, private)
    assert post(f"https://localhost:{port}/", b"x", {}, private) == 204
    assert receiver.got[-1][0]["host"] == f"localhost:{port}"


def test_a_name_is_checked_when_it_is_resolved_and_the_call_goes_to_that_address(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    answers = {"inside.example": ["10.0.0.1"], "both.example": ["93.184.216.34", "127.0.0.1"]}
    asked: list[str] = []

    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", (address, port)) for address in answers[host]]

    monkeypatch.setattr(safe_http.socket, "getaddrinfo", resolve)
    connected: list[Any] = []
    monkeypatch.setattr(safe_http.socket, "create_connection", lambda address, _: connected.append(address))
    for host in answers:
        with pytest.raises(Unreachable, match="not public"):
            post(f"https://{host}/", b"", {}, Settings(webhook_secret=SECRET))
    assert asked == list(answers) and connected == []
