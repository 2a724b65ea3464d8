"""Both sides with the users of deploy/users.acl."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import redis
import yaml

from shared import ROOT
from shared.settings import Settings
from shared.store import Store, connect


class Sides(NamedTuple):
    operator: redis.Redis
    producer: Store
    worker: Store


def compose() -> dict[str, Any]:
    """The services of the compose file, with an operator."""
    words = {"REDIS_OPERATOR_PASSWORD": "o"}
    text = (ROOT / "docker-compose.yml").read_text()
    filled = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda found: words.get(found[1], found[2]), text)
    return dict(yaml.safe_load(filled)["services"])


@contextmanager
def served(folder: Path, binary: str) -> Iterator[Sides]:
    """Redis, web and worker by the command and the URLs of the compose file. In the end Redis is killed."""
    services, path = compose(), folder / "redis.sock"
    (folder / "redis-server").unlink(missing_ok=True)
    (folder / "redis-server").symlink_to(binary)
    places = {"/etc/digitq/redis-with-users": str(ROOT / "deploy" / "redis-with-users"), "/data": str(folder)}
    command = [places.get(word, word) for word in services["redis"]["command"]]
    env = {**os.environ, **services["redis"]["environment"], "TMPDIR": str(folder)}
    env["PATH"] = f"{folder}:{env['PATH']}"
    server = subprocess.Popen([*command, "--port", "0", "--unixsocket", path], env=env, stdout=subprocess.DEVNULL)
    urls = ["redis://operator:o@", *(services[part]["environment"]["REDIS_URL"] for part in ("web", "worker"))]
    clients = [connect(f"unix{url.removeprefix('redis').rpartition('@')[0]}@{path}", timeout=5) for url in urls]
    settings = Settings(lease_seconds=1.0, webhook_secret="whsec_" + "A" * 43 + "=")
    try:
        until_it_answers(clients[0])
        yield Sides(clients[0], Store(clients[1], settings), Store(clients[2], settings))
    finally:
        for client in clients:
            client.close()
        server.kill()
        server.wait()


def until_it_answers(client: redis.Redis) -> None:
    for _ in range(200):
        with suppress(redis.ConnectionError):
            client.ping()
            return
        time.sleep(0.02)
    raise RuntimeError("no server")
