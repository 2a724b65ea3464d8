"""Flask and dramatiq. Requests wait as usual in dramatiq: `get_result` blocks on the result's list in Redis."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from typing import Any

import dramatiq  # type: ignore[import-not-found]  # it is not among the project's packages
from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found]
from dramatiq.results import Results  # type: ignore[import-not-found]
from dramatiq.results.backends import RedisBackend  # type: ignore[import-not-found]
from flask import Flask, request

app = Flask(__name__)
broker = RedisBroker(url=os.environ["REDIS_URL"])
broker.add_middleware(Results(backend=RedisBackend(url=os.environ["REDIS_URL"]), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor  # type: ignore[untyped-decorator]
def classify(image: str) -> int:
    from benchmarks.servers import model

    return model.digit(b64decode(image))


@app.post("/v1/predictions")
def predict() -> dict[str, Any]:
    message = classify.send(b64encode(request.get_data()).decode())
    return {"digit": message.get_result(block=True, timeout=20_000)}
