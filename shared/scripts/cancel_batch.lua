#!lua flags=allow-oom
-- Takes back those of some chunks that wait; or forgets them, once the batch has ended.
-- KEYS: none
-- ARG: id (of the batch), ttl (s) of what remains, state that the caller has seen, first, last (chunk)
-- Answer: how many chunks were taken back or forgotten
local id, ttl = ARG.id, ARG.ttl
local key, changed = BATCH .. id, 0
local batch = redis.call('HMGET', key, 'state', 'chunks', 'idempotency_key')
-- It may have ended since: a client that cancels does not mean to delete a finished batch.
local open = is_open(ARG.state)
if not batch[2] or is_open(batch[1]) ~= open then return 0 end
for i = ARG.first, math.min(ARG.last, batch[2] - 1) do
  local chunk = id .. '-' .. i
  local job = try('HMGET', JOB .. chunk, 'status', 'origin') or {}
  if not open then
    forget_job(chunk)
    redis.call('DEL', CHUNK .. chunk, RESULTS .. chunk)
    changed = changed + 1
  elseif job[2] and (job[1] == 'canceled' or cancel_job(chunk, job[2], job[1], ttl)) and end_chunk(chunk, ttl, 'cancelled', '', '') then
    changed = changed + 1
  end
end
if not open and batch[2] - 1 <= ARG.last then
  -- All that stays of it, so that its id is answered with "not found" and not with "lost".
  local idempotency, rest = idempotency_of(id, batch[3]), {}
  if idempotency then redis.call('DEL', idempotency) end
  redis.call('EXPIRE', key, ttl)
  redis.call('HSET', key, 'state', 'forgotten')
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if field ~= 'state' then append(rest, field) end
  end
  if #rest > 0 then redis.call('HDEL', key, unpack(rest)) end
end
return changed
