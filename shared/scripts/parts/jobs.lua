-- What becomes of RQ's jobs. For scripts that say `WITH: jobs`.

-- An ordinary RQ job, with the fields that RQ's Job.to_dict writes; empty ones may be missing, `data` may be uncompressed
-- (Job.restore); `more` are further ones. Its entry in the queue comes before, and counts with it: one without a job is
-- skipped by whoever takes it.
local function write_job(id, queue, func, timeout, ttl, more)
  redis.call('HSET', JOB .. id, 'status', 'queued', 'origin', queue, 'created_at', ISO, 'enqueued_at', ISO,
    'data', '["' .. func .. '",null,["' .. id .. '"],{}]', 'description', func .. "('" .. id .. "')",
    'timeout', timeout, 'result_ttl', ttl, 'failure_ttl', ttl, unpack(more))
end

-- The fields by which RQ puts a job back that was abandoned, at once and so often.
local function retried(times)
  return times > 0 and {'retries_left', whole(times), 'enqueue_at_front_on_retry', '1'} or {}
end

-- How far a queue is searched from either end: a search through 200,000 ids would cost everybody else 20 ms.
local DEPTH = 1000

-- Puts a job back to the front of its queue, unless it stands there.
local function put_back(id, queue)
  if not redis.call('LPOS', QUEUE .. queue, id, 'MAXLEN', DEPTH) then redis.call('LPUSH', QUEUE .. queue, id) end
end

-- True while a lease on the job is valid (or, with `any`, has not been looked at since it ran out): ours by `digitq_run`,
-- a stock worker's by RQ's executions.
local function has_lease(id, queue, run, any)
  local _, execution = run_of(run)
  local executions = try('ZRANGE', 'rq:executions:' .. id, 0, -1) or {}
  if execution ~= '' then executions[#executions + 1] = execution end
  for _, one in ipairs(executions) do
    local expiry = redis.call('ZSCORE', WIP .. queue, id .. ':' .. one)
    if expiry and (any or tonumber(expiry) > NOW) then return true end
  end
  return false
end

-- Takes a waiting job back in RQ's terms: false if a worker has it. What stands deep in a long queue stays there until
-- a worker comes by and skips it, and is counted as gone (queue_length). The status is the last of what counts.
local function cancel_job(id, origin, status, ttl)
  local job, queue = JOB .. id, QUEUE .. origin
  local front = redis.call('LPOS', queue, id, 'MAXLEN', DEPTH)
  local back = not front and redis.call('LPOS', queue, id, 'RANK', -1, 'MAXLEN', DEPTH)
  local deep = status == 'queued' and not front and not back and redis.call('LLEN', queue) > 2 * DEPTH
  if status == 'scheduled' then
    if redis.call('ZREM', 'rq:scheduled:' .. origin, id) == 0 then return false end
  elseif status ~= 'queued' or not (front or back or deep) then
    return false
  end
  redis.call('EXPIRE', job, ttl)
  redis.call('ZADD', 'rq:canceled:' .. origin, NOW, id)
  if deep then
    redis.call('SADD', SKIPPED .. origin, id)
    redis.call('EXPIRE', SKIPPED .. origin, 2 * ttl)
  end
  redis.call('HSET', job, 'status', 'canceled', 'ended_at', ISO)
  if front or back then redis.pcall('LREM', queue, front and 1 or -1, id) end
  return true
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

-- Ends claimed jobs as RQ's worker does, each {id, execution, queue, result_ttl, failure_ttl, value, exception, claimed_at
-- (Unix s)}, successfully where `exception` is empty; those that are gone meanwhile stay so. Without a ttl they live for
-- `default` (s) at most. `more` writes and returns what else the hash of a job gets. Answers the ids of those that have
-- dependents. All is read first; the leases go last: what has ended under one that is left is not run again (leases.lua).
local function finish_jobs(worker, jobs, default, more)
  local wip, registries, ended, there, until_ = {}, {}, {}, {}, {}
  for _, job in ipairs(jobs) do
    note(wip, WIP .. job.queue, job.id .. ':' .. job.execution)
    local so_far = try('HMGET', JOB .. job.id, 'created_at', 'retries_left', 'digitq_key')
    -- Deleted with RQ's tools while it ran: nothing of it is to come back.
    if so_far and so_far[1] then
      job.ok = job.exception == ''
      job.ttl = string.match(job.ok and job.result_ttl or job.failure_ttl, '^%d+$')
        or whole(job.ok and math.min(RESULT_TTL, default) or default)
      until_[job.ttl] = until_[job.ttl] or as_text(NOW + job.ttl)
      note(registries, (job.ok and 'rq:finished:' or 'rq:failed:') .. job.queue, until_[job.ttl], job.id)
      job.retries, job.key = so_far[2], so_far[3] and idempotency_of(job.id, so_far[3])
      ended[#ended + 1], there[#there + 1] = job.id, job
    end
  end
  local dependents = those_with(JOB, ended, ':dependents')
  for_each('ZADD', registries)
  for _, job in ipairs(there) do
    local key, results, fields = JOB .. job.id, 'rq:results:' .. job.id, more and more(job) or {}
    -- A named failure is the picture's own: to run it again would end the same.
    if not job.ok and job.retries then append(fields, 'retries_left', '0') end
    try('XADD', results, 'MAXLEN', '~', '10', '*', 'type', job.ok and '1' or '2', 'worker_name', worker,
      job.ok and 'return_value' or 'exc_string', job.ok and job.value or job.exception, 'execution_id', job.execution,
      'execution_started_at', job.claimed_at, 'execution_ended_at', STAMP)
    redis.call('EXPIRE', results, job.ttl)
    redis.call('EXPIRE', key, job.ttl)
    expire_key(job.key, job.ttl)
    redis.call('HSET', key, 'status', job.ok and 'finished' or 'failed', 'ended_at', ISO, 'last_heartbeat', ISO, unpack(fields))
    job.ended = true
  end
  for_each('ZREM', wip)
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
