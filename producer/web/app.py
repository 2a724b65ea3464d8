"""The web application: Flask, stateless, any number of processes.

What runs for every upload takes `request` and `g` from their context once, since they are looked up anew with each use,
and headers from the environment, where one that is missing costs no exception.
"""

from __future__ import annotations

from threading import BoundedSemaphore

from flask import Flask

from producer.middleware import access, metrics, problems, trace
from producer.middleware.root_path import RootPath
from producer.serving import downloads
from producer.serving.waiting import Waiters
from producer.uploads.embedded import text_limit
from producer.web import api, batches, docs, events, health, pages
from producer.webhooks.delivery import Deliverer
from shared.batches import Batches
from shared.settings import Settings
from shared.store import Store, connect

#: Threads that are never given to waiting requests, so that uploads and polls always find one.
FREE_THREADS = 4
#: Connections to Redis beyond one for each thread: those that wait for events, coalesce calls and deliver webhooks.
SPARE_CONNECTIONS = 32


def create_app(store: Store | None = None) -> Flask:
    """The application; tests pass a store of their own."""
    if store is None:
        settings = Settings.from_env()
        store = Store(connect(settings.redis_url, connections=settings.web_threads + SPARE_CONNECTIONS), settings)
    settings, store.refuses_unsafe = store.settings, True
    app = Flask(__name__)
    app.url_map.merge_slashes = False  # it would redirect, with a page
    app.config["MAX_CONTENT_LENGTH"] = text_limit(settings)
    app.extensions["digitq_store"] = store
    app.extensions["digitq_waiters"] = waiters = Waiters(
        store, max(1, settings.web_threads - FREE_THREADS - batches.MAX_WAITING)
    )
    app.extensions["digitq_events"] = events.Events(store, waiters)
    app.extensions["digitq_webhooks"] = Deliverer(store)  # started by the server
    app.extensions["digitq_batches"] = Batches(store)
    app.extensions["digitq_batch_room"] = BoundedSemaphore(batches.MAX_WAITING)
    app.extensions["digitq_downloads"] = BoundedSemaphore(downloads.MAX_DOWNLOADS)
    metrics.init_app(app, store)
    problems.init_app(app, settings)
    trace.init_app(app)
    access.init_app(app, settings)
    for room in (api, batches, docs, events, health, metrics, pages):
        app.register_blueprint(room.bp)
    app.jinja_env.globals["root"] = settings.root_path
    if settings.root_path:
        app.wsgi_app = RootPath(app.wsgi_app, settings.root_path)  # type: ignore[method-assign]
    return app
