#!lua
-- Accepts pictures, each whole (image, record, ordinary RQ job) or not at all. Safe to repeat with the same ids.
-- Without the flag allow-oom, Redis refuses the whole script when its memory is full; and all that can fail comes before
-- the first write: nothing half-written.
-- WITH: jobs, door
-- KEYS: all queues, to count what waits
-- ARGV: max queue length, result ttl (s), job function, job timeout (s), retries, limit of a client's rate, in so many
--       seconds, max bytes that wait, then for each picture: id, queue name, image, filename, idempotency key or '',
--       fingerprint, owner or '', client whose rate is limited or '', how many texts of notes, and those: field, value,
--       ... of what the record keeps of the request
-- Answer: for each picture {'accepted', id, Unix seconds} | {'repeated', first id} | {'mismatch', first id}
--   | {'full', length, seconds until there is room} | {'heavy', bytes, seconds until there is room}
--   | {'limited', seconds until it may}
local limit, ttl, func, timeout, retries = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
local rate, period, max_bytes = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local waiting, accepted, answers = 0, {}, {}
for _, key in ipairs(KEYS) do waiting = waiting + redis.call('LLEN', key) end
local bytes, stale = bytes_waiting()
local before, slot = bytes, byte_slot(ttl)
local joined, histories, ids_here, keys_here = {}, {}, {}, {}

-- ---------------------------------------------------------------------- what becomes of each; nothing is written yet

local function known(id)
  return ids_here[id] or redis.call('EXISTS', PREDICTION .. id) == 1
end

local function refused(id, answer)
  return known(id) and {'repeated', id} or answer
end

local function first_of(key, fingerprint)
  local first = keys_here[key]
  if not first then return first_under(key, fingerprint) end
  return {first[2] == fingerprint and 'repeated' or 'mismatch', first[1]}
end

local function judge(id, queue, image, filename, idempotency, fingerprint, owner, client, ...)
  local first = first_of(idempotency, fingerprint)
  if first then return first end
  if waiting >= limit then return refused(id, {'full', waiting, wait_for_room(waiting + 1 - limit + limit / 20)}) end
  local heavy = too_heavy(bytes, #image, max_bytes, waiting)
  if heavy then return refused(id, heavy) end
  if ids_here[id] or redis.call('EXISTS', IMAGE .. id) == 1 then return {'repeated', id} end
  local limited = wait_for_rate(client, rate, period, 1)
  if limited > 0 then return refused(id, {'limited', limited}) end
  waiting, bytes = waiting + 1, bytes + #image
  ids_here[id], joined[queue], histories[owner == '' and RECENT or RECENT .. ':' .. owner] = true, true, true
  if idempotency ~= '' then keys_here[idempotency] = {id, fingerprint} end
  accepted[#accepted + 1] = {id, queue, image, filename, idempotency, fingerprint, owner, ...}
  return {'accepted', id, STAMP}
end

local i = 9
while i < #ARGV do
  local last = i + 8 + ARGV[i + 8]
  answers[#answers + 1] = judge(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5],
    ARGV[i + 6], ARGV[i + 7], unpack(ARGV, i + 9, last))
  i = last + 1
end
if #accepted == 0 then return answers end
-- What is of another type than it should be fails here.
redis.call('SCARD', 'rq:queues')
for history in pairs(histories) do redis.call('XLEN', history) end

-- ---------------------------------------------------------------------- what was accepted is written

local function submit(id, queue, image, filename, idempotency, fingerprint, owner, ...)
  redis.call('SET', IMAGE .. id, image, 'EX', ttl)
  -- The record outlives its image while it waits, so that a picture that nobody claimed in time can say so.
  redis.call('HSET', PREDICTION .. id, 'state', 'queued', 'filename', filename, 'submitted_at', ISO,
    'bytes', slot .. ':' .. #image, ...)
  if idempotency ~= '' then redis.call('HSET', PREDICTION .. id, 'idempotency_key', idempotency) end
  redis.call('EXPIRE', PREDICTION .. id, 2 * ttl)
  redis.call('XADD', owner == '' and RECENT or RECENT .. ':' .. owner, 'MAXLEN', '~', 10000, '*', 'id', id)
  enqueue(id, queue, func, timeout, retries, ttl)
  remember(idempotency, id, fingerprint)
end

for _, picture in ipairs(accepted) do submit(unpack(picture)) end
count_bytes(slot, bytes - before, stale, ttl)
keep_rates()
for queue in pairs(joined) do redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue) end
for history in pairs(histories) do redis.call('EXPIRE', history, ttl) end
tally('arrived', #accepted)
return answers
