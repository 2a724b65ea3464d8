#!lua
-- Accepts pictures, each whole (image, record, ordinary RQ job) or not at all. Safe to repeat with the same ids.
-- Without the flag allow-oom, Redis refuses the whole script when its memory is full: nothing half-written. The job is
-- written last, and an error before it takes the rest back.
-- WITH: jobs, door
-- KEYS: all queues, to count what waits
-- ARGV: max queue length, result ttl (s), job function, job timeout (s), retries, limit of a client's rate, in so many
--       seconds, max bytes that wait, then for each picture: id, queue name, image, filename, idempotency key or '', fingerprint, owner or
--       '', client whose rate is limited or '', how many texts of notes, and those: field, value, ... of what the
--       record keeps of the request
-- Answer: for each picture {'accepted', id, Unix seconds} | {'repeated', first id} | {'mismatch', first id}
--   | {'full', length, seconds until there is room} | {'heavy', bytes, seconds until there is room}
--   | {'limited', seconds until it may} | {'failed', error}
local limit, ttl, func, timeout, retries = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], tonumber(ARGV[5])
local rate, period, max_bytes = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local kept, twice = ARGV[2], string.format('%d', 2 * ttl)
local length, accepted, joined, histories, answers = 0, {}, {}, {}, {}
for _, key in ipairs(KEYS) do length = length + redis.call('LLEN', key) end
if length >= limit then
  length = 0
  for _, key in ipairs(KEYS) do length = length + queue_length(string.sub(key, 10)) end -- after 'rq:queue:'
end
local bytes, stale = bytes_waiting(length)
local before, slot = bytes, byte_slot(ttl)

local function refused(id, ...)
  return accepted_before(id) and {'repeated', id} or {...}
end

local function submit(id, queue, image, filename, idempotency, fingerprint, owner, client, ...)
  local first = first_under(idempotency, fingerprint)
  if first then return first end
  if length >= limit then return refused(id, 'full', length, wait_for_room(length + 1 - limit + limit / 20)) end
  local heavy = too_heavy(bytes, #image, max_bytes, length)
  if heavy then return refused(id, unpack(heavy)) end
  local limited = wait_for_rate(client, rate, period, 1, true)
  if limited > 0 then return refused(id, 'limited', limited) end
  if not redis.call('SET', IMAGE .. id, image, 'NX', 'EX', kept) and accepted_before(id) then return {'repeated', id} end
  -- The record outlives its image while it waits, so that a picture that nobody claimed in time can say so.
  local fields = {'bytes', slot .. ':' .. #image, ...}
  if idempotency ~= '' then
    fields[#fields + 1] = 'idempotency_key'
    fields[#fields + 1] = idempotency
  end
  set_hash(PREDICTION .. id, twice, 'state', 'queued', 'filename', filename, 'submitted_at', ISO, unpack(fields))
  if not joined[queue] then redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue) end
  local history = owner == '' and RECENT or RECENT .. ':' .. owner
  redis.call('XADD', history, 'MAXLEN', '~', 10000, '*', 'id', id) -- an id without a record is left out of the history
  if not histories[history] then redis.call('EXPIRE', history, ttl) end
  remember(idempotency, id, fingerprint, ttl)
  enqueue(id, queue, func, timeout, retries, kept)
  bytes = bytes + #image
  length, joined[queue], histories[history] = length + 1, true, true
  accepted[#accepted + 1] = id
  return {'accepted', id, STAMP}
end

local i = 9
while i < #ARGV do
  local last = i + 8 + ARGV[i + 8]
  local ok, answer = pcall(submit, ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5],
    ARGV[i + 6], ARGV[i + 7], unpack(ARGV, i + 9, last))
  -- It is refused alone: those that came at the same time are other clients'.
  if not ok then
    local text = type(answer) == 'table' and answer.err or tostring(answer)
    if not accepted_before(ARGV[i]) then redis.pcall('DEL', IMAGE .. ARGV[i], PREDICTION .. ARGV[i]) end
    answer = {'failed', text}
  end
  answers[#answers + 1] = answer
  i = last + 1
end
count_bytes(slot, bytes - before, stale, ttl)
-- They are accepted: nothing from here on is worth an error.
if #accepted > 0 then
  watch(accepted, ttl)
  tally('arrived', #accepted)
end
return answers
