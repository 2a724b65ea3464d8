"""`digitq config --check`: everything that can be known of the server that REDIS_URL names."""

from __future__ import annotations

import redis

from shared.connections.connection import SENTINEL, Service, connect, redis_errors
from shared.errors import RedisUnavailable
from shared.redis_server.rights import NEEDED, missing
from shared.redis_server.sentinel_report import look
from shared.redis_server.server_check import read_server
from shared.redis_server.server_findings import ERROR, NOTE, WARNING, Finding, worst_first
from shared.settings import Settings, without_password

#: Seconds that the server, and each sentinel, may take to answer: nobody else waits for the report.
PATIENT_SECONDS = 5.0
#: Missing rights that are named; of a user without any it would be a hundred.
SHOWN = 8


def report(settings: Settings) -> list[Finding]:
    """The findings, the worst first. Raises RedisUnavailable where no server answers."""
    found = _sentinels(settings.redis_url) if settings.redis_url.startswith(f"{SENTINEL}:") else []
    with connect(settings.redis_url, timeout=PATIENT_SECONDS) as client:
        found += read_server(client, settings)
        if not any(one.code in ("too_old", "sentinel", "loading") for one in found):
            found += _rights(client)
    return worst_first(found)


def loses(found: list[Finding]) -> bool:
    """Whether accepted pictures could be lost, or none would be accepted."""
    return any(one.level != NOTE for one in found)


def address(settings: Settings) -> str:
    """Where that is, without a password."""
    return without_password(settings.redis_url)


def _rights(client: redis.Redis) -> list[Finding]:
    """Whether the user may do what a part of digitq needs; a user may be made for one of the two."""
    lacks = {part: missing(client, part) for part in NEEDED}
    user = client.connection_pool.connection_kwargs.get("username") or "default"
    remedy = "give it the rights of deploy/users.acl"
    if not any(lacks.values()):
        return []
    if all(lacks.values()):
        part, words = min(lacks.items(), key=lambda item: len(item[1]))
        what = f"the user {user!r} may not do what a {part} needs: {_listed(words)}"
        return [Finding(ERROR, "rights_missing", what, remedy)]
    [(part, words)] = [(part, words) for part, words in lacks.items() if words]
    able = next(part for part, words in lacks.items() if not words)
    what = f"the user {user!r} can serve a {able}, and no {part}: it may not {_listed(words)}"
    return [Finding(NOTE, "rights_of_one_part", what)]


def _listed(words: list[str]) -> str:
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")


def _sentinels(url: str) -> list[Finding]:
    """Whether the sentinels answer, and name the same primary."""
    service, found, named = Service.parse(url), [], {}
    for (host, port), client in zip(service.sentinels, service.each_sentinel(PATIENT_SECONDS), strict=True):
        try:
            with redis_errors():
                primary = look(client, service.name).primary
            named[f"{host}:{port}"] = f"{primary[0]}:{primary[1]}"
        except (RedisUnavailable, redis.RedisError, KeyError) as error:
            why = error.__cause__ or error
            what = f"the sentinel {host}:{port} does not name a primary of {service.name!r} ({why})"
            found.append(Finding(WARNING, "sentinel_unreachable", what, "start it, or correct REDIS_URL"))
    if len(set(named.values())) > 1:
        says = ", ".join(f"{one} says {primary}" for one, primary in named.items())
        what = f"the sentinels name different primaries: {says}"
        found.append(Finding(ERROR, "sentinels_disagree", what, "look at their logs; a failover may be under way"))
    return found
