"""Planted bug: the claim takes pictures off the queue before its last check.

If the check fails, because memory is full, they are started without a lease.
"""

from __future__ import annotations

from shared import redis_scripts
from shared.settings import Settings

BEFORE = """
local server, leases = redis, {}
local redis = setmetatable({call = function(...)
  local command, key = ...
  if command ~= 'ZADD' or string.sub(key, 1, 7) ~= 'rq:wip:' then return server.call(...) end
  leases[#leases + 1] = {...}
  return 0
end}, {__index = server})

local function claim()
"""
AFTER = """
end

local claimed = claim()
local info = redis.call('INFO', 'memory')
local limit = tonumber(string.match(info, 'maxmemory:(%d+)'))
if limit > 0 and tonumber(string.match(info, 'used_memory:(%d+)')) > limit then error('memory is full') end
for _, lease in ipairs(leases) do server.call(unpack(lease)) end
return claimed
"""

_source = redis_scripts.source


def half_checked(name: str) -> str:
    """Return the script; the claim has its last check too late."""
    text = _source(name)
    if name != "claim":
        return text
    shebang, _, body = text.partition("\n")
    return f"{shebang}{BEFORE}{body}{AFTER}"


def main() -> None:
    """Run like `digitq worker`."""
    from worker.service import serve

    redis_scripts.source = half_checked  # type: ignore[assignment]
    serve(Settings.from_env())


if __name__ == "__main__":
    main()
