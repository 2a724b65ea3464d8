#!lua flags=allow-oom
-- Takes up to `max` waiting jobs, in the order of the queues, and registers them as started with a lease: what RQ's
-- dequeue, prepare_execution and prepare_job_execution write, in one step, so that no crash can fall in between.
-- allow-oom: in a full Redis what was accepted still ends.
-- WITH: jobs, chunks
-- KEYS: queues in the order of preference
-- ARGV: max, worker name, lease (s), nonce, job function, result ttl (s), chunk function, queue names as KEYS
-- Answer: for each job {id, execution, queue, kind, data, image, attempt, timeout, result ttl, failure ttl,
--   request id, traceparent, when it was claimed (Unix s), when submitted (RFC 3339 or '')}
--   kind: 'batch' for a picture of ours, 'chunk' for one of a batch, 'single' for a job on RQ's own path
local max, worker, lease, nonce = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local keep = math.ceil(lease) + 60
-- A reply that takes longer than a lease to arrive would be lost before it is known: so many bytes close a batch.
local MAX_BYTES = 16 * 1024 * 1024
local bytes, alone = 0, false
local func, ttl = ARGV[5], tonumber(ARGV[6])
local prefixes = {batch = func .. '(', chunk = ARGV[7] .. '('}
local claimed = {}

local FIELDS = {'data', 'status', 'description', 'started_at', 'timeout', 'result_ttl', 'failure_ttl',
  'success_callback_name', 'failure_callback_name', 'stopped_callback_name', 'group_id', 'repeats_left',
  'rate_limit_key', 'webhooks', 'ttl'}

local watched = {}

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

local wip, executions = {}, {}

-- `kept`: RQ lets a job expire that has ended before or that has a time to live, and not while it runs.
local function register(queue, id, kept)
  local execution = nonce .. #claimed
  local member = id .. ':' .. execution
  local key = 'rq:execution:' .. member
  redis.call('HSET', key, 'id', execution, 'job_id', id, 'created_at', STAMP, 'last_heartbeat', STAMP,
    'worker_name', worker)
  redis.call('EXPIRE', key, keep)
  redis.call('ZADD', 'rq:executions:' .. id, NOW + lease + 60, execution)
  redis.call('EXPIRE', 'rq:executions:' .. id, keep)
  note(wip, 'rq:wip:' .. queue, NOW + lease, member)
  executions[#executions + 1] = member
  redis.call('HSET', JOB .. id, 'status', 'started', 'started_at', ISO, 'last_heartbeat', ISO, 'worker_name', worker)
  if kept then redis.call('PERSIST', JOB .. id) end
  return execution
end

-- True for a job that somebody's recovery has put back although another worker's lease on it is valid: two recoveries at
-- once, of which one read before and wrote after the new claim.
local function in_hand(id, queue)
  for _, execution in ipairs(redis.call('ZRANGE', 'rq:executions:' .. id, 0, -1)) do
    local expiry = redis.call('ZSCORE', 'rq:wip:' .. queue, id .. ':' .. execution)
    if expiry and tonumber(expiry) > NOW then return true end
  end
  return false
end

-- Claims a job that has left the queue. False, and nothing, where it has to go alone and is not the first.
local function take(id, queue)
  local job = redis.call('HMGET', JOB .. id, unpack(FIELDS))
  local again = job[4] and job[4] ~= ''
  -- No job: deleted while it waited. Not queued: pushed twice by two recoveries at once, or cancelled.
  if not job[1] or job[2] ~= 'queued' then return true end
  if again and in_hand(id, queue) then
    redis.call('HSET', JOB .. id, 'status', 'started')
    return true
  end
  local kind = kind_of(id, job)
  -- Alone goes a chunk, what RQ must run itself, and what was started before: it may have taken its worker down, and
  -- its neighbours would pay for it.
  alone = kind ~= 'batch' or again
  if alone and #claimed > 0 then return false end
  local execution = register(queue, id, again or job[#FIELDS])
  local attempt, image, request, trace, submitted = '0', '', '', '', ''
  if kind == 'batch' then
    attempt, request, trace, submitted = start_record(id, '', ttl)
    image = redis.call('GET', IMAGE .. id) or ''
  elseif kind == 'chunk' then
    attempt, request, trace, submitted = start_chunk(id, ttl)
    image = redis.call('GET', CHUNK .. id) or ''
  end
  claimed[#claimed + 1] = {id, execution, queue, kind, job[1], image, attempt,
    job[5] or '', job[6] or '', job[7] or '', request, trace, STAMP, submitted}
  bytes = bytes + #image
  return true
end

-- Takes from one queue what it may; false where the batch is closed.
local function drain(key, queue)
  while #claimed < max do
    local ids = redis.call('LRANGE', key, 0, max - #claimed - 1)
    if #ids == 0 then return true end
    for _, id in ipairs(with_dependents(ids)) do watched[id] = true end
    local taken = 0
    for _, id in ipairs(ids) do
      if alone or bytes >= MAX_BYTES or not take(id, queue) then break end
      taken = taken + 1
    end
    redis.call('LTRIM', key, taken, -1)
    if taken < #ids or alone then return false end
  end
  return false
end

for i, key in ipairs(KEYS) do
  if not drain(key, ARGV[7 + i]) then break end
end
if #claimed > 0 then
  for_each('ZADD', wip)
  for_each('SADD', {['rq:worker:' .. worker .. ':executions'] = executions})
  redis.call('EXPIRE', 'rq:worker:' .. worker .. ':executions', keep + 60)
  redis.call('HSET', 'rq:worker:' .. worker, 'state', 'busy')
end
return claimed
