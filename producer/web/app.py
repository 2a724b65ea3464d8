"""Assembles the web application: Flask for routing, forms, templates and pages, and the state behind it."""

from __future__ import annotations

import gzip
from functools import lru_cache

from flask import Flask, current_app

from producer.middleware import metrics
from producer.middleware.access import Access
from producer.middleware.request import Request, add_request_id
from producer.middleware.responses import Response, from_werkzeug
from producer.serving.adapter import Application
from producer.serving.server import Process
from producer.serving.waiting import Waiting
from producer.web import batches, docs, events, pages, predictions, status
from producer.web.services import Services
from producer.webhooks.delivery import Deliverer
from shared.batches import Batches
from shared.history import History
from shared.runtime import logs, tracing
from shared.settings import Settings
from shared.store import Store, connect

#: Connections to Redis beyond one for each thread: for the subscription, coalesced calls and webhooks.
SPARE_CONNECTIONS = 32
#: Static files that become smaller by compression.
TEXTS = frozenset({"text/javascript", "text/css", "image/svg+xml"})


def application() -> Process:
    """Return what the server calls, in each of its processes."""
    settings = Settings.from_env()
    logs.configure(settings, add_request_id)
    tracing.start("digitq-web")
    return Process(create_app(store_of(settings)))


def store_of(settings: Settings) -> Store:
    """Return a store with a connection for each thread of a web process."""
    return Store(connect(settings.redis_url, connections=settings.web_threads + SPARE_CONNECTIONS), settings)


def create_app(store: Store) -> Application:
    """Return the application of one process."""
    store.refuses_unsafe = True
    services = create_services(store)
    flask = create_flask(store.settings, services.access.keyed)
    return Application(flask, services)


def create_services(store: Store) -> Services:
    """Return the state of one process; threads start on first use."""
    waiting = Waiting(store)
    return Services(
        settings=store.settings,
        store=store,
        batches=Batches(store),
        history=History(store),
        waiting=waiting,
        events=events.Events(store, waiting),
        webhooks=Deliverer(store),  # started by the server
        access=Access(store.settings),
        fleet=metrics.fleet_registry(store),
        key_form=pages.key_form,
        error_page=pages.error_page,
    )


def create_flask(settings: Settings, keyed: bool) -> Flask:
    """Return the Flask application. Its views take the request, and are called by the pipeline alone."""
    flask = Flask(__name__)
    flask.request_class = Request
    flask.url_map.merge_slashes = False  # it would redirect, with a page
    for module in (predictions, batches, docs, events, status, pages):
        flask.register_blueprint(module.bp)
    flask.view_functions["static"] = static  # type: ignore[assignment]
    kept = pages.duration(settings.result_ttl_seconds)
    flask.jinja_env.globals.update(root=settings.root_path, keyed=keyed, kept=kept)
    return flask


def static(request: Request, filename: str) -> Response:
    """A file of the page; text is compressed for browsers, to a third."""
    response = current_app.send_static_file(filename)
    if response.status_code == 200 and response.mimetype in TEXTS:
        response.vary.add("Accept-Encoding")
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            response.direct_passthrough = False
            response.set_data(compressed(response.get_data()))
            response.content_encoding = "gzip"
            response.set_etag(response.get_etag()[0] or "", weak=True)  # the same file, in other bytes
    return from_werkzeug(response, request)


@lru_cache(maxsize=128)
def compressed(text: bytes) -> bytes:
    """A file as gzip."""
    return gzip.compress(text, mtime=0)
