"""Pictures that crash their worker, and the effect on the rest of the batch and on the workers."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from shared import ROOT
from shared.prediction import Prediction, State
from shared.store import Store
from tests.planted import HARM
from tests.waits import until
from verify.children import Child, Children

MAX_ATTEMPTS = 2


def test_what_kills_its_workers_is_poison_and_its_neighbours_succeed(store: Store, cli_env: dict[str, str]) -> None:
    hasty = Store(store.client, replace(store.settings, job_timeout_seconds=2, max_attempts=MAX_ATTEMPTS))
    ids = {(harm, image): hasty.submit(image).id for harm in HARM for image in (b"1", harm, b"2")}
    with planted(cli_env, DIGITQ_BATCH_MAX_SIZE="3", DIGITQ_MAX_ATTEMPTS=str(MAX_ATTEMPTS)) as workers:
        found = {which: ended(hasty, id) for which, id in ids.items()}
        status_of_each = Counter([status for _, status in HARM.values()] * MAX_ATTEMPTS)
        until(lambda: status_of_each <= Counter(code for one in workers for code in one.deaths), 60)
        afterwards = ended(hasty, hasty.submit(b"7").id)
    for (harm, image), one in found.items():
        if image == harm:
            assert (one.state, one.attempt, (one.error or {})["code"]) == (State.FAILED, MAX_ATTEMPTS, "poison"), harm
        else:
            assert (one.state, one.digit) == (State.SUCCEEDED, int(image)), harm
    assert afterwards.digit == 7


@contextmanager
def planted(cli_env: dict[str, str], **env: str) -> Iterator[list[Child]]:
    """Two workers that pictures can harm, started again whenever they die."""
    with tempfile.TemporaryDirectory(prefix="digitq-") as name:
        env = {
            **cli_env,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": name,
            "DIGITQ_LEASE_SECONDS": "1",
            "DIGITQ_MAX_PIXELS": "784",
        } | env
        children = Children(Path(name))
        command = (sys.executable, "-m", "tests.planted")
        workers = [children.add(Child(f"worker-{number}", command, env, Path(name))) for number in (1, 2)]
        try:
            yield workers
        finally:
            children.close()
            print(*(worker.log.read_text() for worker in workers))


def ended(store: Store, id: str) -> Prediction:
    """The prediction as soon as it has ended."""
    until(lambda: store.fetch(id).state.terminal, 60)
    return store.fetch(id)
