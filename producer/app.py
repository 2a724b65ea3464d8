"""The web application: Flask, stateless, any number of processes."""

from __future__ import annotations

from flask import Flask

from producer import api, health, pages, problems
from producer.waiting import Waiters
from shared.settings import Settings
from shared.store import Store, connect

#: What a multipart body may have beyond the picture itself.
FORM_OVERHEAD_BYTES = 64 * 1024
#: Threads that are never given to waiting requests, so that uploads and polls always find one.
FREE_THREADS = 4


def create_app(store: Store | None = None) -> Flask:
    """The application; tests pass a store of their own."""
    if store is None:
        settings = Settings.from_env()
        store = Store(connect(settings.redis_url), settings)
    settings = store.settings
    app = Flask(__name__)
    app.url_map.merge_slashes = False  # it would redirect, with a page
    app.config["MAX_CONTENT_LENGTH"] = settings.max_upload_bytes + FORM_OVERHEAD_BYTES
    app.extensions["digitq_store"] = store
    app.extensions["digitq_waiters"] = Waiters(store, max(1, settings.web_threads - FREE_THREADS))
    problems.init_app(app, settings)
    for room in (api, health, pages):
        app.register_blueprint(room.bp)
    return app
