#!lua flags=allow-oom
-- Takes up to `max` waiting jobs, in the order of the queues, and registers them as started under a lease: what RQ's dequeue,
-- prepare_execution and prepare_job_execution write, in one step that no crash can interrupt.
-- allow-oom: accepted pictures finish even in a full Redis.
-- Everything is read before anything is written. Then the lease comes first and a job's status last, so wherever an error
-- ends the writes, a job is queued under a lease that nobody holds, and leases.lua puts it back as if never claimed.
-- A job whose keys are damaged is claimed with its `error`; the others are not affected.
-- KEYS: queues in the order of preference
-- ARG: max, worker, lease (s), nonce, ttl (s), queues (names as KEYS)
-- Answer: {when (RFC 3339), when (Unix s), and for each job {id, execution, queue, kind, data, image, attempt, timeout,
--   result ttl, failure ttl, key of idempotency, about, owner, when submitted (RFC 3339), error}}; what is missing is ''
--   kind: 'batch' for a picture of ours, 'chunk' for one of a batch, 'single' for a job on RQ's own path
local max, ttl, worker = ARG.max, ARG.ttl, ARG.worker
local lease_ends = as_text(NOW + ARG.lease)
-- A batch is closed at this size: a reply that takes longer than a lease to arrive would be lost.
local MAX_BYTES = 16 * 1024 * 1024
-- Entries that one step skips: a long row of cancelled jobs must not hold up Redis.
local MAX_SKIPPED = 10000

-- ---------------------------------------------------------------------- queued jobs are read

local bytes, alone, watched, seen, usual = 0, false, {}, {}, {}
local found, in_hand, leaving, skipped, many_skipped = {}, {}, {}, {}, 0

local function read_job(id)
  local job = try('HMGET', JOB .. id, 'data', 'status', 'description', 'started_at', 'timeout', 'result_ttl', 'failure_ttl',
    'created_at', 'digitq_run', 'digitq_about', 'digitq_owner', 'digitq_key')
  if not job or not job[1] then return nil end
  job = {data = job[1], status = job[2], description = job[3], started_at = job[4], timeout = job[5], result_ttl = job[6],
    failure_ttl = job[7], created_at = job[8], run = job[9], about = job[10], owner = job[11], key = job[12]}
  if job.about then return job end
  -- Not from us: each of these makes it RQ's own business.
  local own = redis.call('HMGET', JOB .. id, 'success_callback_name', 'failure_callback_name', 'stopped_callback_name',
    'group_id', 'repeats_left', 'rate_limit_key', 'webhooks', 'dependency_id', 'ttl')
  for i = 1, 8 do job.own_path = job.own_path or (own[i] and own[i] ~= '') end
  job.ttl = own[9]
  return job
end

-- Whether a time is missing or a positive whole number of a sane size: any other (kept for ever, not kept, malformed) is
-- RQ's own business.
local function is_usual(value)
  if not value then return true end
  if usual[value] == nil then usual[value] = #value <= 9 and string.match(value, '^[1-9]%d*$') ~= nil end
  return usual[value]
end

local function kind_of(id, job)
  if job.own_path or watched[id] then return 'single' end
  local kind = is_picture(job.description) and 'batch' or is_call(job.description, '.tasks.classify_chunk(') and 'chunk'
  return is_usual(job.timeout) and is_usual(job.result_ttl) and is_usual(job.failure_ttl) and kind or 'single'
end

