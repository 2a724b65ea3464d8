"""One run: load, faults, settling, judgement."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import redis

from producer import Client
from verify import audit
from verify.kinds import KINDS
from verify.ledger import Entry, Ledger
from verify.means import Scene
from verify.pairs import play
from verify.report import Injection, Report
from verify.stack import Stack
from verify.workload import Workload, pictures

#: How long an upload's answer may be on its way.
ANSWER_SECONDS = 0.3
#: Readers of the last look.
READERS = 16

Say = Callable[[str], None]


def verify(
    client: Client, *, seconds: float, seed: int, rate: float, stack: Stack | None = None, kinds: Sequence[str] = (),
    direct: redis.Redis | None = None, limits: bool = True, patience: float = 30, say: Say = lambda _: None,
) -> Report:  # fmt: skip
    """Loads a deployment for so long, or until every kind of fault has come once, and judges what it answered.

    Without a `stack` nothing is broken; `direct` is a way to its Redis, if there is one. `patience` is how long a fault
    may take to be overcome before the next comes, and what was accepted to end after the load, in seconds.
    """
    ledger, start = Ledger(), time.monotonic()
    workload = Workload(client, ledger, pictures(), rate, random.Random(seed))
    injections: list[Injection] = []
    with closing(workload):
        workload.start()
        if stack and kinds:
            injections = _break(Scene(stack, ledger, random.Random(seed + 1), patience), kinds, start, seconds, say)
        time.sleep(max(0.0, start + seconds - time.monotonic()))
        workload.stop()
        say("waiting for the rest")
        _settle(ledger, workload, stack, patience)
    for one in injections:
        one.measure(ledger)  # again: by now all ends are known, also of those that nobody waited for
    findings = ledger.findings()
    if direct:
        findings += audit.results(direct, ledger.entries.values())
    if stack:
        findings += audit.leftovers(stack.client)
    findings = list(dict.fromkeys(findings))
    report = Report(time.monotonic() - start, seed, rate, ledger, findings, injections, limits)
    if stack:
        report.deaths, report.orphans = stack.deaths(), stack.orphans()
    return report


def _break(scene: Scene, kinds: Sequence[str], start: float, seconds: float, say: Say) -> list[Injection]:
    """Fault after fault or pair, each kind once before any comes again, each overcome before the next."""
    injections: list[Injection] = []
    deck: list[str] = []
    while len(injections) < len(kinds) or time.monotonic() < start + seconds:
        time.sleep(scene.dice.uniform(0.5, 1.5))
        deck = deck or scene.dice.sample(kinds, len(kinds))
        kind, at = deck.pop(), time.monotonic() - start
        if not all(KINDS[part].hinders for part in kind.split("+")):
            _look_while_it_is_there(scene)
        over, since = play(kind, scene)
        one = Injection(kind, round(at, 2), over, since=since)
        injections.append(one)
        _recover(scene, one)
        shown = "never" if one.next is None else f"{one.next:.2f} s"
        say(f"{at:6.1f} s  {kind}: next picture after {shown}, all before it after {one.rest:.2f} s")
    return injections


def _look_while_it_is_there(scene: Scene) -> None:
    """Notes what was written twice: once memory is full nobody can see it any more."""
    found = audit.results(scene.stack.client, list(scene.ledger.entries.values()))
    scene.ledger.unexpected += [finding for finding in found if finding.what == "doubled"]


def _recover(scene: Scene, one: Injection) -> None:
    ledger, end = scene.ledger, time.monotonic() + scene.patience
    time.sleep(ANSWER_SECONDS)
    while (ledger.served_after(one.over) is None or ledger.waiting(one.over)) and time.monotonic() < end:
        time.sleep(0.05)
    one.measure(ledger)
    # The next fault shall find everything in its place: a worker takes a while to load its model.
    scene.stack.wait_whole(scene.patience)


def _settle(ledger: Ledger, workload: Workload, stack: Stack | None, patience: float) -> None:
    """Waits for every end, then reads each id once more."""
    if stack:
        stack.wait_whole(patience)
    end = time.monotonic() + patience

    def last_look(entry: Entry) -> None:
        while not entry.settled and time.monotonic() < end:
            workload.look(entry, wait=2)
        workload.look(entry)

    while ledger.waiting(time.time()) and time.monotonic() < end:
        time.sleep(0.1)
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(last_look, list(ledger.entries.values())))
