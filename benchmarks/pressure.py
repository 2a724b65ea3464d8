"""Clients at full speed, and the final state of everything accepted."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.http1 import Connection, Reply, request

#: Seconds until a retry: of a client that ignores `Retry-After`, and after a failed connection.
IMPATIENT_SECONDS, AWAY_SECONDS = 0.1, 0.2
#: Timeout of a request in seconds, longer than the longest long poll.
ANSWER_SECONDS = 40.0


@dataclass
class Refusals:
    """A run of 503 responses to one client, without any other response in between."""

    first: float
    last: float
    count: int = 1


@dataclass
class Notes:
    """The answers. Times are Unix seconds."""

    #: Id -> time of acceptance; id -> time at which a response or an event reported its end.
    accepted: dict[str, float] = field(default_factory=dict)
    ended: dict[str, float] = field(default_factory=dict)
    states: Counter[str] = field(default_factory=Counter)
    answers: Counter[str] = field(default_factory=Counter)
    #: Times and causes of the 503s.
    refused: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    runs: list[Refusals] = field(default_factory=list)
    #: Finished and evicted before the client could read the result (410 while polling).
    missed: Counter[str] = field(default_factory=Counter)

    def end(self, id: str, state: str) -> None:
        """Record an end, once."""
        if id not in self.ended:
            self.ended[id] = time.time()
            self.states[state] += 1


class Pressure:
    """Clients that upload one picture after another. Half of them wait for each result, half never do.

    In each half every second one ignores `Retry-After`.
    """

    def __init__(self, url: str, bodies: list[bytes], notes: Notes) -> None:
        parts = urlsplit(url)
        self._address, self._host = (parts.hostname or "", parts.port or 80), parts.netloc
        self._bodies, self.notes, self._stop = bodies, notes, False

    async def press(self, clients: int, seconds: float) -> None:
        """Run the clients for `seconds`."""
        tasks = [asyncio.create_task(self._client(number)) for number in range(clients)]
        await asyncio.sleep(seconds)
        self._stop = True
        await asyncio.gather(*tasks)

    async def look(self, ids: list[str], clients: int = 16) -> None:
        """Poll each id whose end is unknown."""
        left = iter(ids)

        async def some() -> None:
            connection: Connection | None = None
            for id in left:
                connection = await self._follow(connection, id)

        await asyncio.gather(*(some() for _ in range(clients)))

    async def _client(self, number: int) -> None:
        dice, connection, run = random.Random(number), None, None
        waits, patient = number % 2 == 0, number % 4 < 2
        headers = ("Content-Type: image/png", *(("Prefer: wait=20",) if waits else ()))
        posts = [request("POST", self._host, "/v1/predictions", body, headers) for body in self._bodies]
        while not self._stop:
            try:
                connection = connection or await self._connect()
                reply = await asyncio.wait_for(connection.ask(dice.choice(posts)), ANSWER_SECONDS)
            except (OSError, TimeoutError) as error:
                self.notes.answers[type(error).__name__] += 1
                connection, run = None, None
                await asyncio.sleep(AWAY_SECONDS)
                continue
            run = self._note(reply, run)
            if reply.status in (200, 202):
                id = json.loads(reply.body)["id"]
                if waits and reply.status == 202:
                    connection = await self._follow(connection, id)
            else:
                told = float(json.loads(reply.body).get("retry_after_seconds") or 0)
                await asyncio.sleep(told + dice.uniform(0, 0.2) if patient else IMPATIENT_SECONDS)
        if connection:
            connection.close()

    def _note(self, reply: Reply, run: Refusals | None) -> Refusals | None:
        now, notes = time.time(), self.notes
        notes.answers[str(reply.status)] += 1
        if reply.status == 503:
            notes.refused.append(now)
            notes.reasons[json.loads(reply.body)["detail"]] += 1
            if run:
                run.last, run.count = now, run.count + 1
                return run
            notes.runs.append(Refusals(now, now))
            return notes.runs[-1]
        if reply.status in (200, 202):
            answer = json.loads(reply.body)
            notes.accepted.setdefault(answer["id"], now)
            if answer.get("finished_at"):
                notes.end(answer["id"], answer["state"])
        return None

    async def _follow(self, connection: Connection | None, id: str) -> Connection | None:
        """Poll a prediction until it has finished."""
        look = request("GET", self._host, f"/v1/predictions/{id}?wait=10")
        while True:
            try:
                connection = connection or await self._connect()
                reply = await asyncio.wait_for(connection.ask(look), ANSWER_SECONDS)
            except (OSError, TimeoutError):
                connection = None
                await asyncio.sleep(AWAY_SECONDS)
                continue
            answer = json.loads(reply.body)
            if reply.status == 200 and answer.get("finished_at"):
                self.notes.end(id, answer["state"])
                return connection
            if reply.status in (404, 410):
                self.notes.missed[answer["code"]] += 1
                self.notes.states.setdefault(answer["code"], 0)
                if id not in self.notes.ended:
                    self.notes.end(id, answer["code"])
                return connection
            if reply.status == 503 or self._stop:
                await asyncio.sleep(AWAY_SECONDS)

    async def _connect(self) -> Connection:
        return (await asyncio.get_running_loop().create_connection(Connection, *self._address))[1]
