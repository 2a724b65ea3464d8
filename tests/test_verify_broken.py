"""`digitq verify` on workers and web processes that are broken on purpose: red, and for the right reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_verify import verify

pytestmark = pytest.mark.timeout(600)


def test_a_worker_without_a_lease_is_caught(tmp_path: Path, lean_env: dict[str, str]) -> None:
    words = "--worker verify.broken.no_lease --faults kill --patience 6 --workers 1 --rate 40"
    code, report = verify(tmp_path, lean_env, *words.split())
    assert code == 1
    assert report["lost"] > 0


def test_a_worker_that_writes_after_its_lease_is_caught(tmp_path: Path, lean_env: dict[str, str]) -> None:
    # Not every picture can tell: one that its user took back or forgot meanwhile has no second end. So more than one.
    words = ("--worker", "verify.broken.no_fence", "--faults", "pause", "--no-limits", "--seconds", "20")
    code, report = verify(tmp_path, lean_env, *words)
    assert len(report["injections"]) > 1
    assert code == 1
    assert report["doubled"] > 0
    assert report["lost"] == 0


def test_a_recovery_that_a_full_redis_refuses_is_caught(tmp_path: Path, lean_env: dict[str, str]) -> None:
    words = ("--worker", "verify.broken.no_memory", "--faults", "kill+redis-full", "--patience", "12")
    code, report = verify(tmp_path, lean_env, *words)
    assert code == 1
    assert report["lost"] == 0
    assert report["faults"]["kill+redis-full"]["rest"]["max"] > 10


def test_a_claim_that_writes_before_its_last_check_is_caught(tmp_path: Path, lean_env: dict[str, str]) -> None:
    words = ("--worker", "verify.broken.half_claim", "--faults", "kill+redis-full", "--patience", "4")
    code, report = verify(tmp_path, lean_env, *words)
    assert code == 1
    assert report["lost"] > 0


def test_a_web_process_that_does_not_notice_a_deaf_subscription_is_caught(
    tmp_path: Path, lean_env: dict[str, str]
) -> None:
    code, report = verify(tmp_path, lean_env, "--web", "verify.broken.deaf_listener", "--faults", "deaf")
    assert code == 1
    assert ["still not told" in finding["detail"] for finding in report["findings"]] == [True]


def test_acceptance_that_forgets_the_replicas_is_caught(tmp_path: Path, lean_env: dict[str, str]) -> None:
    words = ("--web", "verify.broken.no_acks", "--faults", "demote", "--no-limits", "--workers", "1")
    code, report = verify(tmp_path, lean_env, *words)
    assert code == 1
    assert report["lost"] > 0
