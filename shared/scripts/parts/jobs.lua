-- The life of RQ's jobs.

-- Writes a waiting RQ job, with the fields of RQ's Job.to_dict and `more`. Empty fields may be missing, and `data` may be
-- uncompressed (Job.restore). Its entry in the queue is written before, and workers skip one without a job. How its picture is
-- read is a keyword argument of the call, unless it is read as one digit.
local function write_job(id, queue, func, timeout, ttl, more, read)
  local keyword, described = '', ''
  if read ~= 'digit' then keyword, described = '"read":"' .. read .. '"', ", read='" .. read .. "'" end
  redis.call('HSET', JOB .. id, 'status', 'queued', 'origin', queue, 'created_at', ISO, 'enqueued_at', ISO,
    'data', '["' .. func .. '",null,["' .. id .. '"],{' .. keyword .. '}]', 'description',
    func .. "('" .. id .. "'" .. described .. ')',
    'timeout', timeout, 'result_ttl', ttl, 'failure_ttl', ttl, unpack(more))
end

-- Returns the fields with which RQ puts an abandoned job back at once, this many times.
local function retried(times)
  return times > 0 and {'retries_left', whole(times), 'enqueue_at_front_on_retry', '1'} or {}
end

-- How many jobs deep a queue is searched from either end: through 200,000 ids a search takes 20 ms.
local DEPTH = 1000

-- Puts a job back to the front of its queue, unless it is there.
local function put_back(id, queue)
  if not redis.call('LPOS', QUEUE .. queue, id, 'MAXLEN', DEPTH) then redis.call('LPUSH', QUEUE .. queue, id) end
end

-- Whether a lease on the job is valid: ours by `digitq_run`, a stock worker's by RQ's executions. With `any`, a lease that
-- ran out and was not recovered counts too.
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

-- Cancels a waiting job as RQ does; returns false if a worker has it. A job deep in a long queue stays there until a worker
-- skips it, and does not count as waiting (queue_length). Of what counts, the status is written last.
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

-- Deletes an ended job and what RQ keeps of it.
local function forget_job(id)
  local origin = try('HGET', JOB .. id, 'origin')
  for _, registry in ipairs(origin and {'finished', 'failed', 'canceled'} or {}) do
    redis.call('ZREM', 'rq:' .. registry .. ':' .. origin, id)
  end
  redis.call('DEL', JOB .. id, 'rq:results:' .. id)
end

-- RQ's DEFAULT_RESULT_TTL (s). Its DEFAULT_FAILURE_TTL is a year: failures without a ttl of their own are kept for ours.
local RESULT_TTL = 500

-- Ends claimed jobs as RQ's worker does; one that was deleted meanwhile stays deleted. Each has id, execution, queue,
-- result_ttl, failure_ttl, value, exception ('': it succeeded), claimed_at (Unix s), attempt, key (of idempotency or ''). Without a
-- ttl a job lives for `default` seconds at most. `more` writes what else is to be written, and returns further fields of
-- the job's hash. Sets `ok` and `ended` of each; returns the ids that have dependents. The leases go last: a job that has
-- ended under a lease is not run again (leases.lua).
local function finish_jobs(worker, jobs, default, more)
  local wip, registries, ids, alive, until_ = {}, {}, {}, {}, {}
  for i, job in ipairs(jobs) do
    ids[i] = job.id
    note(wip, WIP .. job.queue, job.id .. ':' .. job.execution)
  end
  ids = those_with(JOB, ids, '')
  for _, id in ipairs(ids) do alive[id] = true end
  local dependents = those_with(JOB, ids, ':dependents')
  for _, job in ipairs(jobs) do
    job.ok = job.exception == ''
    job.retries = not job.ok and alive[job.id] and try('HGET', JOB .. job.id, 'retries_left')
    job.idempotency = idempotency_of(job.id, job.key)
    job.ttl = string.match(job.ok and job.result_ttl or job.failure_ttl, '^%d+$')
      or whole(job.ok and math.min(RESULT_TTL, default) or default)
    until_[job.ttl] = until_[job.ttl] or as_text(NOW + job.ttl)
    if alive[job.id] then
      note(registries, (job.ok and 'rq:finished:' or 'rq:failed:') .. job.queue, until_[job.ttl], job.id)
    end
  end
  for_each('ZADD', registries)
  for _, job in ipairs(jobs) do
    if alive[job.id] then
      local key, results, fields = JOB .. job.id, 'rq:results:' .. job.id, more and more(job) or {}
      -- A failure with a code is the picture's own: to run it again would end the same.
      if job.retries then append(fields, 'retries_left', '0') end
      try('XADD', results, '*', 'type', job.ok and '1' or '2', 'worker_name', worker,
        job.ok and 'return_value' or 'exc_string', job.ok and job.value or job.exception, 'execution_id', job.execution,
        'execution_started_at', job.claimed_at, 'execution_ended_at', STAMP)
      if job.attempt ~= '1' then try('XTRIM', results, 'MAXLEN', '~', '10') end
      redis.call('EXPIRE', results, job.ttl)
      redis.call('EXPIRE', key, job.ttl)
      expire_key(job.idempotency, job.ttl)
      job.ended = try('HSET', key, 'status', job.ok and 'finished' or 'failed', 'ended_at', ISO, 'last_heartbeat', ISO,
        unpack(fields))
    end
  end
  for_each('ZREM', wip)
  return dependents
end

-- Gives RQ's hash of a worker an expiry where it has none: it expired while the worker was paused, and we made it anew.
local function keep_worker_a_while(key)
  if redis.pcall('TTL', key) == -1 then redis.pcall('EXPIRE', key, 120) end
end

-- Counts what the worker did, in RQ's hash of it. A failure to count is no error.
local function count_jobs(worker, succeeded, failed, seconds)
  local stats = 'rq:worker:' .. worker
  if succeeded > 0 then redis.pcall('HINCRBY', stats, 'successful_job_count', succeeded) end
  if failed > 0 then redis.pcall('HINCRBY', stats, 'failed_job_count', failed) end
  redis.pcall('HINCRBYFLOAT', stats, 'total_working_time', seconds)
  keep_worker_a_while(stats)
end
