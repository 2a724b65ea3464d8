#!lua flags=allow-oom
-- Takes up to `max` waiting jobs, in the order of the queues, and registers them as started with a lease: what RQ's
-- dequeue, prepare_execution and prepare_job_execution write, in one step, so that no crash can fall in between.
-- allow-oom: in a full Redis what was accepted still ends.
-- An error: all is read before anything is written. The lease comes first and a job's status last, so wherever an error
-- ends the writes, each job is queued under a lease that nobody holds, and leases.lua puts it back as if never claimed.
-- A job whose keys are damaged is claimed with its `error`, alone; its neighbours are not harmed.
-- WITH: jobs, chunks
-- KEYS: queues in the order of preference
-- ARGV: max, worker name, lease (s), nonce, job function, result ttl (s), chunk function, queue names as KEYS
-- Answer: for each job {id, execution, queue, kind, data, image, attempt, timeout, result ttl, failure ttl,
--   request id, traceparent, when it was claimed (Unix s), when submitted (RFC 3339 or ''), error or ''}
--   kind: 'batch' for a picture of ours, 'chunk' for one of a batch, 'single' for a job on RQ's own path
local max, worker, lease, nonce = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local keep = string.format('%d', math.ceil(lease) + 60)
local lease_ends, execution_ends = as_text(NOW + lease), as_text(NOW + lease + 60)
-- A reply that takes longer than a lease to arrive would be lost before it is known: so many bytes close a batch.
local MAX_BYTES = 16 * 1024 * 1024
-- Entries that one step skips: a long row of cancelled jobs must not hold up Redis.
local MAX_SKIPPED = 10000
local func, ttl = ARGV[5], tonumber(ARGV[6])
local prefixes = {batch = func .. '(', chunk = ARGV[7] .. '('}

local FIELDS = {'data', 'status', 'description', 'started_at', 'timeout', 'result_ttl', 'failure_ttl',
  'success_callback_name', 'failure_callback_name', 'stopped_callback_name', 'group_id', 'repeats_left',
  'rate_limit_key', 'webhooks', 'dependency_id', 'ttl'}

-- ---------------------------------------------------------------------- what waits is read

local bytes, alone, watched, seen = 0, false, {}, {}
local found, in_hand, leaving, skipped, many_skipped = {}, {}, {}, {}, 0

