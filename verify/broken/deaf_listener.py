"""Planted bug: the web process never pings its subscription.

It cannot tell a dead connection from an idle one.
"""

from __future__ import annotations

from shared.connections.liveness import Liveness
from shared.settings import Settings


def never(self: Liveness) -> bool:
    """Return that no PING is due."""
    return False


# Not in `main`: the server's processes import this module without running it.
Liveness.ping_is_due = never  # type: ignore[method-assign]


def main() -> None:
    """Run `digitq web`."""
    from producer.serving.server import serve

    serve(Settings.from_env())


if __name__ == "__main__":
    main()
