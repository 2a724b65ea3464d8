-- Put in front of every other script. Redis's own clock, and the one place where a record moves.
local PREDICTION, IMAGE, INPUT = 'digitq:prediction:', 'digitq:image:', 'digitq:input:'
local BATCH, CHUNK, RESULTS, BULK = 'digitq:batch:', 'digitq:chunk:', 'digitq:results:', 'digitq:bulk'
local EVENTS, RECENT, WEBHOOKS = 'digitq:events', 'digitq:recent', 'digitq:webhooks'
local OPEN, SKIPPED = 'digitq:open', 'digitq:skipped:'
local JOB = 'rq:job:'
local FLOW, SLOT_SECONDS = 'digitq:flow:', 5
local ENDED, EVICTED, BYTES = 'digitq:ended', 'digitq:evicted', 'digitq:bytes'
local IDEMPOTENCY = 'digitq:idempotency:'

local time = redis.call('TIME')
-- Unix seconds with microseconds: as a number to compare, as text to store without losing digits.
local NOW = tonumber(time[1]) + tonumber(time[2]) / 1e6
local STAMP = string.format('%d.%06d', time[1], time[2])

-- A Unix time as text: Redis writes what a script passes on as a number anew each time.
local function as_text(seconds) return string.format('%.6f', seconds) end

-- Unix seconds and microseconds as 2026-01-31T12:00:00.123456Z, RQ's format. Days to civil date after H. Hinnant,
-- "chrono-compatible low-level date algorithms" (civil_from_days).
local function iso(seconds, micros)
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
    math.floor(rest / 3600), math.floor(rest / 60) % 60, rest % 60, micros)
end
local ISO = iso(tonumber(time[1]), time[2])

-- Redis undoes nothing when a script fails: reads come first, and writes in an order of which every beginning is safe.

-- Calls a command on a key that belongs to one job or record. Returns nil where the key holds another type than it
-- should, so that a damaged job stops no other; every other error stops the script.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then return nil end
  error(reply)
end

-- Writes a hash that must not outlive `ttl` (s): without a time to live it does not stay at all.
local function set_hash(key, ttl, ...)
  redis.call('HSET', key, ...)
  local kept = redis.pcall('EXPIRE', key, ttl)
  if type(kept) == 'table' then
    redis.pcall('DEL', key)
    error(kept)
  end
end

-- Counts pictures that arrived or ended, by the slot of a few seconds; load.lua reads it.
-- A count is not worth an error.
local function tally(field, pictures)
  local key = FLOW .. math.floor(NOW / SLOT_SECONDS)
  if redis.pcall('HINCRBY', key, field, pictures) == pictures then redis.pcall('EXPIRE', key, 60) end
end

-- Only an open record moves; all other states are final.
local function is_open(state)
  return state == 'queued' or state == 'running'
end

-- Takes bytes that have ended out of the count of those that have not. Each sum lives as long as what it counts: a
-- count that is gone was that of records that have expired, too.
local function release_bytes(slots)
  for slot, bytes in pairs(slots) do
    local left = redis.pcall('HINCRBY', BYTES, slot, -bytes)
    if type(left) == 'number' and left <= 0 then redis.pcall('HDEL', BYTES, slot) end
  end
end

-- Adds a record's `bytes` ("slot:bytes", nil where nothing was counted) to sums by slot.
local function add_bytes(slots, text)
  local slot, bytes = string.match(text or '', '^(%d+):(%d+)$')
  if slot then slots[slot] = (slots[slot] or 0) + bytes end
end

-- Notes what has ended, in the order of the ends: evict.lua begins with the oldest. One entry for a whole script. What is
-- not noted stays for its whole ttl: that is not worth an error.
local function index_ended(field, ids, ttl)
  redis.pcall('XADD', ENDED, 'MINID', '~', math.max(0, tonumber(time[1]) - ttl) * 1000, '*', field, ids)
  redis.pcall('EXPIRE', ENDED, ttl)
end

-- What end_record() leaves to announce(): the longest ttl, and the bytes by slot.
local ended_ttl, ended_bytes = 1, {}

-- Ends a record, once: false where it is gone or has ended before. `ended` collects the whole record for announce().
-- `input` is what the model saw, or nil. The state comes last: an error before it leaves the record open, and a callback
-- that is due for an open record is not made (webhooks.lua).
local function end_record(id, state, ttl, ended, input, ...)
  local key = PREDICTION .. id
  local so_far = try('HMGET', key, 'state', 'filename', 'submitted_at', 'started_at', 'attempt', 'callback_url', 'owner',
    'bytes')
  if not so_far or not is_open(so_far[1]) then return false end
  if so_far[6] then
    redis.call('ZADD', WEBHOOKS, NOW, id)
    redis.call('EXPIRE', WEBHOOKS, ttl)
  end
  if input then redis.call('SET', INPUT .. id, input, 'EX', ttl) end
  redis.pcall('EXPIRE', IMAGE .. id, ttl) -- it lives as long as what was found in it
  redis.call('HSET', key, 'state', state, 'finished_at', ISO, ...)
  ended_ttl = math.max(ended_ttl, ttl)
  add_bytes(ended_bytes, so_far[8])
  ended[#ended + 1] = {id, 'state', state, 'filename', so_far[2] or '', 'submitted_at', so_far[3] or '',
    'started_at', so_far[4] or '', 'attempt', so_far[5] or '0', 'owner', so_far[7] or '', 'finished_at', ISO, ...}
  redis.pcall('EXPIRE', key, ttl)
  return true
