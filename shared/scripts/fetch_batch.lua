#!lua flags=allow-oom
-- Reads a batch, and repairs it where RQ alone has moved its jobs, as fetch.lua does for one picture.
-- WITH: chunks
-- KEYS: none
-- ARGV: id, result ttl (s)
-- Answer: {field, value, ...} of the batch, empty where there is none
local id, ttl = ARGV[1], tonumber(ARGV[2])
local key = BATCH .. id
local batch = redis.call('HMGET', key, 'state', 'chunks')
for i = 0, is_open(batch[1]) and batch[2] - 1 or -1 do
  local chunk = id .. '-' .. i
  local state = redis.call('HGET', RESULTS .. chunk, 'state')
  if is_open(state) then
    local status = redis.call('HGET', JOB .. chunk, 'status')
    if not status then
      end_chunk(chunk, ttl, 'failed', 'lost', 'The job was deleted from the queue.')
    elseif status == 'failed' or status == 'stopped' then
      end_chunk(chunk, ttl, 'failed', 'poison', 'Every worker that took this picture died or lost it.')
    elseif status == 'finished' then
      end_chunk(chunk, ttl, 'failed', 'lost', 'The job ended without an answer.')
    elseif status == 'canceled' then
      end_chunk(chunk, ttl, 'cancelled', '', '')
    elseif status ~= 'started' and state == 'running' then
      redis.call('HSET', RESULTS .. chunk, 'state', 'queued')
    end
  end
end
return redis.call('HGETALL', key)
