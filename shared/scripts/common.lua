-- Put in front of every other script: Redis's own clock, the arguments by name, and how an end is told.
local IMAGE, INPUT, GONE, CALLBACK = 'digitq:image:', 'digitq:input:', 'digitq:gone:', 'digitq:callback:'
local BATCH, CHUNK, RESULTS, BULK = 'digitq:batch:', 'digitq:chunk:', 'digitq:results:', 'digitq:bulk'
local EVENTS, RECENT, WEBHOOKS = 'digitq:events', 'digitq:recent', 'digitq:webhooks'
local OPEN, ACCEPTED, SKIPPED = 'digitq:open', 'digitq:accepted', 'digitq:skipped:'
local JOB, WIP, QUEUE = 'rq:job:', 'rq:wip:', 'rq:queue:'
local FLOW, SLOT_SECONDS = 'digitq:flow:', 5
local ENDED, EVICTED, BYTES = 'digitq:ended', 'digitq:evicted', 'digitq:bytes'
local IDEMPOTENCY = 'digitq:idempotency:'

-- What a script is told: an object in JSON, and then, where it has `columns`, their values, row by row.
local ARG = cjson.decode(ARGV[1])

-- The rows as tables by column.
local function rows()
  local found, columns, values = {}, ARG.columns, ARGV
  local width, n = math.max(1, #columns), 0
  for i = 2, #values, width do
    local row = {}
    for at = 1, width do row[columns[at]] = values[i + at - 1] end
    n = n + 1
    found[n] = row
  end
  return found
end

-- A whole number as text. Redis takes a microsecond to write one that a script passes on as a number.
local function whole(number) return string.format('%d', number) end

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

-- Logs why one of many was left as it was.
local function complain(id, what, why)
  redis.log(redis.LOG_WARNING, 'digitq: ' .. id .. ' ' .. what .. ': ' .. (type(why) == 'table' and why.err or tostring(why)))
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

-- Adds values to a list.
local function append(list, ...)
  local n = #list
  for i = 1, select('#', ...) do list[n + i] = (select(i, ...)) end
end

-- Adds values to the list under a key of a table.
local function note(lists, key, value, second)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  list[#list + 1] = value
  if second then list[#list + 1] = second end
end

-- Runs a command on all values, so many at a time as Lua can pass (always an even number: scores come with members).
local function in_slices(values, run)
  for i = 1, #values, 1000 do run(unpack(values, i, math.min(i + 999, #values))) end
end

-- Runs a command for each list of a table: its name, the key, the values.
local function for_each(command, lists)
  for key, values in pairs(lists) do
    in_slices(values, function(...) redis.call(command, key, ...) end)
  end
end

-- The values under fields of one hash, for any number of them.
local function fields_of(key, names)
  local found = {}
  in_slices(names, function(...)
    for _, value in ipairs(redis.call('HMGET', key, ...)) do found[#found + 1] = value end
  end)
  return found
end

-- Counts pictures that arrived or ended, by the slot of a few seconds; load.lua reads it.
-- A count is not worth an error.
local function tally(field, pictures)
  local key = FLOW .. math.floor(NOW / SLOT_SECONDS)
  if redis.pcall('HINCRBY', key, field, pictures) == pictures then redis.pcall('EXPIRE', key, 60) end
end

-- A batch or a chunk that has not ended.
local function is_open(state) return state == 'queued' or state == 'running' end

-- RQ's statuses after which nothing more happens.
local function has_ended(status)
  return status == 'finished' or status == 'failed' or status == 'canceled' or status == 'stopped'
end

-- Whether a job, by its description, is a picture: a plain call of our function.
local function is_picture(description)
  return description and string.sub(description, 1, 22) == 'worker.tasks.classify('
end

-- Takes bytes that have ended out of the count of those that have not. Each sum lives as long as what it counts: a
-- count that is gone was that of pictures that have expired, too.
local function release_bytes(slots)
  for slot, bytes in pairs(slots) do
    local left = redis.pcall('HINCRBY', BYTES, slot, -bytes)
    if type(left) == 'number' and left <= 0 then redis.pcall('HDEL', BYTES, slot) end
  end
end

-- Adds "slot:bytes" (and whatever follows; nothing where none were counted) to sums by slot.
local function add_bytes(slots, text)
  local slot, bytes = string.match(text or '', '^(%d+):(%d+)')
  if slot then slots[slot] = (slots[slot] or 0) + bytes end
end

-- Notes what has ended, in the order of the ends: evict.lua begins with the oldest. One entry for a whole script. What is
-- not noted stays for its whole ttl: that is not worth an error.
local function index_ended(field, ids, ttl)
  redis.pcall('XADD', ENDED, 'MINID', '~', math.max(0, tonumber(time[1]) - ttl) * 1000, '*', field, ids)
  redis.pcall('EXPIRE', ENDED, ttl)
end

-- What is read and told of a picture: RQ's fields of its job, and ours.
local RECORD = {'status', 'created_at', 'started_at', 'ended_at', 'digitq_run', 'digitq_owner', 'digitq_about',
  'digitq_found'}

-- A record as it is told, from the values of RECORD.
local function as_news(id, values)
  local record = {id = id}
  for i, name in ipairs(RECORD) do record[name] = values[i] or nil end
  return cjson.encode(record)
end

-- What is told of a picture whose job RQ's tools have deleted, from its entry in ACCEPTED ("slot:bytes:owner").
local function lost_record(accepted)
  return {status = 'failed', digitq_owner = string.match(accepted, '^%d+:%d+:(.+)$'),
    digitq_found = '{"error":["lost","The job was deleted from the queue."]}'}
end

-- Has sweep.lua look after pictures, foreign jobs and batches until their end has been told. Without a `ttl` for those
-- that are there already.
local function watch(ids, ttl)
  local members = {}
  for i, id in ipairs(ids) do members[2 * i - 1], members[2 * i] = STAMP, id end
  in_slices(members, function(...) redis.pcall('ZADD', OPEN, ...) end)
  if ttl then redis.pcall('EXPIRE', OPEN, 2 * ttl) end
end

-- Those of the ids under whose key, with this beginning and end, there is something: hardly ever any, so all are asked
-- about at once.
local function those_with(before, ids, after)
  local found, names, any = {}, {}, 0
  for i, id in ipairs(ids) do names[i] = before .. id .. after end
  in_slices(names, function(...) any = any + redis.call('EXISTS', ...) end)
  for i = 1, any > 0 and #ids or 0 do
    if redis.call('EXISTS', names[i]) == 1 then found[#found + 1] = ids[i] end
  end
  return found
end

-- What announce() has to know of pictures that are about to end.
local function before_the_end(ids)
  local known, accepted = {called = {}, bytes = {}}, fields_of(ACCEPTED, ids)
  for i, id in ipairs(ids) do known.bytes[id] = accepted[i] end
  for _, id in ipairs(those_with(CALLBACK, ids, '')) do known.called[id] = true end
  return known
end

-- The callback of an end is due now; a picture that ends again, because somebody has put it back, is told again.
local function call_back(id, ttl)
  redis.call('HINCRBY', CALLBACK .. id, 'round', 1)
  redis.call('HDEL', CALLBACK .. id, 'tries', 'outcome')
  redis.call('EXPIRE', CALLBACK .. id, ttl)
  redis.call('ZADD', WEBHOOKS, NOW, id)
  redis.call('EXPIRE', WEBHOOKS, ttl)
end

-- Pictures have ended: {id, news (JSON)} each. Their callbacks are due, whoever waits or listens is told, and they are
-- no longer looked after. The script that ended them does this last, and no error of it counts: what is still open then
-- is told by sweep.lua.
local function announce(ended, known, ttl)
  if #ended == 0 then return end
  local ids, news, slots = {}, {}, {}
  for i, one in ipairs(ended) do
    ids[i], news[i] = one[1], one[2]
    add_bytes(slots, known.bytes[one[1]])
  end
  local done, why = pcall(function()
    for _, id in ipairs(ids) do
      if known.called[id] then call_back(id, ttl) end
    end
    in_slices(ids, function(...) redis.call('ZREM', OPEN, ...) end)
  end)
  if not done then return complain(ids[1], 'was not told', why) end
  redis.pcall('PUBLISH', EVENTS, '{"ended_at":"' .. ISO .. '","ended":[' .. table.concat(news, ',') .. ']}')
  in_slices(ids, function(...) redis.pcall('HDEL', ACCEPTED, ...) end)
  release_bytes(slots)
  tally('ended', #ids)
  index_ended('pictures', table.concat(ids, ' '), ttl)
end

-- The attempt in a job's `digitq_run` ("attempt:execution"), 0 where it has not been started, and the execution.
local function run_of(text)
  local attempt, execution = string.match(text or '', '^(%d+):(.*)$')
  return tonumber(attempt or 0), execution or ''
end

-- Where the n-th that a script accepts stands in the history, in microseconds.
local function history_score(n) return string.format('%d', time[1] * 1e6 + time[2] + n) end

-- Adds to histories, the newest 10,000 or a few more of each: {score, id, ...} by key.
local function remember_history(histories, ttl)
  for key, entries in pairs(histories) do
    redis.pcall('ZADD', key, unpack(entries))
    redis.pcall('EXPIRE', key, ttl)
    if time[2] % 16 == 0 then redis.pcall('ZREMRANGEBYRANK', key, 0, -10001) end
  end
end

-- What was accepted first under an idempotency key: {'repeated' | 'mismatch', id}; nil where the key is free, as it is
-- again when what it stands for was forgotten, has expired, or was not accepted after all.
local function first_under(key, fingerprint)
  if key == '' then return nil end
  local first = redis.call('HMGET', IDEMPOTENCY .. key, 'id', 'fingerprint')
  if not first[1] then return nil end
  local state = redis.call('HGET', BATCH .. first[1], 'state')
  if state == 'forgotten' or (not state and redis.call('EXISTS', JOB .. first[1]) == 0) then return nil end
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

-- What stands for a picture lives as long as it, and a day at most.
local function expire_key(name, ttl)
  if name then redis.pcall('EXPIRE', name, math.min(86400, tonumber(ttl))) end
end

-- How many jobs wait in a queue: those that were taken back deep inside it stand there until they are skipped.
local function queue_length(queue)
  local length = redis.call('LLEN', QUEUE .. queue)
  return length > 0 and math.max(0, length - redis.call('SCARD', SKIPPED .. queue)) or 0
end

-- The fence: true while the lease on a claim is valid by Redis's clock, for `margin` seconds more.
local function held(queue, member, margin)
  local expiry = redis.call('ZSCORE', WIP .. queue, member)
  return expiry and tonumber(expiry) > NOW + margin
end
