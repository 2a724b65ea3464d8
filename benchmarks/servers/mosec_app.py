"""mosec: requests wait in memory for one worker that reads them in batches. Nothing survives a crash.

python -m benchmarks.servers.mosec_app --address 127.0.0.1 --port PORT
"""

from __future__ import annotations

from mosec import Server, Worker  # type: ignore[import-not-found]  # it is not among the project's packages

from benchmarks.servers import model

#: The largest batch, as digitq's, and the milliseconds for which one waits for more (the shortest that there are).
BATCH, WAIT_MS = 64, 1


class Digits(Worker):  # type: ignore[misc]  # mosec is not installed where the types are checked
    """Reads digits, decoded plainly."""

    def __init__(self) -> None:
        super().__init__()
        model.load()

    def deserialize(self, data: bytes) -> bytes:
        return data

    def forward(self, data: list[bytes]) -> list[dict[str, int]]:
        return [{"digit": digit} for digit in model.digits(data)]


if __name__ == "__main__":
    server = Server()
    server.append_worker(Digits, max_batch_size=BATCH, max_wait_time=WAIT_MS, timeout=60, route="/v1/predictions")
    server.run()