end

-- One message for all that ended in this script, with their records: those who wait need not ask for them. They are
-- counted, too, and no longer looked after. Who is not told asks again, so nothing here is worth an error.
local function announce(ended)
  if #ended == 0 then return end
  tally('ended', #ended)
  local listeners = redis.pcall('PUBSUB', 'NUMSUB', EVENTS)
  if listeners.err or listeners[2] > 0 then redis.pcall('PUBLISH', EVENTS, cjson.encode(ended)) end
  local ids = {}
  for i, record in ipairs(ended) do ids[i] = record[1] end
  index_ended('predictions', table.concat(ids, ' '), ended_ttl)
  release_bytes(ended_bytes)
  for i = 1, #ids, 1000 do redis.pcall('ZREM', OPEN, unpack(ids, i, math.min(i + 999, #ids))) end
end

-- Has sweep.lua look after records or batches until they end.
local function watch(ids, ttl)
  local members = {}
  for _, id in ipairs(ids) do
    members[#members + 1] = STAMP
    members[#members + 1] = id
  end
  for i = 1, #members, 1000 do redis.pcall('ZADD', OPEN, unpack(members, i, math.min(i + 999, #members))) end
  redis.pcall('EXPIRE', OPEN, 2 * ttl)
end

-- What start_record() has to know; nil where the record's key is of another type.
local function read_record(id)
  return try('HMGET', PREDICTION .. id, 'submitted_at', 'state', 'attempt', 'request_id', 'traceparent')
end

-- Starts a record, and makes it first where a plain RQ client has enqueued without one. Returns the attempt, and the
-- ids of the request that it came with, and when that was. What was submitted lives twice as long as its image: long enough to end.
local function start_record(id, filename, ttl, so_far)
  local key = PREDICTION .. id
  if not so_far[2] then
    watch({id}, ttl)
    set_hash(key, 2 * ttl, 'state', 'running', 'filename', filename, 'submitted_at', ISO, 'started_at', ISO,
      'attempt', 1)
    tally('arrived', 1)
    redis.pcall('XADD', RECENT, 'MAXLEN', '~', 10000, '*', 'id', id)
    redis.pcall('EXPIRE', RECENT, ttl)
    return '1', '', '', ISO
  end
  local attempt = so_far[3] or '0'
  if not is_open(so_far[2]) then return attempt, '', '', so_far[1] or '' end
  attempt = tostring(attempt + 1)
  redis.call('HSET', key, 'state', 'running', 'started_at', ISO, 'attempt', attempt)
  return attempt, so_far[4] or '', so_far[5] or '', so_far[1] or ''
end

-- Whether a picture was accepted under this id. Its job is written last, so a record that waits without one was not.
local function accepted_before(id)
  local state = redis.call('HGET', PREDICTION .. id, 'state')
  return state and (state ~= 'queued' or redis.call('EXISTS', JOB .. id) == 1)
end

-- What was accepted first under an idempotency key: {'repeated' | 'mismatch', id}; nil where the key is free, as it is
-- again when what it stands for was forgotten, has expired, or was not accepted after all.
local function first_under(key, fingerprint)
  if key == '' then return nil end
  local first = redis.call('HMGET', IDEMPOTENCY .. key, 'id', 'fingerprint')
  if not first[1] then return nil end
  local state = redis.call('HGET', PREDICTION .. first[1], 'state')
  if state and not accepted_before(first[1]) then return nil end
  state = state or redis.call('HGET', BATCH .. first[1], 'state')
  if not state or state == 'forgotten' then return nil end
  return {first[2] == fingerprint and 'repeated' or 'mismatch', first[1]}
end

-- A key is kept as long as what it stands for waits or stays, and for a day at most.
local function remember(key, id, fingerprint, ttl)
  if key == '' then return end
  set_hash(IDEMPOTENCY .. key, math.min(86400, 2 * ttl), 'id', id, 'fingerprint', fingerprint)
end

-- The key under which `id` was accepted, unless it is free ('' or nil) or stands for something else by now.
local function idempotency_of(id, key)
  if (key or '') == '' or redis.pcall('HGET', IDEMPOTENCY .. key, 'id') ~= id then return nil end
  return IDEMPOTENCY .. key
end

-- How many jobs wait in a queue: those that were taken back deep inside it stand there until they are skipped.
local function queue_length(queue)
  local length = redis.call('LLEN', 'rq:queue:' .. queue)
  return length > 0 and math.max(0, length - redis.call('SCARD', SKIPPED .. queue)) or 0
end

-- The fence: true while the lease on a claim is valid by Redis's clock, for `margin` seconds more.
local function held(queue, member, margin)
  local expiry = redis.call('ZSCORE', 'rq:wip:' .. queue, member)
  return expiry and tonumber(expiry) > NOW + margin
end
