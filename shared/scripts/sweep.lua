#!lua flags=allow-oom
-- Looks after open pictures and batches, the longest unseen first. Where RQ's tools, a stock worker or a recovery have ended
-- one, its end is told, so that long polls, subscribers and callbacks hear of it although no client polls. A job that is
-- started without a lease, or waits in no queue, goes back to its queue. The cost depends only on how many are looked at. An
-- error with one of them does not affect the others.
-- KEYS: none
-- ARG: ttl (s), queues (all names), and ids, or most (how many to look at) and age (s since they were looked at last)
-- Answer: {how many were looked at, how many of them have ended or gone back}
local ttl, changed = ARG.ttl, 0

-- Whether the job is where its status says. In a long queue that is taken for granted.
local function in_place(id, status, queue, run)
  if status == 'started' then return has_lease(id, queue, run, true) end
  if status == 'scheduled' then return redis.call('ZSCORE', 'rq:scheduled:' .. queue, id) end
  if status ~= 'queued' then return true end -- deferred: RQ enqueues it when what it depends on has ended
  return redis.call('LLEN', QUEUE .. queue) > DEPTH or redis.call('LPOS', QUEUE .. queue, id)
    or has_lease(id, queue, run, true)
end

local function return_job(id, status, queue, run)
  if not queue or queue == '' or in_place(id, status, queue, run) then return end
  put_back(id, queue)
  redis.call('HSET', JOB .. id, 'status', 'queued')
  changed = changed + 1
end

local function look_after_batch(id)
  local chunks = redis.call('HGET', BATCH .. id, 'chunks')
  repair_batch(id, ttl)
  local open = is_open(redis.call('HGET', BATCH .. id, 'state'))
  if not open then changed = changed + 1 end
  for i = 0, open and chunks - 1 or -1 do
    local chunk = id .. '-' .. i
    if is_open(try('HGET', RESULTS .. chunk, 'state')) then
      local job = try('HMGET', JOB .. chunk, 'status', 'origin', 'digitq_run') or {}
      return_job(chunk, unpack(job))
      redis.call('EXPIRE', RESULTS .. chunk, 2 * ttl) -- as long as the batch moves, all of it stays
    end
  end
  if open then redis.call('EXPIRE', BATCH .. id, 2 * ttl) end
  return open
end

-- The job was deleted, or has waited for so long that nothing is left of it. What is told of it stays.
local function tell_lost(id, known)
  local lost, fields = lost_record(known.bytes[id]), {}
  if redis.call('EXISTS', IMAGE .. id) == 0 then
    lost.digitq_found = '{"error":["expired","The picture has expired"]}'
  end
  lost.ended_at = ISO
  for name, value in pairs(lost) do append(fields, name, value) end
  set_hash(GONE .. id, ttl, unpack(fields))
  redis.call('EXPIRE', IMAGE .. id, ttl)
  announce({id}, {as_news(id, {}, lost)}, known, ttl)
  changed = changed + 1
end

-- RQ alone has ended it. RQ's own cancel leaves a job without a time to live, and does not say when it was.
local function tell(id, known, status, record, key)
  redis.call('EXPIRE', IMAGE .. id, ttl)
  expire_key(key, ttl)
  if status == 'canceled' and redis.call('TTL', JOB .. id) < 0 then redis.call('EXPIRE', JOB .. id, ttl) end
  local now = (record[4] or '') == '' and {ended_at = ISO} or {}
  if now.ended_at then redis.call('HSET', JOB .. id, 'ended_at', ISO) end
  announce({id}, {as_news(id, record, now)}, known, ttl)
  changed = changed + 1
end

-- Looks after a picture or a foreign job. Returns whether it is still open.
local function look_after(id)
  local job = try('HMGET', JOB .. id, 'status', 'origin', 'digitq_run', 'description', 'digitq_key', unpack(RECORD)) or {}
  local status = job[1]
  if not status and is_open(try('HGET', BATCH .. id, 'state')) then return look_after_batch(id) end
  if status and not has_ended(status) then
    return_job(id, unpack(job, 1, 3))
    return true
  end
  local known = before_the_end({id})
  if status and is_picture(job[4]) then
    tell(id, known, status, {unpack(job, 6, 5 + #RECORD)}, idempotency_of(id, job[5]))
  elseif known.bytes[id] then
    tell_lost(id, known)
  end
  return false
end

local ids = ARG.ids or redis.call('ZRANGEBYSCORE', OPEN, '-inf', NOW - ARG.age, 'LIMIT', 0, ARG.most)
-- What is open is remembered until it has ended.
for _, key in ipairs(#ids > 0 and {OPEN, ACCEPTED} or {}) do extend(key, 2 * ttl) end
for _, id in ipairs(ids) do
  redis.call('ZADD', OPEN, NOW, id)
  local ok, open = pcall(look_after, id)
  if not ok then
    complain(id, 'was not looked after', open)
  elseif not open then
    redis.call('ZREM', OPEN, id)
  end
end
if ARG.ids then return {#ids, changed} end

-- Counts that drifted (RQ's tools have emptied a queue, or deleted a chunk) start from zero when nothing waits.
local busy = false
for _, queue in ipairs(ARG.queues) do
  if redis.call('LLEN', QUEUE .. queue) > 0 then busy = true else redis.call('DEL', SKIPPED .. queue) end
  busy = busy or redis.call('ZCARD', WIP .. queue) > 0
end
if not busy then redis.call('DEL', BULK) end
return {#ids, changed}
