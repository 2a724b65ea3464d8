"""A Redis inside the test process: fakeredis, with what our scripts and checks of the server need beside it.

It has no memory limit, commandstats, MONITOR or OBJECT, and BLMOVE on an empty list answers at once instead of
blocking. Tests that need those use a real server.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import redis
from fakeredis import FakeRedisConnection
from fakeredis._commands import command
from fakeredis._helpers import SimpleError
from fakeredis._socket import FakeSocket
from fakeredis.model import is_write_command

from shared.connections.pools import Pool

URL = "unix:///fake/redis.sock"
INFO = "redis_version:8.0.0\r\nredis_mode:standalone\r\nrole:master\r\nconnected_slaves:0\r\n" \
    "used_memory:1000000\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\naof_enabled:0\r\n"  # fmt: skip

#: Errors as Redis has them: a table where a script raises or answers one, its text where `pcall` catches it. fakeredis
#: has Python's exceptions.
ERRORS = """
local command, catch = redis.pcall, pcall
redis.call = function(...)
  local reply = command(...)
  if type(reply) == 'table' and reply.err then error(reply) end
  return reply
end
pcall = function(...)
  local caught = {catch(...)}
  local why = caught[2]
  if not caught[1] and type(why) == 'table' and why.err then return false, why.err end
  return unpack(caught, 1, table.maxn(caught))
end
"""
#: Around a script: the handling of an error that it does not catch.
BEFORE, AFTER = (
    b"local done, answer = xpcall(function() ",
    b"""
end, function(why) return why end)
if done then return answer end
return type(answer) == 'table' and answer or {err = 'ERR ' .. tostring(answer)}
""",
)


class Socket(FakeSocket):
    """One connection's side of the fake server."""

    _read_only = False
    #: Readable while there is a response: both ends of a pipe, once somebody waits for it in `select`.
    _pipe: tuple[int, int] | None = None

    def eval(self, script: bytes, numkeys: int, *keys_and_args: bytes) -> Any:
        """Run a script. Its `#!lua` line, which fakeredis does not know, may say `flags=no-writes`."""
        shebang, _, body = script.partition(b"\n") if script.startswith(b"#!lua") else (b"", b"", script)
        self._read_only = b"no-writes" in shebang
        # On the first line, so that errors name the line of the script.
        return super().eval(BEFORE + b"\n" + body + AFTER, numkeys, *keys_and_args)

    def _get_server_runtime(self, server: Any) -> Any:
        new = not hasattr(server, "_lua_runtime")
        runtime = super()._get_server_runtime(server)
        if new:
            runtime.execute(ERRORS)
        return runtime

    def _lua_redis_call(self, runtime: Any, expected: set[Any], op: bytes, *args: Any) -> Any:
        if self._read_only and is_write_command(op.lower()):
            raise SimpleError("ERR Write commands are not allowed from read-only scripts.")
        return super()._lua_redis_call(runtime, expected, op, *args)

    def _lua_redis_pcall(self, runtime: Any, expected: set[Any], op: bytes, *args: Any) -> Any:
        try:
            return self._lua_redis_call(runtime, expected, op, *args)
        except SimpleError as error:
            return runtime.table_from({b"err": error.value.encode()})

    def fileno(self) -> int:
        if self._pipe is None:
            self._pipe = os.pipe()
            os.set_blocking(self._pipe[0], False)
            os.write(self._pipe[1], bytes(self.responses.qsize() if self.responses else 0))
        return self._pipe[0]

    def put_response(self, msg: Any) -> None:
        super().put_response(msg)
        if self._pipe and self.responses:
            os.write(self._pipe[1], b"x")

    def taken(self, most: int = 1) -> None:
        """Note that a response was read, or that there is none."""
        with suppress(BlockingIOError):
            if self._pipe:
                os.read(self._pipe[0], most)

    def close(self) -> None:
        super().close()
        if self._pipe:
            for end in self._pipe:
                os.close(end)
            self._pipe = None

    @command(name="INFO", fixed=(), repeat=(bytes,))
    def info(self, *sections: bytes) -> bytes:
        return INFO.encode()


class Connection(FakeRedisConnection):
    """A connection to the fake server of its URL."""

    def _connect(self) -> Any:
        return Socket(
            self._server, self.db, client_class=self._client_class, lua_modules=self._lua_modules,
            client_info=self._client_info,
        )  # fmt: skip

    def read_response(self, **options: Any) -> Any:
        if options.get("timeout") == 0 and self._sock and self._sock.responses.empty():
            self._sock.taken(4096)
            if self._sock.responses.empty():
                raise redis.TimeoutError("Timeout reading from socket")
        try:
            return super().read_response(**options)
        finally:
            if self._sock:
                self._sock.taken()


class FakePool(Pool):
    """The replacement for the pool of connections to a server."""

    @classmethod
    def from_url(cls, url: str, **options: Any) -> FakePool:
        pool = super().from_url(url, **options)
        pool.connection_class = Connection
        return pool
