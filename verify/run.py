"""Runs a verification: load, faults, waiting for all ends, judgement."""

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

#: How many seconds the answer of an upload may take.
ANSWER_SECONDS = 0.3
#: Threads that read all ids at the end.
READERS = 16

Say = Callable[[str], None]


def verify(
    client: Client, *, seconds: float, seed: int, rate: float, stack: Stack | None = None, kinds: Sequence[str] = (),
    direct: redis.Redis | None = None, limits: bool = True, patience: float = 30, say: Say = lambda _: None,
) -> Report:  # fmt: skip
    """Load a deployment for a time, or until each kind of fault has been played once, and judge its answers.

    Without a `stack` no faults are played; `direct` is a connection to its Redis, if there is one. `patience` is how
    many seconds the recovery from a fault may take before the next one, and the last pictures after the load.
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
        one.measure(ledger)  # again: now all ends are known, also those of pictures without a waiting client
    findings = ledger.findings()
    if direct:
        findings = [
            one._replace(detail=f"{one.detail} ({audit.record(direct, one.subject)})") if one.what == "lost" else one
            for one in findings
        ]
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
    """Play faults and pairs, each kind once before any is repeated, each after the recovery from the last."""
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
    """Record results that were written twice: once memory is full they may be evicted."""
    found = audit.results(scene.stack.client, list(scene.ledger.entries.values()))
    scene.ledger.unexpected += [finding for finding in found if finding.what == "doubled"]


def _recover(scene: Scene, one: Injection) -> None:
    ledger, end = scene.ledger, time.monotonic() + scene.patience
    time.sleep(ANSWER_SECONDS)
    while (ledger.served_after(one.over) is None or ledger.waiting(one.over)) and time.monotonic() < end:
        time.sleep(0.05)
    one.measure(ledger)
    # Before the next fault everything must run again: a worker takes a while to load its model.
    scene.stack.wait_whole(scene.patience)


def _settle(ledger: Ledger, workload: Workload, stack: Stack | None, patience: float) -> None:
    """Wait for every end, then read each id once more, also of an upload that was accepted after the load."""
    if stack:
        stack.wait_whole(patience)
    end = time.monotonic() + patience
    workload.wait(patience)

    def last_look(entry: Entry) -> None:
        while not entry.settled and time.monotonic() < end:
            workload.look(entry, wait=2)
        workload.look(entry)

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(last_look, list(ledger.entries.values())))
