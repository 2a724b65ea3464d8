-- Put in front of every other script. Redis's own clock, and the one place where a record moves.
local PREDICTION, IMAGE, INPUT = 'digitq:prediction:', 'digitq:image:', 'digitq:input:'
local EVENTS, RECENT = 'digitq:events', 'digitq:recent'
local JOB = 'rq:job:'

local time = redis.call('TIME')
-- Unix seconds with microseconds: as a number to compare, as text to store without losing digits.
local NOW = tonumber(time[1]) + tonumber(time[2]) / 1e6
local STAMP = string.format('%d.%06d', time[1], time[2])

-- NOW as 2026-01-31T12:00:00.123456Z, RQ's format. Days to civil date after H. Hinnant,
-- "chrono-compatible low-level date algorithms" (civil_from_days).
local function iso()
  local seconds = tonumber(time[1])
  local days = math.floor(seconds / 86400) + 719468
  local rest = seconds % 86400
  local era = math.floor(days / 146097)
  local doe = days - era * 146097
  local yoe = math.floor((doe - math.floor(doe / 1460) + math.floor(doe / 36524) - math.floor(doe / 146096)) / 365)
  local doy = doe - (365 * yoe + math.floor(yoe / 4) - math.floor(yoe / 100))
  local mp = math.floor((5 * doy + 2) / 153)
  local day = doy - math.floor((153 * mp + 2) / 5) + 1
  local month = mp < 10 and mp + 3 or mp - 9
  local year = yoe + era * 400 + (month <= 2 and 1 or 0)
  return string.format('%04d-%02d-%02dT%02d:%02d:%02d.%06dZ', year, month, day,
    math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60, time[2])
end
local ISO = iso()

-- Only an open record moves; all other states are final.
local function is_open(state)
  return state == 'queued' or state == 'running'
end

-- Ends a record, once: false where it is gone or has ended before. `ended` collects ids for announce().
local function end_record(id, state, ttl, ended, ...)
  local key = PREDICTION .. id
  local current = redis.call('HGET', key, 'state')
  if not is_open(current) then return false end
  redis.call('HSET', key, 'state', state, 'finished_at', ISO, ...)
  redis.call('EXPIRE', key, ttl)
  ended[#ended + 1] = id
  return true
end

-- One message for all that ended in this script: those who wait read the records themselves.
local function announce(ended)
  if #ended > 0 then redis.call('PUBLISH', EVENTS, table.concat(ended, ' ')) end
end

-- Starts a record, and makes it first where a plain RQ client has enqueued without one. Returns the attempt.
local function start_record(id, filename, ttl)
  local key = PREDICTION .. id
  if redis.call('HSETNX', key, 'submitted_at', ISO) == 1 then
    redis.call('HSET', key, 'state', 'queued', 'filename', filename)
    redis.call('XADD', RECENT, 'MAXLEN', '~', 10000, '*', 'id', id)
    redis.call('EXPIRE', RECENT, ttl)
  end
  if not is_open(redis.call('HGET', key, 'state')) then return redis.call('HGET', key, 'attempt') or '0' end
  redis.call('HSET', key, 'state', 'running', 'started_at', ISO)
  redis.call('EXPIRE', key, 2 * ttl)
  return tostring(redis.call('HINCRBY', key, 'attempt', 1))
end
