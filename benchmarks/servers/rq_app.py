"""Flask and stock RQ. Requests wait as usual in RQ: XREAD blocks on the job's result stream, without polling."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, request
from redis import Redis
from rq import Queue

app = Flask(__name__)
queue = Queue(connection=Redis.from_url(os.environ["REDIS_URL"]))


@app.post("/v1/predictions")
def predict() -> tuple[dict[str, Any], int]:
    job = queue.enqueue("benchmarks.servers.model.digit", request.get_data())
    result = job.latest_result(timeout=20)
    return ({"digit": result.return_value}, 200) if result else ({"error": "timeout"}, 504)
