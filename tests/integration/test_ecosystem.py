"""Other tools on our queues: rq's commands, rq-dashboard, redis-cli, and a worker with another model."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner
from flask.testing import FlaskClient
from PIL import Image
from rq.cli import main as rq_command

from producer import Client, Queue
from shared import ROOT
from shared.prediction import State
from shared.store import Store
from tests.pictures import seven
from tests.stack import Stack
from tests.working import burst

PROTOCOL = (ROOT / "shared" / "README.md").read_text()
DAMAGED = seven(200)[:-60]


def rq(words: str, url: str) -> str:
    """Run a command that the protocol documents, and give what it prints."""
    assert f"\nrq {words} -u redis://…" in PROTOCOL
    done = CliRunner().invoke(rq_command, [*shlex.split(words), "-u", url])
    assert done.exit_code == 0, done.output
    return done.output


def in_state(stack: Stack, state: str) -> None:
    end = time.monotonic() + 30
    while rq("info", stack.redis_url).count(f": {state} digitq-high, digitq, digitq-low.") < 2:
        assert time.monotonic() < end, f"the workers are not {state}"
        time.sleep(0.1)


# ---------------------------------------------------------------------- rq


def test_rq_suspend_holds_pictures_back_until_rq_resume(stack: Stack) -> None:
    in_state(stack, "idle")
    rq("suspend", stack.redis_url)
    try:
        in_state(stack, "suspended")
        with Client(stack.url) as client:
            held = client.submit(seven())
            assert client.get(held.id, wait=0.3).state is State.QUEUED
            assert re.search(r"^digitq +\|.* 1, 0 executing", rq("info", stack.redis_url), re.MULTILINE)
            rq("resume", stack.redis_url)
            assert client.get(held.id, wait=20).digit == 7
    finally:
        rq("resume", stack.redis_url)


def test_rq_requeue_runs_what_has_failed_again(store: Store, redis_url: str) -> None:
    id = store.submit(b"undecodable").id
    burst(store)
    before = store.fetch(id)
    assert "Requeueing 1 jobs" in rq("requeue --queue digitq --all", redis_url)
    assert "1 jobs total" in rq("info", redis_url)
    assert (store.fetch(id).state, store.fetch(id).error) == (State.QUEUED, None)
    burst(store)
    assert "0 jobs total" in rq("info", redis_url)
    again = store.fetch(id)
    assert (
        (again.state, again.error, again.attempt) == (before.state, before.error, 1) == (State.FAILED, again.error, 1)
    )


def test_what_rq_empty_takes_off_is_told_as_lost(store: Store, redis_url: str) -> None:
    id = store.submit(seven()).id
    assert "1 jobs removed" in rq("empty -S json digitq", redis_url)
    found = store.fetch(id)
    assert (found.state, (found.error or {})["code"]) == (State.FAILED, "lost")


# ---------------------------------------------------------------------- rq-dashboard


@pytest.fixture(scope="module")
def dashboard(stack: Stack) -> FlaskClient:
    """As `rq-dashboard --json --redis-url …` sets it up."""
    from rq_dashboard import cli, web

    app = cli.make_flask_app(None, None, None, "")
    app.config["RQ_DASHBOARD_REDIS_URL"] = stack.redis_url
    web.config.serializer = cli.JSONSerializer
    web.setup_rq_connection(app)
    return app.test_client()


def test_rq_dashboard_shows_queues_workers_and_jobs(stack: Stack, dashboard: FlaskClient) -> None:
    with Client(stack.url) as client:
        read, failed = client.wait([client.submit(seven(), "im7.png"), client.submit(DAMAGED)])
    [queue] = [one for one in json_of(dashboard, "queues") if one["name"] == "digitq"]
    assert queue["finished_job_registry_count"] >= 1 and queue["failed_job_registry_count"] >= 1
    assert {tuple(one["queues"]) for one in json_of(dashboard, "workers")} == {("digitq-high", "digitq", "digitq-low")}
    listed = {one["id"]: one["description"] for one in json_of(dashboard, "jobs", "/digitq/finished/99/dsc/1")}
    assert listed[read.id] == f"digitq.tasks.classify('{read.id}')"
    assert json_of(dashboard, f"job/{read.id}", key="result")["digit"] == 7
    assert "UndecodableImage" in json_of(dashboard, f"job/{failed.id}", key="exc_info")
    for page in ("/", "/0/view/workers", "/0/view/jobs", f"/0/view/job/{read.id}"):
        assert dashboard.get(page).status_code == 200


def json_of(dashboard: FlaskClient, what: str, path: str = "", key: str = "") -> Any:
    response = dashboard.get(f"/0/data/{what}{path}.json")
    assert response.status_code == 200
    return response.get_json()[key or what]


# ---------------------------------------------------------------------- redis-cli


def test_results_can_be_read_with_redis_cli(stack: Stack) -> None:
    with Client(stack.url) as client, redis.Redis.from_url(stack.redis_url) as server:
        one, batch = client.submit(seven(), "im7.png").wait(10), client.submit_batch([seven()] * 2).wait(20)
        documented = re.findall(r"^redis-cli ([A-Z].*?)(?: +#|$)", PROTOCOL, re.MULTILINE)
        said = {}
        for words in documented:
            id = batch.id if re.search("batch|results", words) else one.id
            if not words.startswith("SUBSCRIBE"):
                said[words] = server.execute_command(*words.replace("ID", id).split(" "))
    assert len(said) == 8
    record = said["HGETALL rq:job:ID"]
    assert (record[b"status"], json.loads(record[b"digitq_about"])["filename"]) == (b"finished", "im7.png")
    assert len(json.loads(record[b"digitq_found"])["probabilities"]) == 10 and record[b"ended_at"].endswith(b"Z")
    assert json.loads(said["HGET rq:job:ID digitq_found"])["digit"] == 7
    assert one.id.encode() in said["ZREVRANGE digitq:recent 0 9"]
    assert said["HGETALL digitq:batch:ID"][b"succeeded"] == b"2"
    assert b"rows:0" in said["HKEYS digitq:results:ID-0"]
    assert [row[0] for row in json.loads(said["HGET digitq:results:ID-0 rows:0"]).values()] == [7, 7]
    assert json.loads(said["GET digitq:model"])["version"]


# ---------------------------------------------------------------------- a model of one's own


def test_the_example_of_another_model_in_forty_lines_works(
    store: Store, redis_url: str, cli_env: dict[str, str], tmp_path: Path
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", (ROOT / "worker" / "README.md").read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 40
    (tmp_path / "colours.py").write_text(code)
    worker = subprocess.Popen([sys.executable, "colours.py"], cwd=tmp_path, env={**cli_env, "PYTHONPATH": str(ROOT)})
    try:
        with Queue(redis_url) as queue:
            colours = [queue.submit(painted(colour), f"{colour}.png") for colour in ("red", "white", "#0000f0")]
            bad = queue.submit(DAMAGED)
            ended = queue.wait([*colours, bad], timeout=60)
        names = store.model_card()["classes"]
        assert [names[one.digit] for one in ended[:3]] == ["red", "white", "blue"]
        assert [one.decision for one in ended[:3]] == ["accept"] * 3
        assert ended[3].error["code"] == "undecodable_image"
        assert {one.batch["size"] for one in ended if one.batch} != {1}
        assert store.model_input(ended[0].id) == bytes([76]) * 784
    finally:
        worker.terminate()
        assert worker.wait(20) == 0


def painted(colour: str) -> bytes:
    out = BytesIO()
    Image.new("RGB", (40, 40), colour).save(out, "PNG")
    return out.getvalue()
