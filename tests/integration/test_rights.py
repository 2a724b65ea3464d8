"""`digitq config --check` knows what the users of `deploy/users.acl` need, and names what is missing."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared import ROOT
from shared.redis_server.rights import DIRECT, NEEDED, missing
from shared.redis_server.server_report import report
from shared.settings import Settings
from shared.standalone.embedded_server import server_binary
from tests.sides import Sides, served

PARTS = {"producer": "web process", "worker": "worker"}
#: What is not tried: it belongs to opening and closing a connection or a transaction.
IMPLIED = {"select", "client", "multi", "exec", "discard", "watch", "unwatch", "subscribe", "unsubscribe",
           "psubscribe", "punsubscribe"}  # fmt: skip


@pytest.fixture(scope="module")
def sides() -> Iterator[Sides]:
    with tempfile.TemporaryDirectory(prefix="digitq-") as name, served(Path(name), server_binary()) as sides:
        yield sides


def words_of(user: str) -> list[str]:
    """The words of a user of the template, with the lines of one user joined."""
    text = (ROOT / "deploy" / "users.acl").read_text().replace("\\\n", " ")
    [line] = [line for line in text.splitlines() if line.startswith(f"user {user} ")]
    return [word for word in re.split(r"[\s()]+", line) if word]


@pytest.mark.parametrize("user", PARTS)
def test_every_command_and_key_of_the_template_is_tried(user: str) -> None:
    words, tried = words_of(user), [*DIRECT, *NEEDED[PARTS[user]]]
    allowed = {word[1:].partition("|")[0] for word in words if word.startswith("+") and word != "+@all"}
    assert allowed - IMPLIED == {command[0].lower() for command in tried} - IMPLIED
    patterns = {re.sub(r"^(%R)?~", "", word) for word in words if word.startswith(("~", "%R~"))}
    keys = [command[1] for command in tried if len(command) > 1]
    assert [one for one in patterns if not any(key.startswith(one.rstrip("*")) for key in keys)] == []


@pytest.mark.parametrize("user", PARTS)
def test_a_user_of_the_template_misses_nothing_for_its_part(user: str, sides: Sides) -> None:
    assert missing(getattr(sides, user).client, PARTS[user]) == []
    assert missing(sides.operator, PARTS[user]) == []
    sides.operator.acl_log_reset()


@pytest.mark.parametrize("user", PARTS)
def test_each_command_that_is_taken_from_a_user_is_named(user: str, sides: Sides) -> None:
    commands = [word[1:] for word in words_of(user) if re.fullmatch(r"\+[a-z|]+", word)]
    unseen = []
    for command in commands:
        if command in (*IMPLIED - {"multi", "subscribe", "watch", "unwatch"}, "ping"):
            continue
        sides.operator.execute_command("ACL", "SETUSER", user, f"-{command}")
        try:
            found = missing(getattr(sides, user).client, PARTS[user])
        finally:
            sides.operator.execute_command("ACL", "SETUSER", user, f"+{command}")
        if not any(one.lower().startswith(command.replace("|", " ")) for one in found):
            unseen.append(command)
    assert unseen == []


def test_trying_changes_nothing(sides: Sides) -> None:
    sides.operator.flushall()
    for part in NEEDED:
        missing(sides.operator, part)
    assert sides.operator.dbsize() == 0


def test_the_report_says_whom_a_user_can_serve(sides: Sides) -> None:
    path = sides.operator.connection_pool.connection_kwargs["path"]

    def found(user: str, password: str) -> dict[str, str]:
        settings = Settings(redis_url=f"unix://{user}:{password}@{path}", queue_max_bytes=1024)
        return {one.code: one.what for one in report(settings)}

    assert "can serve a web process, and no worker" in found("producer", "producer")["rights_of_one_part"]
    assert "can serve a worker, and no web process" in found("worker", "worker")["rights_of_one_part"]
    assert found("operator", "o") == {}
    sides.operator.execute_command("ACL", "SETUSER", "poor", "on", ">p", "~rq:*", "&*", "+@all", "-@dangerous", "+info")
    assert "rights_missing" in found("poor", "p")
    sides.operator.execute_command("ACL", "SETUSER", "none", "on", ">p", "~*", "&*", "-@all", "+ping")
    assert set(found("none", "p")) == {"info_denied", "rights_missing"}
