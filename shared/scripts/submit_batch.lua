#!lua
-- Accepts a batch whole or not at all: its staged chunks become ordinary RQ jobs. Safe to repeat with the same id.
-- Without the flag allow-oom, Redis refuses the whole script when its memory is full: nothing half-written.
-- KEYS: the queue to join, then the other queues, to count their jobs
-- ARG: id, queue (name), total (pictures), chunks (0 only asks), limit (most in the queues), max_bytes (most that wait), ttl (s),
--   func, timeout (s), attempts (most), key and fingerprint of idempotency or '', owner or '', client whose rate is limited or '',
--   rate (its pictures) in period (s), skipped (how many files were no pictures), read (digit or numbers), filename or ''
-- Answer: {'accepted', id, Unix seconds} | {'repeated', first id} | {'mismatch', first id} | {'lost'} |
--         {'full', waiting, seconds until there is room} | {'heavy', bytes, seconds until there is room} | {'limited', seconds until it may}
local id, queue, total, chunks, limit, ttl = ARG.id, ARG.queue, ARG.total, ARG.chunks, ARG.limit, ARG.ttl
local key = BATCH .. id

if redis.call('EXISTS', key) == 1 then return {'repeated', id} end
local first = first_under(ARG.key, ARG.fingerprint)
if first then return first end
local jobs = 0
for _, name in ipairs(KEYS) do jobs = jobs + queue_length(string.sub(name, #QUEUE + 1)) end
-- A count that drifted (a chunk was deleted by hand) starts from zero whenever nothing waits.
local before = jobs + (jobs > 0 and tonumber(redis.call('GET', BULK) or 0) or 0)
if before + total > limit then return {'full', before, wait_for_room(before + total - limit)} end
local sizes, more = {}, 0
for i = 0, chunks - 1 do
  sizes[i] = redis.call('STRLEN', CHUNK .. id .. '-' .. i)
  more = more + sizes[i]
end
local bytes, stale = bytes_waiting(jobs)
local heavy = too_heavy(bytes, math.max(1, more), ARG.max_bytes, before)
if heavy then return heavy end
local full, limited = bucket_after(ARG.client, ARG.rate, ARG.period, total)
if limited > 0 then return {'limited', limited} end
if chunks == 0 then return {'accepted', id, STAMP} end

local counts = {}
for i = 0, chunks - 1 do
  counts[i] = tonumber(redis.call('HGET', RESULTS .. id .. '-' .. i, 'count') or 0)
  if counts[i] == 0 or sizes[i] == 0 then return {'lost'} end
end
if jobs == 0 then redis.call('DEL', BULK) end
if full then fill_buckets({[ARG.client] = full}) end
watch({id}, ttl)
local slot = byte_slot(ttl)
for i = 0, chunks - 1 do
  redis.call('HSET', RESULTS .. id .. '-' .. i, 'bytes', slot .. ':' .. sizes[i])
  redis.call('EXPIRE', CHUNK .. id .. '-' .. i, 2 * ttl)
  redis.call('EXPIRE', RESULTS .. id .. '-' .. i, 2 * ttl)
end
redis.call('SADD', 'rq:queues', QUEUE .. queue)
remember(ARG.key, id, ARG.fingerprint, ttl)
for i = 0, chunks - 1 do
  -- A chunk may be retried as often as its pictures could one by one; the worker gives up earlier without progress.
  redis.call('RPUSH', QUEUE .. queue, id .. '-' .. i)
  write_job(id .. '-' .. i, queue, ARG.func, whole(ARG.timeout), whole(ttl), retried(counts[i] * ARG.attempts), ARG.read)
end
local more_fields = ARG.key ~= '' and {'idempotency_key', ARG.key} or {}
if ARG.read ~= 'digit' then append(more_fields, 'read', ARG.read) end
if ARG.filename ~= '' then append(more_fields, 'filename', ARG.filename) end
-- The batch comes last: without it there is nothing to run for its jobs (start_chunk).
set_hash(key, 2 * ttl, 'owner', ARG.owner, 'state', 'queued', 'total', total, 'chunks', chunks, 'open', chunks, 'succeeded', 0,
  'failed', 0, 'cancelled', 0, 'skipped', ARG.skipped, 'submitted_at', ISO, unpack(more_fields))
count_bytes(slot, more, stale, ttl)
remember_history({[RECENT .. ':batches:' .. ARG.owner] = {history_score(1), id}}, 2 * ttl)
redis.pcall('INCRBY', BULK, total - chunks)
redis.pcall('EXPIRE', BULK, 2 * ttl)
tally('arrived', total)
return {'accepted', id, STAMP}
