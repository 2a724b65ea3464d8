#!lua flags=allow-oom
-- Takes a waiting picture back, or forgets one that has ended. What is running is left alone.
-- KEYS: none
-- ARGV: id, ttl (s) of what remains
-- Answer: 'cancelled' | 'forgotten' | 'running' | 'missing'
local id, ttl = ARGV[1], tonumber(ARGV[2])
local key = PREDICTION .. id
local state = redis.call('HGET', key, 'state')
if not state or state == 'forgotten' then return 'missing' end
local origin = redis.call('HGET', JOB .. id, 'origin')

if is_open(state) then
  -- Whoever removes it from the queue owns it: a worker that claims has already done so.
  if origin then
    if redis.call('LREM', 'rq:queue:' .. origin, 1, id) == 0 then return 'running' end
    redis.call('HSET', JOB .. id, 'status', 'canceled')
    redis.call('EXPIRE', JOB .. id, ttl)
    redis.call('ZADD', 'rq:canceled:' .. origin, NOW, id)
    redis.call('ZREMRANGEBYSCORE', 'rq:canceled:' .. origin, '-inf', NOW - ttl)
  end
  redis.call('DEL', IMAGE .. id)
  local ended = {}
  end_record(id, 'cancelled', ttl, ended)
  announce(ended)
  return 'cancelled'
end

if origin then
  for _, registry in ipairs({'finished', 'failed', 'canceled'}) do
    redis.call('ZREM', 'rq:' .. registry .. ':' .. origin, id)
  end
end
redis.call('DEL', IMAGE .. id, INPUT .. id, JOB .. id, 'rq:results:' .. id, key)
-- A tombstone, so that the id is answered with "not found" and not with "lost".
redis.call('HSET', key, 'state', 'forgotten')
redis.call('EXPIRE', key, ttl)
return 'forgotten'
