-- What becomes of RQ's jobs. For scripts that say `WITH: jobs`.

-- An ordinary RQ job at the end of its queue, with the fields that RQ's Job.to_dict writes; empty ones may be missing,
-- `data` may be uncompressed (Job.restore). The queue's own name in rq:queues is the caller's business, once for many.
-- The job comes last, and with it the queue's entry counts: one without a job is skipped by whoever takes it.
local function enqueue(id, queue, func, timeout, retries, ttl)
  local fields = {'status', 'queued', 'origin', queue, 'created_at', ISO, 'enqueued_at', ISO,
    'data', '["' .. func .. '",null,["' .. id .. '"],{}]', 'description', func .. "('" .. id .. "')",
    'timeout', timeout, 'result_ttl', ttl, 'failure_ttl', ttl, 'retries_left', retries, 'retry_intervals', '[0]',
    'enqueue_at_front_on_retry', '1'}
  redis.call('RPUSH', 'rq:queue:' .. queue, id)
  redis.call('HSET', JOB .. id, unpack(fields, 1, retries > 0 and #fields or 18))
end

-- How far a queue is searched from either end: a search through 200,000 ids would cost everybody else 20 ms.
local DEPTH = 1000

-- Puts a job back to the front of its queue, unless it stands there.
local function put_back(id, queue)
  if not redis.call('LPOS', 'rq:queue:' .. queue, id, 'MAXLEN', DEPTH) then redis.call('LPUSH', 'rq:queue:' .. queue, id) end
end

-- True while a lease on the job is valid (or, with `any`, has not been looked at since it ran out).
local function has_lease(id, queue, any)
  for _, execution in ipairs(try('ZRANGE', 'rq:executions:' .. id, 0, -1) or {}) do
    local expiry = redis.call('ZSCORE', 'rq:wip:' .. queue, id .. ':' .. execution)
    if expiry and (any or tonumber(expiry) > NOW) then return true end
  end
  return false
end

-- Takes a waiting job back in RQ's terms: false if a worker has it. What stands deep in a long queue stays there until
-- a worker comes by and skips it, and is counted as gone (queue_length).
local function cancel_job(id, origin, ttl)
  local job, queue = JOB .. id, 'rq:queue:' .. origin
  local status = redis.call('HGET', job, 'status')
  local scheduled = status == 'scheduled' and redis.call('ZREM', 'rq:scheduled:' .. origin, id) == 1
  if status ~= 'queued' and status ~= 'canceled' and not scheduled then return false end
  local front = redis.call('LPOS', queue, id, 'MAXLEN', DEPTH)
  local back = not front and redis.call('LPOS', queue, id, 'RANK', -1, 'MAXLEN', DEPTH)
  local deep = status == 'queued' and not front and not back and redis.call('LLEN', queue) > 2 * DEPTH
  if status == 'queued' and not (front or back or deep) then return false end
  redis.call('HSET', job, 'status', 'canceled')
  redis.call('EXPIRE', job, ttl)
  redis.call('ZADD', 'rq:canceled:' .. origin, NOW, id)
  if deep then
    redis.call('SADD', SKIPPED .. origin, id)
    redis.call('EXPIRE', SKIPPED .. origin, 2 * ttl)
  elseif front or back then
    redis.call('LREM', queue, front and 1 or -1, id)
  end
  return true
end

-- All that stays of what is forgotten, so that its id is answered with "not found" and not with "lost".
local function leave_tombstone(key, id, ttl)
  local idempotency = idempotency_of(id, redis.call('HGET', key, 'idempotency_key'))
  if idempotency then redis.call('DEL', idempotency) end
  redis.call('EXPIRE', key, ttl)
  redis.call('HSET', key, 'state', 'forgotten')
  local rest = {}
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if field ~= 'state' then rest[#rest + 1] = field end
  end
  if #rest > 0 then redis.call('HDEL', key, unpack(rest)) end
end

-- Deletes an ended job and what RQ keeps about it.
local function forget_job(id)
  local origin = try('HGET', JOB .. id, 'origin')
  for _, registry in ipairs(origin and {'finished', 'failed', 'canceled'} or {}) do
    redis.call('ZREM', 'rq:' .. registry .. ':' .. origin, id)
  end
  redis.call('DEL', JOB .. id, 'rq:results:' .. id)
end

-- RQ's DEFAULT_RESULT_TTL. Its DEFAULT_FAILURE_TTL is a year: what fails without a ttl of its own is kept for ours.
local RESULT_TTL = 500

-- Adds values to the list under a key of a table.
local function note(lists, key, ...)
  local list = lists[key]
  if not list then
    list = {}
    lists[key] = list
  end
  for _, value in ipairs({...}) do list[#list + 1] = value end
end

-- Runs a command on all values, so many at a time as Lua can pass (always an even number: scores come with members).
local function in_slices(values, run)
  for i = 1, #values, 1000 do run(unpack(values, i, math.min(i + 999, #values))) end
end

-- Runs a command for each list of a table: its name, the key, the values.
local function for_each(command, lists)
  for key, values in pairs(lists) do
    in_slices(values, function(...) redis.call(command, key, ...) end)
  end
end

-- Those of the jobs that have dependents: hardly ever any, so all are asked about at once.
local function with_dependents(ids)
  local found, keys = {}, {}
  for i, id in ipairs(ids) do keys[i] = JOB .. id .. ':dependents' end
  local any = 0
  in_slices(keys, function(...) any = any + redis.call('EXISTS', ...) end)
  for i = 1, any > 0 and #ids or 0 do
    if redis.call('EXISTS', keys[i]) == 1 then found[#found + 1] = ids[i] end
  end
  return found
end

-- Ends claimed jobs as RQ's worker does: {id, execution, queue, ttl or nil, value, exception, when it started (Unix s)},
-- successfully where `exception` is empty. Without a ttl they live for `default` at most. Answers the ids of those that have dependents. The leases go last: what has
-- ended under one that is left is not run again (leases.lua).
local function finish_jobs(worker, jobs, default)
  local wip, registries, gone, members, ended, there, until_ = {}, {}, {}, {}, {}, {}, {}
  for _, job in ipairs(jobs) do
    local id, execution, queue, ttl, _, exception = unpack(job, 1, 6)
    local member, ok = id .. ':' .. execution, exception == ''
    note(wip, 'rq:wip:' .. queue, member)
    members[#members + 1] = member
    gone[#gone + 1] = 'rq:execution:' .. member
    gone[#gone + 1] = 'rq:executions:' .. id
    local so_far = try('HMGET', JOB .. id, 'created_at', 'retries_left')
    -- Deleted with RQ's tools while it ran: nothing of it is to come back.
    if so_far and so_far[1] then
      local expire = ttl or (ok and math.min(RESULT_TTL, default) or default)
      until_[expire] = until_[expire] or as_text(NOW + expire)
      note(registries, (ok and 'rq:finished:' or 'rq:failed:') .. queue, until_[expire], id)
      ended[#ended + 1] = id
      there[#there + 1] = {job, ok, expire, so_far[2]}
    end
  end
  local dependents = with_dependents(ended)
  for_each('ZADD', registries)
  for _, one in ipairs(there) do
    local job, ok, expire, retries = unpack(one, 1, 4)
    local id, execution, _, _, value, exception, started = unpack(job, 1, 7)
    try('XADD', 'rq:results:' .. id, 'MAXLEN', '~', 10, '*', 'type', ok and 1 or 2, 'worker_name', worker,
      ok and 'return_value' or 'exc_string', ok and value or exception, 'execution_id', execution,
      'execution_started_at', started, 'execution_ended_at', STAMP)
    redis.call('EXPIRE', 'rq:results:' .. id, expire)
    redis.call('EXPIRE', JOB .. id, expire)
    redis.call('HSET', JOB .. id, 'status', ok and 'finished' or 'failed', 'ended_at', ISO, 'last_heartbeat', ISO,
      -- A named failure is the picture's own: to run it again would end the same.
      unpack((not ok and retries) and {'retries_left', 0} or {}))
  end
  for_each('ZREM', wip)
  in_slices(gone, function(...) redis.call('DEL', ...) end)
  for_each('SREM', {['rq:worker:' .. worker .. ':executions'] = members})
  return dependents
end

-- RQ's hash of a worker that was paused for longer than it lives is made anew by what we write into it.
local function keep_worker_a_while(key)
  if redis.pcall('TTL', key) == -1 then redis.pcall('EXPIRE', key, 120) end
end

-- What the worker did, in RQ's hash of it: not worth an error once the jobs have ended.
local function count_jobs(worker, succeeded, failed, seconds)
  local stats = 'rq:worker:' .. worker
  redis.pcall('HSET', stats, 'state', 'idle')
  if succeeded > 0 then redis.pcall('HINCRBY', stats, 'successful_job_count', succeeded) end
  if failed > 0 then redis.pcall('HINCRBY', stats, 'failed_job_count', failed) end
  redis.pcall('HINCRBYFLOAT', stats, 'total_working_time', seconds)
  keep_worker_a_while(stats)
end
