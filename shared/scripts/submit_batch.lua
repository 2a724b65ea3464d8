#!lua
-- Accepts a batch whole or not at all: its chunks, staged before, become ordinary RQ jobs. Safe to repeat with the same id.
-- Without the flag allow-oom, Redis refuses the whole script when its memory is full: nothing half-written.
-- WITH: jobs, door
-- KEYS: the queue to join, then the other queues, to count what waits
-- ARGV: id, queue name, pictures, chunks (0 only asks), max queue length, result ttl (s), job function, job timeout (s),
--       max attempts, idempotency key or '', fingerprint, owner or '', client whose rate is limited or '', its limit,
--       in so many seconds, max bytes that wait, how many files were skipped because they are no pictures
-- Answer: {'accepted', id, Unix seconds} | {'repeated', first id} | {'mismatch', first id} | {'lost'} |
--         {'full', waiting, seconds until there is room} | {'heavy', bytes, seconds until there is room} | {'limited', seconds until it may}
local id, queue, total, chunks = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local limit, ttl, func, timeout, attempts = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8], tonumber(ARGV[9])
local idempotency, fingerprint, owner, client = ARGV[10], ARGV[11], ARGV[12], ARGV[13]
local key = BATCH .. id

if redis.call('EXISTS', key) == 1 then return {'repeated', id} end
local first = first_under(idempotency, fingerprint)
if first then return first end
local jobs = 0
for _, name in ipairs(KEYS) do jobs = jobs + queue_length(string.sub(name, 10)) end -- after 'rq:queue:'
-- A count that drifted (a chunk deleted by hand that nobody asked for again) starts afresh whenever nothing waits.
if jobs == 0 then redis.call('DEL', BULK) end
local before = jobs + tonumber(redis.call('GET', BULK) or 0)
if before + total > limit then return {'full', before, wait_for_room(before + total - limit)} end
local sizes, more = {}, 0
for i = 0, chunks - 1 do
  sizes[i] = redis.call('STRLEN', CHUNK .. id .. '-' .. i)
  more = more + sizes[i]
end
local bytes, stale = bytes_waiting(jobs)
local heavy = too_heavy(bytes, math.max(1, more), tonumber(ARGV[16]), before)
if heavy then return heavy end
local limited = wait_for_rate(client, tonumber(ARGV[14]), tonumber(ARGV[15]), total, false)
if limited > 0 then return {'limited', limited} end
if chunks == 0 then return {'accepted', id, STAMP} end

local counts = {}
for i = 0, chunks - 1 do
  counts[i] = tonumber(redis.call('HGET', RESULTS .. id .. '-' .. i, 'count') or 0)
  if counts[i] == 0 or sizes[i] == 0 then return {'lost'} end
end
wait_for_rate(client, tonumber(ARGV[14]), tonumber(ARGV[15]), total, true)
watch({id}, ttl)
local slot = byte_slot(ttl)
for i = 0, chunks - 1 do
  redis.call('HSET', RESULTS .. id .. '-' .. i, 'bytes', slot .. ':' .. sizes[i])
  redis.call('EXPIRE', CHUNK .. id .. '-' .. i, 2 * ttl)
  redis.call('EXPIRE', RESULTS .. id .. '-' .. i, 2 * ttl)
end
redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
remember(idempotency, id, fingerprint, ttl)
for i = 0, chunks - 1 do
  -- As many deaths as its pictures would be allowed one by one; the worker stops earlier where none goes ahead.
  enqueue(id .. '-' .. i, queue, func, timeout, counts[i] * attempts, ttl)
end
-- The batch comes last: without it there is nothing to run for its jobs (start_chunk).
set_hash(key, 2 * ttl, 'owner', owner, 'state', 'queued', 'total', total, 'chunks', chunks, 'open', chunks, 'succeeded', 0,
  'failed', 0, 'cancelled', 0, 'skipped', ARGV[17], 'submitted_at', ISO, unpack(idempotency ~= '' and {'idempotency_key', idempotency} or {}))
count_bytes(slot, more, stale, ttl)
redis.pcall('INCRBY', BULK, total - chunks)
redis.pcall('EXPIRE', BULK, 2 * ttl)
tally('arrived', total)
return {'accepted', id, STAMP}