-- Looks at a job in the queue. Returns false where it has to go alone and is not the first: it stays there.
local function look(id, queue)
  local job = not seen[id] and read_job(id)
  seen[id] = true
  -- No job: deleted while it waited. Not queued: pushed twice by two recoveries at once, or cancelled.
  if not job or job.status ~= 'queued' then
    note(skipped, SKIPPED .. queue, id)
    many_skipped = many_skipped + 1
    return true
  end
  local again = job.started_at and job.started_at ~= ''
  -- A recovery has put it back although another worker's lease on it is valid: two recoveries ran at once, and one of them
  -- read before and wrote after the new claim.
  if again and has_lease(id, queue, job.run) then
    in_hand[#in_hand + 1] = id
    return true
  end
  local kind, execution, image = kind_of(id, job), ARG.nonce .. #found, ''
  -- Claimed alone: a chunk, a job that RQ must run itself, and a job that was started before: it may have killed its worker, and its
  -- neighbours would pay for it.
  alone = kind ~= 'batch' or again
  if alone and #found > 0 then return false end
  if kind ~= 'single' then image = try('GET', (kind == 'chunk' and CHUNK or IMAGE) .. id) end
  found[#found + 1] = {id = id, queue = queue, kind = kind, job = job, again = again, execution = execution,
    member = id .. ':' .. execution, image = image or '', error = kind == 'batch' and image == nil and 'a key of another type',
    record = kind == 'chunk' and read_chunk(id), attempt = again and math.max(1, (run_of(job.run))) + 1 or 1}
  bytes = bytes + (image and #image or 0)
  return true
end

-- Looks at what one queue may give; returns false where the batch is closed.
local function drain(key, queue)
  leaving[key] = 0
  while #found < max and many_skipped < MAX_SKIPPED do
    local wanted = max - #found
    local ids = redis.call('LRANGE', key, leaving[key], leaving[key] + wanted - 1)
    for _, id in ipairs(those_with(JOB, ids, ':dependents')) do watched[id] = true end
    for _, id in ipairs(ids) do
      if alone or bytes >= MAX_BYTES or not look(id, queue) then return false end
      leaving[key] = leaving[key] + 1
    end
    if #ids < wanted then return true end
  end
  return false
end

for i, key in ipairs(KEYS) do
  if not drain(key, ARG.queues[i]) then break end
end

local wip, ids, open, strangers, was = {}, {}, {}, {}, redis.call('HGET', 'rq:worker:' .. worker, 'state')
for i, one in ipairs(found) do
  note(wip, WIP .. one.queue, lease_ends, one.member)
  ids[i] = one.id
end
for i, accepted in ipairs(fields_of(ACCEPTED, ids)) do
  local one = found[i]
  -- What we have accepted is looked after since then.
  if not accepted and one.kind ~= 'chunk' then
    open[#open + 1] = one.id
    if not one.job.run and is_picture(one.job.description) then strangers[#strangers + 1] = one.id end
  end
end

-- ---------------------------------------------------------------------- and then taken

for_each('ZADD', wip)
local state = #found > 0 and 'busy' or 'idle'
if was ~= state and (was or #found > 0) then
  redis.call('HSET', 'rq:worker:' .. worker, 'state', state)
  keep_worker_a_while('rq:worker:' .. worker)
end
for _, id in ipairs(in_hand) do redis.call('HSET', JOB .. id, 'status', 'started') end
for key, entries in pairs(leaving) do
  if entries > 0 then redis.call('LTRIM', key, entries, -1) end
end
pcall(for_each, 'SREM', skipped)
if #open > 0 then watch(open, ttl) end

local function start(one)
  local key, job, attempt = JOB .. one.id, one.job, one.attempt
  -- A picture of ours lives long enough to end; RQ lets a job expire that has ended before or that has a time to live, and
  -- not while it runs.
  if job.about then
    if job.run then redis.call('EXPIRE', key, 2 * ttl) end
  elseif one.again or job.ttl then
    redis.call('PERSIST', key)
  end
  if one.record then one.attempt, one.about, one.submitted = start_chunk(one.id, ttl, one.record) end
  -- What an earlier end has left is no part of this run.
  if job.run then
    redis.call('HDEL', key, 'digitq_found')
    redis.call('DEL', INPUT .. one.id)
  end
  -- RQ keeps what fails without a ttl of its own for a year, and its result for ever.
  if not job.failure_ttl then redis.call('HSET', key, 'failure_ttl', whole(ttl)) end
  redis.call('HSET', key, 'status', 'started', 'started_at', ISO, 'last_heartbeat', ISO, 'worker_name', worker, 'digitq_run',
    attempt .. ':' .. one.execution)
end

local claimed, failure = {ISO, STAMP}, nil
for _, one in ipairs(found) do
  local job, ok, why = one.job, pcall(start, one)
  if ok then
    claimed[#claimed + 1] = {one.id, one.execution, one.queue, one.kind, job.data, one.image, tostring(one.attempt),
      job.timeout or '', job.result_ttl or '', job.failure_ttl or '', job.key or '', one.about or job.about or '',
      job.owner or '', one.submitted or job.created_at or '', one.error or ''}
  else
    failure = reason(why)
    complain(one.id, 'was not claimed', failure)
  end
end
if #strangers > 0 then
  local entries = {}
  for i, id in ipairs(strangers) do append(entries, history_score(i), id) end
  remember_history({[RECENT] = entries}, ttl)
  tally('arrived', #strangers)
end
if failure and #claimed == 2 then return redis.error_reply(failure) end
return claimed
