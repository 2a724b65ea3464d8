"""The fault `evict`: Redis gets an eviction policy that would delete accepted pictures."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from contextlib import suppress

import redis

from verify.ledger import MARGIN_SECONDS, Finding
from verify.means import Scene, configured
from verify.stack import Stack

POLICY = "maxmemory-policy"


def evict(scene: Scene) -> float:
    """Give the server an eviction policy: uploads must be refused, and accepted pictures must end."""
    with configured(scene.stack, POLICY, "allkeys-lru", "noeviction"):
        if not _noticed(scene.stack, scene.patience):
            what = f"after {scene.patience:.0f} s /readyz does not say that the server would evict"
            scene.ledger.unexpected.append(Finding("unexpected", "evict", what))
        noticed_at = time.time()
        scene.last(1, 3, hinders=False)
        if _has_policy(scene.stack, "allkeys-lru"):  # a server killed in a pair has its own policy again
            for entry in list(scene.ledger.entries.values()):
                if entry.tried_at >= noticed_at + MARGIN_SECONDS:
                    found = Finding("unexpected", entry.id, "was accepted by a server that would evict it")
                    scene.ledger.unexpected.append(found)
    return time.time()


def _noticed(stack: Stack, patience: float) -> bool:
    end = time.monotonic() + patience
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"{stack.url}/readyz", timeout=5):
                pass
        except urllib.error.HTTPError as error:
            with error, suppress(ValueError):
                if json.load(error).get("code") == "redis_misconfigured":
                    return True
        except OSError:
            pass
        if not _has_policy(stack, "allkeys-lru"):
            return True
        time.sleep(0.1)
    return False


def _has_policy(stack: Stack, policy: str) -> bool:
    with suppress(redis.RedisError):
        return bool(stack.client.info("memory")["maxmemory_policy"] == policy)
    return True
