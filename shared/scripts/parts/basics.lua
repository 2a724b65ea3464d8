-- Names of keys, arguments, the clock, and small helpers. A script gets only those definitions of `parts/` that it uses.
local IMAGE, INPUT, GONE, CALLBACK = 'digitq:image:', 'digitq:input:', 'digitq:gone:', 'digitq:callback:'
local BATCH, CHUNK, RESULTS, BULK = 'digitq:batch:', 'digitq:chunk:', 'digitq:results:', 'digitq:bulk'
local EVENTS, RECENT, WEBHOOKS = 'digitq:events', 'digitq:recent', 'digitq:webhooks'
local OPEN, ACCEPTED, SKIPPED = 'digitq:open', 'digitq:accepted', 'digitq:skipped:'
local JOB, WIP, QUEUE = 'rq:job:', 'rq:wip:', 'rq:queue:'
local FLOW, SLOT_SECONDS = 'digitq:flow:', 5
local ENDED, EVICTED, BYTES = 'digitq:ended', 'digitq:evicted', 'digitq:bytes'
local IDEMPOTENCY = 'digitq:idempotency:'

-- The arguments by name, from one JSON object.
local ARG = cjson.decode(ARGV[1])

-- Returns the rows after the object, each a table by column. What all rows share is an argument, and read as a column too.
local function rows()
  local found, columns, values, shared = {}, ARG.columns or {}, ARGV, {__index = ARG}
  local width = math.max(1, #columns)
  for i = 2, #values, width do
    local row = setmetatable({}, shared)
    for at = 1, width do row[columns[at]] = values[i + at - 1] end
    found[#found + 1] = row
  end
  return found
end

-- Numbers as text: Redis takes a microsecond to write a number that a script passes on.
local function whole(number) return string.format('%d', number) end
local function as_text(seconds) return string.format('%.6f', seconds) end

local time = redis.call('TIME')
-- The current time in Unix seconds: as a number to compare, and as text to store without losing digits.
local NOW = tonumber(time[1]) + tonumber(time[2]) / 1e6
local STAMP = string.format('%d.%06d', time[1], time[2])

-- Formats Unix seconds and microseconds as 2026-01-31T12:00:00.123456Z, as RQ does. The algorithm is civil_from_days of
-- H. Hinnant, "chrono-compatible low-level date algorithms".
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

-- Redis undoes nothing when a script fails. So every script reads first, and then writes in an order of which every
-- beginning is safe.

-- Calls a command on a key of one job or record. Returns nil where the key has the wrong type, so that a damaged job does
-- not stop the others; any other error stops the script.
local function try(...)
  local reply = redis.pcall(...)
  if type(reply) ~= 'table' or not reply.err then return reply end
  if string.find(reply.err, 'WRONGTYPE', 1, true) then return nil end
  error(reply)
end

-- Returns an error that pcall caught as text.
local function reason(why) return type(why) == 'table' and why.err or tostring(why) end

-- Logs why one of many was left as it was.
local function complain(id, what, why)
  redis.log(redis.LOG_WARNING, 'digitq: ' .. id .. ' ' .. what .. ': ' .. reason(why))
end

-- How much longer (s) than its time to live a key may stay, so that its expiry need not be moved with every change.
local function slack(ttl) return math.floor(math.min(30, ttl / 10)) end

-- Has a key live for `ttl` seconds from now at least, and hardly longer unless it does already. A failure is no error.
local function extend(key, ttl)
  local left = redis.pcall('TTL', key)
  if type(left) == 'number' and left <= ttl then redis.pcall('EXPIRE', key, whole(ttl + slack(ttl))) end
end

-- Writes a hash that expires after `ttl` seconds. Deletes it where the expiry cannot be set: it would stay for ever.
local function set_hash(key, ttl, ...)
  redis.call('HSET', key, ...)
  local kept = redis.pcall('EXPIRE', key, ttl)
  if type(kept) == 'table' then
    redis.pcall('DEL', key)
    error(kept)
  end
end

-- Appends values to a list.
local function append(list, ...)
  local n = #list
  for i = 1, select('#', ...) do list[n + i] = (select(i, ...)) end
end

-- Appends values to the list under a key of a table.
local function note(lists, key, value, second)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  list[#list + 1] = value
  if second then list[#list + 1] = second end
end

-- Calls `run` with all values, an even number of them at a time (scores come with members): Lua passes some 8,000 at most.
local function in_slices(values, run)
  for i = 1, #values, 1000 do run(unpack(values, i, math.min(i + 999, #values))) end
end

-- Runs a command for each list of a table, whose keys are Redis's.
local function for_each(command, lists)
  for key, values in pairs(lists) do
    in_slices(values, function(...) redis.call(command, key, ...) end)
  end
end

-- Returns the values under any number of fields of one hash.
local function fields_of(key, names)
  local found = {}
  in_slices(names, function(...)
    for _, value in ipairs(redis.call('HMGET', key, ...)) do found[#found + 1] = value end
  end)
  return found
end

-- Returns those ids whose key (`before`, id, `after`) exists. Mostly that is all or none of them, so it asks for the number
-- first.
local function those_with(before, ids, after)
  local found, names, count = {}, {}, 0
  for i, id in ipairs(ids) do names[i] = before .. id .. after end
  in_slices(names, function(...) count = count + redis.call('EXISTS', ...) end)
  if count == #ids then return ids end
  for i = 1, count > 0 and #ids or 0 do
    if redis.call('EXISTS', names[i]) == 1 then found[#found + 1] = ids[i] end
  end
  return found
end

-- Whether a batch or a chunk has not ended.
local function is_open(state) return state == 'queued' or state == 'running' end

-- Whether a job's status, one of RQ's, is final.
local function has_ended(status)
  return status == 'finished' or status == 'failed' or status == 'canceled' or status == 'stopped'
end

-- Whether a job, by its description, calls a function of ours, such as '.tasks.classify(': of digitq or, by its other name, worker.
local function is_call(description, called)
  if not description or string.sub(description, 7, 6 + #called) ~= called then return false end
  local package = string.sub(description, 1, 6)
  return package == 'digitq' or package == 'worker'
end

local function is_picture(description)
  return is_call(description, '.tasks.classify(')
end

-- Returns the attempt and the execution from `digitq_run` ("attempt:execution"); 0 and '' for a job never started.
local function run_of(text)
  local attempt, execution = string.match(text or '', '^(%d+):(.*)$')
  return tonumber(attempt or 0), execution or ''
end

-- Returns how many jobs wait in a queue, without those that were cancelled deep inside it and are still to be skipped.
local function queue_length(queue)
  local length = redis.call('LLEN', QUEUE .. queue)
  return length > 0 and math.max(0, length - redis.call('SCARD', SKIPPED .. queue)) or 0
end

-- The fence: whether the lease on a claim is valid for `margin` seconds more, by Redis's clock.
local function held(queue, member, margin)
  local expiry = redis.call('ZSCORE', WIP .. queue, member)
  return expiry and tonumber(expiry) > NOW + margin
end
