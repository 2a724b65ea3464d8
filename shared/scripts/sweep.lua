#!lua flags=allow-oom
-- Looks after those records and batches that have not ended and that nobody has looked at for a while, the longest
-- first: they follow their jobs, so that what nobody polls ends too, and its callback is made. A job that is started
-- without a lease, or waits in no queue, goes back to its queue.
-- The cost is that of those it looks at, whatever has ended or waits. An error costs one its turn and no other.
-- WITH: jobs, chunks, records
-- KEYS: none
-- ARGV: result ttl (s), how many to look at, seconds since they were looked at last, all queue names
-- Answer: {how many it has looked at, how many of them have ended or gone back}
local ttl, most, age = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local ended, repaired = {}, 0

-- Whether the job is where its status says. What waits deep in a long queue is believed.
local function in_place(id, status, queue)
  if status == 'started' then return has_lease(id, queue, true) end
  if status == 'scheduled' then return redis.call('ZSCORE', 'rq:scheduled:' .. queue, id) end
  if status ~= 'queued' then return true end -- deferred: RQ enqueues it when what it depends on has ended
  return redis.call('LLEN', 'rq:queue:' .. queue) > DEPTH or redis.call('LPOS', 'rq:queue:' .. queue, id)
    or has_lease(id, queue, true)
end

local function return_job(id, status, queue)
  if queue == '' or in_place(id, status, queue) then return end
  put_back(id, queue)
  redis.call('HSET', JOB .. id, 'status', 'queued')
  repaired = repaired + 1
end

local function look_after_batch(id)
  local chunks = redis.call('HGET', BATCH .. id, 'chunks')
  repair_batch(id, ttl)
  local open = is_open(redis.call('HGET', BATCH .. id, 'state'))
  if not open then repaired = repaired + 1 end
  for i = 0, open and chunks - 1 or -1 do
    local chunk = id .. '-' .. i
    if is_open(try('HGET', RESULTS .. chunk, 'state')) then
      local job = try('HMGET', JOB .. chunk, 'status', 'origin') or {}
      return_job(chunk, job[1], job[2] or '')
      redis.call('EXPIRE', RESULTS .. chunk, 2 * ttl) -- a batch that moves keeps what waits of it
    end
  end
  if open then redis.call('EXPIRE', BATCH .. id, 2 * ttl) end
  return open
end

-- A job that is none of ours, or whose record has expired.
local function look_after_job(id)
  local job = try('HMGET', JOB .. id, 'status', 'origin') or {}
  if job[1] ~= 'queued' and job[1] ~= 'started' and job[1] ~= 'scheduled' then return false end
  return_job(id, job[1], job[2] or '')
  return true
end

local function look_after(id)
  local state = try('HGET', PREDICTION .. id, 'state')
  if not state and is_open(try('HGET', BATCH .. id, 'state')) then return look_after_batch(id) end
  if not state then return look_after_job(id) end
  if not is_open(state) then return false end
  local status, queue = follow(id, state, ttl, ended)
  if status then return_job(id, status, queue) end
  return status
end

local ids = redis.call('ZRANGEBYSCORE', OPEN, '-inf', NOW - age, 'LIMIT', 0, most)
for _, id in ipairs(ids) do
  redis.call('ZADD', OPEN, NOW, id)
  local ok, open = pcall(look_after, id)
  if not ok then
    redis.log(redis.LOG_WARNING, 'digitq: ' .. id .. ' was not repaired: ' .. (type(open) == 'table' and open.err or open))
  elseif not open then
    redis.call('ZREM', OPEN, id)
  end
end
repaired = repaired + #ended
announce(ended)

-- Counts that drifted (RQ's tools have emptied a queue, or deleted a chunk) start afresh when nothing waits.
local busy = false
for i = 4, #ARGV do
  if redis.call('LLEN', 'rq:queue:' .. ARGV[i]) > 0 then busy = true else redis.call('DEL', SKIPPED .. ARGV[i]) end
  busy = busy or redis.call('ZCARD', 'rq:wip:' .. ARGV[i]) > 0
end
if not busy then redis.call('DEL', BULK) end
return {#ids, repaired}
