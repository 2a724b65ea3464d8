#!lua flags=allow-oom
-- Takes up to `max` waiting jobs, in the order of the queues, and registers them as started with a lease: what RQ's
-- dequeue, prepare_execution and prepare_job_execution write, in one step, so that no crash can fall in between.
-- allow-oom: in a full Redis what was accepted still ends.
-- An error: all is read before anything is written. The lease comes first and a job's status last, so wherever an error
-- ends the writes, each job is queued under a lease that nobody holds, and leases.lua puts it back as if never claimed.
-- A job whose keys are damaged is claimed with its `error`, alone; its neighbours are not harmed.
-- WITH: jobs, chunks
-- KEYS: queues in the order of preference
-- ARG: max, worker, lease (s), nonce, ttl (s), func, chunk_func, queues (names as KEYS)
-- Answer: {when (RFC 3339), when (Unix s), and for each job {id, execution, queue, kind, data, image, attempt, timeout,
--   result ttl, failure ttl, about, owner, when submitted (RFC 3339) or '', error or ''}}
--   kind: 'batch' for a picture of ours, 'chunk' for one of a batch, 'single' for a job on RQ's own path
local max, ttl, worker = ARG.max, ARG.ttl, ARG.worker
local lease_ends = as_text(NOW + ARG.lease)
-- A reply that takes longer than a lease to arrive would be lost before it is known: so many bytes close a batch.
local MAX_BYTES = 16 * 1024 * 1024
-- Entries that one step skips: a long row of cancelled jobs must not hold up Redis.
local MAX_SKIPPED = 10000
local PREFIXES = {batch = ARG.func .. '(', chunk = ARG.chunk_func .. '('}
-- What makes a job RQ's own business, where it is there.
local OWN_PATH = {'success_callback_name', 'failure_callback_name', 'stopped_callback_name', 'group_id', 'repeats_left',
  'rate_limit_key', 'webhooks', 'dependency_id'}
local FIELDS = {'data', 'status', 'description', 'started_at', 'timeout', 'result_ttl', 'failure_ttl', 'created_at',
  'digitq_run', 'digitq_found', 'digitq_about', 'digitq_owner'}

-- ---------------------------------------------------------------------- what waits is read

local bytes, alone, watched, seen = 0, false, {}, {}
local found, in_hand, leaving, skipped, many_skipped = {}, {}, {}, {}, 0

local function read_job(id)
  local values = try('HMGET', JOB .. id, unpack(FIELDS))
  if not values or not values[1] then return nil end
  local job = {}
  for i = 1, #FIELDS do job[FIELDS[i]] = values[i] end
  if job.digitq_about then return job end
  -- Not from us: it may be of any kind.
  values = redis.call('HMGET', JOB .. id, 'ttl', unpack(OWN_PATH))
  job.ttl = values[1]
  for i = 1, #OWN_PATH do job.own_path = job.own_path or (values[i + 1] and values[i + 1] ~= '') end
  return job
end

