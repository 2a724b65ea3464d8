#!lua flags=allow-oom
-- Takes up to `max` waiting jobs, in the order of the queues, and registers them as started with a lease: what RQ's
-- dequeue, prepare_execution and prepare_job_execution write, in one step, so that no crash can fall in between.
-- allow-oom: in a full Redis what was accepted still ends.
-- KEYS: queues in the order of preference
-- ARGV: max, worker name, lease (s), nonce, job function, result ttl (s), queue names as KEYS
-- Answer: for each job {id, execution, queue, kind, data, image, attempt, timeout, result ttl, failure ttl}
--   kind: 'batch' for a picture of ours, 'single' for a job that goes through RQ's own path
local max, worker, lease, nonce = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3]), ARGV[4]
local keep = math.ceil(lease) + 60
-- A reply that takes longer than a lease to arrive would be lost before it is known: so many bytes close a batch.
local MAX_BYTES = 16 * 1024 * 1024
local bytes = 0
local func, ttl = ARGV[5], tonumber(ARGV[6])
local prefix = func .. '('
local claimed = {}

local FIELDS = {'data', 'status', 'description', 'started_at', 'timeout', 'result_ttl', 'failure_ttl',
  'success_callback_name', 'failure_callback_name', 'stopped_callback_name', 'group_id', 'repeats_left',
  'rate_limit_key', 'webhooks'}

local function plain(id, job)
  if not job[3] or string.sub(job[3], 1, #prefix) ~= prefix then return false end
  for i = 8, #FIELDS do if job[i] and job[i] ~= '' then return false end end
  -- What is no positive whole number of a sane size (kept for ever, not kept, malformed) is RQ's own business.
  for i = 5, 7 do
    if job[i] and not (#job[i] <= 9 and string.match(job[i], '^[1-9]%d*$')) then return false end
  end
  return redis.call('EXISTS', JOB .. id .. ':dependents') == 0
end

local function register(queue, id)
  local execution = nonce .. #claimed
  local member = id .. ':' .. execution
  local key = 'rq:execution:' .. member
  redis.call('HSET', key, 'id', execution, 'job_id', id, 'created_at', STAMP, 'last_heartbeat', STAMP,
    'worker_name', worker)
  redis.call('EXPIRE', key, keep)
  redis.call('ZADD', 'rq:executions:' .. id, NOW + lease + 60, execution)
  redis.call('EXPIRE', 'rq:executions:' .. id, keep)
  redis.call('ZADD', 'rq:wip:' .. queue, NOW + lease, member)
  redis.call('SADD', 'rq:worker:' .. worker .. ':executions', member)
  redis.call('HSET', JOB .. id, 'status', 'started', 'started_at', ISO, 'last_heartbeat', ISO, 'worker_name', worker)
  redis.call('PERSIST', JOB .. id)
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

local function take(key, queue)
  while #claimed < max do
    local id = redis.call('LPOP', key)
    if not id then return true end
    local job = redis.call('HMGET', JOB .. id, unpack(FIELDS))
    local again = job[4] and job[4] ~= ''
    -- No job: deleted while it waited. Not queued: pushed twice by two recoveries at once, or cancelled.
    if job[1] and job[2] == 'queued' and again and in_hand(id, queue) then
      redis.call('HSET', JOB .. id, 'status', 'started')
    elseif job[1] and job[2] == 'queued' then
      local batchable = plain(id, job)
      -- Alone goes what RQ must run itself, and what was started before: it may have taken its worker down,
      -- and its neighbours would pay for it.
      local alone = not batchable or again
      if alone and #claimed > 0 then
        redis.call('LPUSH', key, id)
        return false
      end
      local execution = register(queue, id)
      local attempt = batchable and start_record(id, '', ttl) or '0'
      local image = batchable and redis.call('GET', IMAGE .. id) or ''
      claimed[#claimed + 1] = {id, execution, queue, batchable and 'batch' or 'single', job[1], image, attempt,
        job[5] or '', job[6] or '', job[7] or ''}
      bytes = bytes + #image
      if alone or bytes >= MAX_BYTES then return false end
    end
  end
  return false
end

for i, key in ipairs(KEYS) do
  if not take(key, ARGV[6 + i]) then break end
end
if #claimed > 0 then
  redis.call('EXPIRE', 'rq:worker:' .. worker .. ':executions', keep + 60)
  redis.call('HSET', 'rq:worker:' .. worker, 'state', 'busy')
end
return claimed
