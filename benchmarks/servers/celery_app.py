"""Flask and Celery. Requests wait as usual in Celery: `get` is notified by pub/sub of its Redis backend."""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from typing import Any

from celery import Celery  # type: ignore[import-not-found]  # it is not among the project's packages
from flask import Flask, request

URL = os.environ["REDIS_URL"].replace("unix://", "redis+socket://")
app = Flask(__name__)
celery = Celery("benchmarks.servers.celery_app", broker=URL, backend=URL)


@celery.task(name="classify")  # type: ignore[untyped-decorator]  # Celery is untyped
def classify(image: str) -> int:
    from benchmarks.servers import model

    return model.digit(b64decode(image))


@app.post("/v1/predictions")
def predict() -> dict[str, Any]:
    return {"digit": classify.delay(b64encode(request.get_data()).decode()).get(timeout=20)}
