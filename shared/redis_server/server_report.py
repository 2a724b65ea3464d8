"""Collects everything that `digitq config --check` can find out about the server that REDIS_URL names."""

from __future__ import annotations

import redis

from shared.connections.connection import SENTINEL, Service, connect
from shared.connections.sentinel_report import Report
from shared.redis_server.rights import NEEDED, missing
from shared.redis_server.server_check import read_server
from shared.redis_server.server_findings import ERROR, NOTE, WARNING, Finding, worst_first
from shared.settings import Settings

#: Timeout in seconds of the server and of each sentinel: no request waits for the report.
PATIENT_SECONDS = 5.0
#: The number of missing rights that are named; a user without any lacks a hundred.
SHOWN = 8


def report(settings: Settings) -> list[Finding]:
    """Return all findings, the worst first. Raises RedisUnavailable if no server answers."""
    found = _sentinels(settings.redis_url) if settings.redis_url.startswith(f"{SENTINEL}:") else []
    with connect(settings.redis_url, timeout=PATIENT_SECONDS) as client:
        found += read_server(client, settings)
        if not any(one.code in ("too_old", "sentinel", "loading") for one in found):
            found += _rights(client)
    return worst_first(found)


def loses(found: list[Finding]) -> bool:
    """Return whether accepted predictions could be lost, or none would be accepted."""
    return any(one.level != NOTE for one in found)


def _rights(client: redis.Redis) -> list[Finding]:
    """Check what the user may do; a user may be meant for one part of digitq alone."""
    lacks = {part: rights for part in NEEDED if (rights := missing(client, part))}
    if not lacks:
        return []
    user = client.connection_pool.connection_kwargs.get("username") or "default"
    part, rights = min(lacks.items(), key=lambda item: len(item[1]))
    listed = ", ".join(rights[:SHOWN]) + (f" and {len(rights) - SHOWN} more" if len(rights) > SHOWN else "")
    able = [one for one in NEEDED if one not in lacks]
    if not able:
        what = f"the user {user!r} may not do what a {part} needs: {listed}"
        return [Finding(ERROR, "rights_missing", what, "give it the rights of deploy/users.acl")]
    what = f"the user {user!r} can serve a {able[0]}, and no {part}: it may not {listed}"
    return [Finding(NOTE, "rights_of_one_part", what)]


def _sentinels(url: str) -> list[Finding]:
    """Check that the sentinels answer and name the same primary."""
    service, found, named = Service.parse(url), [], {}
    for (host, port), said in service.reports(PATIENT_SECONDS):
        if isinstance(said, Report):
            named[f"{host}:{port}"] = f"{said.primary[0]}:{said.primary[1]}"
        else:
            what = f"the sentinel {host}:{port} does not name a primary of {service.name!r} ({said})"
            found.append(Finding(WARNING, "sentinel_unreachable", what, "start it, or correct REDIS_URL"))
    if len(set(named.values())) > 1:
        says = ", ".join(f"{one} says {primary}" for one, primary in named.items())
        what = f"the sentinels name different primaries: {says}"
        found.append(Finding(ERROR, "sentinels_disagree", what, "look at their logs; a failover may be under way"))
    return found
