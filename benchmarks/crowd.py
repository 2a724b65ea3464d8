"""Independent clients that each send one picture, and wait for its result if it is accepted."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from benchmarks.client import arrivals
from benchmarks.http1 import Connection, Reply, request
from benchmarks.tally import percentiles

#: Seconds to wait for results after the last picture.
PATIENCE_SECONDS = 60.0


@dataclass
class Books:
    """The requests and their results."""

    answers: Counter[str] = field(default_factory=Counter)
    #: `Retry-After` of the refused, in seconds; 0 if missing.
    told: list[int] = field(default_factory=list)
    #: Seconds until the 202 or the refusal, and from the intended start to the result.
    answered: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)

    def result(self) -> dict[str, Any]:
        """Return the figures; times in ms, `told` in seconds."""
        accepted = self.answers["202"]
        return {
            "sent": sum(self.answers.values()), "answers": dict(self.answers), "states": dict(self.states),
            "lost": accepted - sum(self.states.values()),
            "answer_ms": percentiles([1000 * one for one in self.answered]),
            "end_ms": percentiles([1000 * one for one in self.ended]),
            "told_s": dict(sorted(Counter(self.told).items())),
        }  # fmt: skip


class Crowd:
    """Clients that send one picture each."""

    def __init__(self, url: str, body: bytes) -> None:
        parts = urlsplit(url)
        self._address, self._host = (parts.hostname or "", parts.port or 80), parts.netloc
        self._post = request("POST", self._host, "/v1/predictions", body, ("Content-Type: image/png",))
        self._idle: list[Connection] = []
        self.books = Books()

    async def come(self, rate: float, seconds: float) -> None:
        """Send `rate` pictures a second, and wait until all have ended."""
        start, tasks = time.time(), []
        for meant in arrivals(start, start + seconds, rate, seed=1):
            if (ahead := meant - time.time()) > 0:
                await asyncio.sleep(ahead)
            tasks.append(asyncio.create_task(self._one(meant)))
        _, late = await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, meant: float) -> None:
        try:
            reply = await self._ask(self._post)
        except OSError as error:
            self.books.answers[type(error).__name__] += 1
            return
        self.books.answers[str(reply.status)] += 1
        self.books.answered.append(time.time() - meant)
        if reply.status == 202:
            await self._follow(reply.location, meant)
        else:
            self.books.told.append(int(json.loads(reply.body).get("retry_after_seconds") or 0))

    async def _follow(self, path: str, meant: float) -> None:
        """Wait for the result, by long polls where possible, else by polling."""
        look = request("GET", self._host, f"{path}?wait=10")
        while True:
            try:
                reply = await self._ask(look)
            except OSError:
                continue
            answer = json.loads(reply.body)
            if answer.get("finished_at"):
                self.books.states[answer["state"]] += 1
                self.books.ended.append(datetime.fromisoformat(answer["finished_at"]).timestamp() - meant)
                return
            if reply.status not in (200, 503):  # missing: lost
                return
            await asyncio.sleep(0.25)

    async def _ask(self, words: bytes) -> Reply:
        connection = await self._connection()
        reply = await connection.ask(words)
        self._idle.append(connection)
        return reply

    async def _connection(self) -> Connection:
        """Return a connection that the server has not closed; it closes idle ones after half a minute."""
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        return (await asyncio.get_running_loop().create_connection(Connection, *self._address))[1]
