"""Broken on purpose: the real web process, but it never pings its subscription.

A connection that is open and dead then looks to it as one on which nothing happens.
"""

from __future__ import annotations

from shared.connections.liveness import Liveness
from shared.settings import Settings


def never(self: Liveness) -> bool:
    """No PING is due."""
    return False


# Not in `main`: the server's processes import this module, and run nothing of it.
Liveness.ping_is_due = never  # type: ignore[method-assign]


def main() -> None:
    """Serves as `digitq web` does."""
    from producer.serving.server import serve

    serve(Settings.from_env())


if __name__ == "__main__":
    main()