local function kind_of(id, job)
  local kind = 'single'
  for name, prefix in pairs(prefixes) do
    if job[3] and string.sub(job[3], 1, #prefix) == prefix then kind = name end
  end
  for i = 8, #FIELDS - 1 do if job[i] and job[i] ~= '' then return 'single' end end
  -- What is no positive whole number of a sane size (kept for ever, not kept, malformed) is RQ's own business.
  for i = 5, 7 do
    if job[i] and not (#job[i] <= 9 and string.match(job[i], '^[1-9]%d*$')) then return 'single' end
  end
  return watched[id] and 'single' or kind
end

-- Looks at a job that stands in the queue. False where it has to go alone and is not the first: it stays there.
local function look(id, queue)
  local job = not seen[id] and try('HMGET', JOB .. id, unpack(FIELDS))
  seen[id] = true
  -- No job: deleted while it waited. Not queued: pushed twice by two recoveries at once, or cancelled.
  if not job or not job[1] or job[2] ~= 'queued' then
    note(skipped, SKIPPED .. queue, id)
    many_skipped = many_skipped + 1
    return true
  end
  local again = job[4] and job[4] ~= ''
  -- Somebody's recovery has put it back although another worker's lease on it is valid: two recoveries at once, of which
  -- one read before and wrote after the new claim.
  if again and has_lease(id, queue) then
    in_hand[#in_hand + 1] = id
    return true
  end
  local kind = kind_of(id, job)
  -- Alone goes a chunk, what RQ must run itself, and what was started before: it may have taken its worker down, and
  -- its neighbours would pay for it.
  alone = kind ~= 'batch' or again
  if alone and #found > 0 then return false end
  local one = {id = id, queue = queue, kind = kind, job = job, execution = nonce .. #found, image = '', error = '',
    -- RQ lets a job expire that has ended before or that has a time to live, and not while it runs.
    kept = again or job[#FIELDS]}
  if kind ~= 'single' then
    local image = try('GET', (kind == 'batch' and IMAGE or CHUNK) .. id)
    one.record = (kind == 'batch' and read_record or read_chunk)(id)
    one.image = image or ''
    if kind == 'batch' and (image == nil or not one.record) then one.error = 'a key of another type' end
  end
  found[#found + 1] = one
  bytes = bytes + #one.image
  return true
end

-- Looks at what one queue may give; false where the batch is closed.
local function drain(key, queue)
  leaving[key] = 0
  while #found < max and many_skipped < MAX_SKIPPED do
    local ids = redis.call('LRANGE', key, leaving[key], leaving[key] + max - #found - 1)
    if #ids == 0 then return true end
    for _, id in ipairs(with_dependents(ids)) do watched[id] = true end
    for i, id in ipairs(ids) do
      if alone or bytes >= MAX_BYTES or not look(id, queue) then return false end
      leaving[key] = leaving[key] + 1
    end
  end
  return false
end

for i, key in ipairs(KEYS) do
  if not drain(key, ARGV[7 + i]) then break end
end

-- ---------------------------------------------------------------------- and then taken

local wip, executions = {}, {}
for _, one in ipairs(found) do
  one.member = one.id .. ':' .. one.execution
  note(wip, 'rq:wip:' .. one.queue, lease_ends, one.member)
  executions[#executions + 1] = one.member
end
for_each('ZADD', wip)
if #found > 0 then
  local key = 'rq:worker:' .. worker
  for_each('SADD', {[key .. ':executions'] = executions})
  redis.call('EXPIRE', key .. ':executions', keep + 60)
  redis.call('HSET', key, 'state', 'busy')
  keep_worker_a_while(key)
end
for _, id in ipairs(in_hand) do redis.call('HSET', JOB .. id, 'status', 'started') end
for key, entries in pairs(leaving) do
  if entries > 0 then redis.call('LTRIM', key, entries, -1) end
end
pcall(for_each, 'SREM', skipped)

local function start(one)
  local id, attempt, request, trace, submitted = one.id, '0', '', '', ''
  set_hash('rq:execution:' .. one.member, keep, 'id', one.execution, 'job_id', id, 'created_at', STAMP,
    'last_heartbeat', STAMP, 'worker_name', worker)
  redis.call('ZADD', 'rq:executions:' .. id, execution_ends, one.execution)
  redis.call('EXPIRE', 'rq:executions:' .. id, keep)
  if one.record and one.kind == 'batch' then
    attempt, request, trace, submitted = start_record(id, '', ttl, one.record)
  elseif one.record then
    attempt, request, trace, submitted = start_chunk(id, ttl, one.record)
  else
    watch({id}, ttl)
  end
  if one.kept then redis.call('PERSIST', JOB .. id) end
  -- RQ keeps what fails without a ttl of its own for a year, and its result for ever.
  redis.call('HSET', JOB .. id, 'status', 'started', 'started_at', ISO, 'last_heartbeat', ISO, 'worker_name', worker,
    unpack(one.job[7] and {} or {'failure_ttl', ARGV[6]}))
  return attempt, request, trace, submitted
end

local claimed, failure = {}, nil
for _, one in ipairs(found) do
  local ok, attempt, request, trace, submitted = pcall(start, one)
  local text = not ok and (type(attempt) == 'table' and attempt.err or tostring(attempt))
  -- Its own keys are damaged where one is of another type, or a value that is no number ("attempt to perform arithmetic").
  if ok or string.find(text, 'WRONGTYPE', 1, true) or string.find(text, 'attempt to ', 1, true) then
    local job = one.job
    claimed[#claimed + 1] = {one.id, one.execution, one.queue, one.kind, job[1], one.image, ok and attempt or '0',
      job[5] or '', job[6] or '', job[7] or '', request or '', trace or '', STAMP, submitted or '', text or one.error}
  else
    failure = text
    redis.log(redis.LOG_WARNING, 'digitq: ' .. one.id .. ' was not claimed: ' .. text)
  end
end
if failure and #claimed == 0 then return redis.error_reply(failure) end
return claimed
