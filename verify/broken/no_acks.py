"""Planted bug: the web process accepts pictures without waiting for replicas.

It does not follow the primary either: else it would disconnect before a demotion, and little would be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import redis

from shared.connections.sentinel import Follower
from shared.operations import script_runner
from shared.settings import Settings


def forgetful(client: redis.Redis, write: Callable[[Any], Any], wanted: int) -> Any:
    """Replace `shared.connections.acks.acknowledged`: answer at once."""
    with client.pipeline(transaction=False) as pipeline:
        write(pipeline)
        return pipeline.execute()[0]


# Not in `main`: the server's child processes import this module without running it.
vars(script_runner)["acknowledged"] = forgetful
Follower.drop = lambda self: None  # type: ignore[method-assign]


def main() -> None:
    """Run like `digitq web`."""
    from producer.serving.server import serve

    serve(Settings.from_env())


if __name__ == "__main__":
    main()