local function kind_of(id, job)
  local kind = 'single'
  for name, prefix in pairs(PREFIXES) do
    if job.description and string.sub(job.description, 1, #prefix) == prefix then kind = name end
  end
  if job.own_path then return 'single' end
  -- What is no positive whole number of a sane size (kept for ever, not kept, malformed) is RQ's own business.
  for _, name in ipairs({'timeout', 'result_ttl', 'failure_ttl'}) do
    local value = job[name]
    if value and not (#value <= 9 and string.match(value, '^[1-9]%d*$')) then return 'single' end
  end
  return watched[id] and 'single' or kind
end

-- Looks at a job that stands in the queue. False where it has to go alone and is not the first: it stays there.
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
  -- Somebody's recovery has put it back although another worker's lease on it is valid: two recoveries at once, of which
  -- one read before and wrote after the new claim.
  if again and has_lease(id, queue, job.digitq_run) then
    in_hand[#in_hand + 1] = id
    return true
  end
  local kind = kind_of(id, job)
  -- Alone goes a chunk, what RQ must run itself, and what was started before: it may have taken its worker down, and
  -- its neighbours would pay for it.
  alone = kind ~= 'batch' or again
  if alone and #found > 0 then return false end
  local one = {id = id, queue = queue, kind = kind, job = job, again = again, execution = ARG.nonce .. #found, image = '',
    member = id .. ':' .. ARG.nonce .. #found}
  one.attempt = again and math.max(1, (run_of(job.digitq_run))) + 1 or 1
  if kind == 'chunk' then
    one.record = read_chunk(id)
    one.image = try('GET', CHUNK .. id) or ''
  elseif kind == 'batch' then
    local image = try('GET', IMAGE .. id)
    one.image = image or ''
    one.error = image == nil and 'a key of another type'
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
    for _, id in ipairs(those_with(JOB, ids, ':dependents')) do watched[id] = true end
    for _, id in ipairs(ids) do
      if alone or bytes >= MAX_BYTES or not look(id, queue) then return false end
      leaving[key] = leaving[key] + 1
    end
  end
  return false
end

for i, key in ipairs(KEYS) do
  if not drain(key, ARG.queues[i]) then break end
end

local wip, open, strangers = {}, {}, {}
for _, one in ipairs(found) do
  note(wip, WIP .. one.queue, lease_ends, one.member)
  if one.kind ~= 'chunk' then append(open, one.id) end
end
for i, accepted in ipairs(fields_of(ACCEPTED, open)) do
  local job = found[i].job -- a chunk is claimed alone
  if not accepted and not job.digitq_run and is_picture(job.description) then append(strangers, found[i].id) end
end

-- ---------------------------------------------------------------------- and then taken

for_each('ZADD', wip)
if #found > 0 then
  redis.call('HSET', 'rq:worker:' .. worker, 'state', 'busy')
  keep_worker_a_while('rq:worker:' .. worker)
end
for _, id in ipairs(in_hand) do redis.call('HSET', JOB .. id, 'status', 'started') end
for key, entries in pairs(leaving) do
  if entries > 0 then redis.call('LTRIM', key, entries, -1) end
end
pcall(for_each, 'SREM', skipped)
if #open > 0 then watch(open, ttl) end

local function start(one)
  local id, job, attempt = one.id, one.job, one.attempt
  -- A picture of ours lives long enough to end; RQ lets a job expire that has ended before or that has a time to live, and
  -- not while it runs.
  if job.digitq_about then
    if job.digitq_run then redis.call('EXPIRE', JOB .. id, 2 * ttl) end
  elseif one.again or job.ttl then
    redis.call('PERSIST', JOB .. id)
  end
  if one.record then one.attempt, one.about, one.submitted = start_chunk(id, ttl, one.record) end
  -- What an earlier end has left is no part of this run.
  if job.digitq_found then redis.call('HDEL', JOB .. id, 'digitq_found') end
  -- RQ keeps what fails without a ttl of its own for a year, and its result for ever.
  redis.call('HSET', JOB .. id, 'status', 'started', 'started_at', ISO, 'last_heartbeat', ISO, 'worker_name', worker,
    'digitq_run', attempt .. ':' .. one.execution, unpack(job.failure_ttl and {} or {'failure_ttl', whole(ttl)}))
end

local claimed, failure = {ISO, STAMP}, nil
for _, one in ipairs(found) do
  local job, ok, why = one.job, pcall(start, one)
  local text = not ok and (type(why) == 'table' and why.err or tostring(why))
  -- Its own keys are damaged where one is of another type, or a value that is no number ("attempt to perform arithmetic").
  if ok or string.find(text, 'WRONGTYPE', 1, true) or string.find(text, 'attempt to ', 1, true) then
    append(claimed, {one.id, one.execution, one.queue, one.kind, job.data, one.image, tostring(ok and one.attempt or 0),
      job.timeout or '', job.result_ttl or '', job.failure_ttl or '', one.about or job.digitq_about or '',
      job.digitq_owner or '', one.submitted or job.created_at or '', text or one.error or ''})
  else
    failure = text
    complain(one.id, 'was not claimed', text)
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
