#!lua
-- Accepts one picture whole (image, record, ordinary RQ job) or not at all. Safe to repeat with the same id.
-- Without the flag allow-oom, Redis refuses the whole script when its memory is full: nothing half-written.
-- KEYS: the queue to join, then the other queues, to count what waits
-- ARGV: id, queue name, image, filename, max queue length, result ttl (s), job function, job timeout (s), retries,
--       idempotency key or '', fingerprint
-- Answer: {'accepted', id, Unix seconds} | {'repeated', first id} | {'mismatch', first id} | {'full', length}
local id, queue, image, filename = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local limit, ttl, func, timeout, retries = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], ARGV[8], ARGV[9]
local idempotency, fingerprint = ARGV[10], ARGV[11]

if redis.call('EXISTS', PREDICTION .. id) == 1 then return {'repeated', id} end
if idempotency ~= '' then
  local first = redis.call('HMGET', 'digitq:idempotency:' .. idempotency, 'id', 'fingerprint')
  -- A key whose prediction was forgotten or has expired is free again.
  local state = first[1] and redis.call('HGET', PREDICTION .. first[1], 'state')
  if state and state ~= 'forgotten' then
    return {first[2] == fingerprint and 'repeated' or 'mismatch', first[1]}
  end
end
local waiting = 0
for _, key in ipairs(KEYS) do waiting = waiting + redis.call('LLEN', key) end
if waiting >= limit then return {'full', waiting} end

redis.call('SET', IMAGE .. id, image, 'EX', ttl)
-- The record outlives its image while it waits, so that a picture that nobody claimed in time can say so.
redis.call('HSET', PREDICTION .. id, 'state', 'queued', 'filename', filename, 'submitted_at', ISO)
redis.call('EXPIRE', PREDICTION .. id, 2 * ttl)
redis.call('XADD', RECENT, 'MAXLEN', '~', 10000, '*', 'id', id)
redis.call('EXPIRE', RECENT, ttl)
-- The fields that RQ's Job.to_dict writes; empty ones may be missing, `data` may be uncompressed (Job.restore).
redis.call('HSET', JOB .. id, 'status', 'queued', 'origin', queue, 'created_at', ISO, 'enqueued_at', ISO,
  'data', '["' .. func .. '",null,["' .. id .. '"],{}]', 'description', func .. "('" .. id .. "')",
  'timeout', timeout, 'result_ttl', ttl, 'failure_ttl', ttl)
if retries ~= '0' then
  redis.call('HSET', JOB .. id, 'retries_left', retries, 'retry_intervals', '[0]', 'enqueue_at_front_on_retry', '1')
end
redis.call('SADD', 'rq:queues', KEYS[1])
redis.call('RPUSH', KEYS[1], id)
if idempotency ~= '' then
  local key = 'digitq:idempotency:' .. idempotency
  redis.call('HSET', key, 'id', id, 'fingerprint', fingerprint)
  redis.call('EXPIRE', key, 86400)
end
return {'accepted', id, STAMP}
