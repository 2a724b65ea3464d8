"""The commands that count in tests of scripts."""

from __future__ import annotations

#: Put in front of a script: its `redis.call` fails where the count in `test:left` comes down to 0, once or, where the
#: word LASTING is true, to the end of the script.
COUNTED = """
local server, failing = redis, false
local function fails()
  local now = failing or server.call('DECR', 'test:left') == 0
  failing = now and LASTING
  return now
end
local redis = setmetatable({
  call = function(...)
    if fails() then error({err = 'ERR injected'}) end
    return server.call(...)
  end,
  pcall = function(...)
    if fails() then return {err = 'ERR injected'} end
    return server.pcall(...)
  end,
}, {__index = server})
"""
