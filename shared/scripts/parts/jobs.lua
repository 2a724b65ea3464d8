-- What becomes of RQ's jobs. For scripts that say `WITH: jobs`.

-- An ordinary RQ job at the end of its queue, with the fields that RQ's Job.to_dict writes; empty ones may be missing,
-- `data` may be uncompressed (Job.restore). The queue's own name in rq:queues is the caller's business, once for many.
local function enqueue(id, queue, func, timeout, retries, ttl)
  local fields = {'status', 'queued', 'origin', queue, 'created_at', ISO, 'enqueued_at', ISO,
    'data', '["' .. func .. '",null,["' .. id .. '"],{}]', 'description', func .. "('" .. id .. "')",
    'timeout', timeout, 'result_ttl', ttl, 'failure_ttl', ttl, 'retries_left', retries, 'retry_intervals', '[0]',
    'enqueue_at_front_on_retry', '1'}
  redis.call('HSET', JOB .. id, unpack(fields, 1, retries > 0 and #fields or 18))
  redis.call('RPUSH', 'rq:queue:' .. queue, id)
end

-- Takes a waiting job back in RQ's terms. Whoever removes it from the queue owns it: false if a worker has done so.
local function cancel_job(id, origin, ttl)
  if redis.call('LREM', 'rq:queue:' .. origin, 1, id) == 0 then return false end
  redis.call('HSET', JOB .. id, 'status', 'canceled')
  redis.call('EXPIRE', JOB .. id, ttl)
  redis.call('ZADD', 'rq:canceled:' .. origin, NOW, id)
  redis.call('ZREMRANGEBYSCORE', 'rq:canceled:' .. origin, '-inf', NOW - ttl)
  return true
end

-- Deletes an ended job and what RQ keeps about it.
local function forget_job(id)
  local origin = redis.call('HGET', JOB .. id, 'origin')
  for _, registry in ipairs(origin and {'finished', 'failed', 'canceled'} or {}) do
    redis.call('ZREM', 'rq:' .. registry .. ':' .. origin, id)
  end
  redis.call('DEL', JOB .. id, 'rq:results:' .. id)
end

-- RQ's DEFAULT_RESULT_TTL and DEFAULT_FAILURE_TTL; the result of a failed job without a ttl of its own has none.
local RESULT_TTL, FAILURE_TTL = 500, 31536000

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
-- successfully where `exception` is empty. Answers the ids of those that have dependents.
local function finish_jobs(worker, jobs)
  local wip, registries, gone, members, ended = {}, {}, {}, {}, {}
  for _, job in ipairs(jobs) do
    local id, execution, queue, ttl, value, exception, started = unpack(job, 1, 7)
    local key, member, ok = JOB .. id, id .. ':' .. execution, exception == ''
    local expire = ttl or (ok and RESULT_TTL)
    note(wip, 'rq:wip:' .. queue, member)
    members[#members + 1] = member
    gone[#gone + 1] = 'rq:execution:' .. member
    gone[#gone + 1] = 'rq:executions:' .. id
    local so_far = redis.call('HMGET', key, 'created_at', 'retries_left')
    -- Deleted with RQ's tools while it ran: nothing of it is to come back.
    if so_far[1] then
      redis.call('HSET', key, 'status', ok and 'finished' or 'failed', 'ended_at', ISO, 'last_heartbeat', ISO,
        -- A named failure is the picture's own: to run it again would end the same.
        unpack((not ok and so_far[2]) and {'retries_left', 0} or {}))
      redis.call('XADD', 'rq:results:' .. id, 'MAXLEN', '~', 10, '*', 'type', ok and 1 or 2, 'worker_name', worker,
        ok and 'return_value' or 'exc_string', ok and value or exception, 'execution_id', execution,
        'execution_started_at', started, 'execution_ended_at', STAMP)
      if expire then redis.call('EXPIRE', 'rq:results:' .. id, expire) end
      redis.call('EXPIRE', key, expire or FAILURE_TTL)
      note(registries, (ok and 'rq:finished:' or 'rq:failed:') .. queue, NOW + (expire or FAILURE_TTL), id)
      ended[#ended + 1] = id
    end
  end
  for_each('ZREM', wip)
  for_each('ZADD', registries)
  for_each('SREM', {['rq:worker:' .. worker .. ':executions'] = members})
  in_slices(gone, function(...) redis.call('DEL', ...) end)
  return with_dependents(ended)
end

-- What the worker did, in RQ's hash of it.
local function count_jobs(worker, succeeded, failed, seconds)
  local stats = 'rq:worker:' .. worker
  redis.call('HSET', stats, 'state', 'idle')
  if succeeded > 0 then redis.call('HINCRBY', stats, 'successful_job_count', succeeded) end
  if failed > 0 then redis.call('HINCRBY', stats, 'failed_job_count', failed) end
  redis.call('HINCRBYFLOAT', stats, 'total_working_time', seconds)
end
