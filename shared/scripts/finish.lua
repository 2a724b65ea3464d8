#!lua flags=allow-oom
-- Ends a batch: RQ's job and our record in the same step, each only if its lease is still ours and has not run out.
-- The fence compares with Redis's clock and keeps a margin, because RQ's recovery compares with a worker's clock.
-- KEYS: none
-- ARGV: worker name, margin (s), record ttl (s), working time (s), batch size, model, preprocess (ms), inference (ms),
--   then for each picture FIELDS values:
--   id, execution, queue, result ttl, failure ttl, return value (base64 JSON) or '', exception (base64 zlib) or '',
--   state, digit, confidence, probabilities, decision, warnings, error code, error message, input, batch position
-- Answer: {ids that were fenced off, ids whose dependents RQ has to enqueue now}
local worker, margin, record_ttl = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local working_time, size, model, preprocess, inference = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local FIELDS, HEAD = 17, 8
-- RQ's DEFAULT_RESULT_TTL and DEFAULT_FAILURE_TTL; the result of a failed job without a ttl of its own has none.
local RESULT_TTL, FAILURE_TTL = 500, 31536000
local fenced, dependents, ended, succeeded, failed = {}, {}, {}, 0, 0

local function finish_job(id, execution, queue, ttl, value, exception)
  local key, member, ok = JOB .. id, id .. ':' .. execution, exception == ''
  local expire = ttl or (ok and RESULT_TTL)
  local started = redis.call('HGET', 'rq:execution:' .. member, 'created_at')
  redis.call('DEL', 'rq:execution:' .. member, 'rq:executions:' .. id)
  redis.call('SREM', 'rq:worker:' .. worker .. ':executions', member)
  -- Deleted with RQ's tools while it ran: nothing of it is to come back.
  if redis.call('EXISTS', key) == 0 then return end
  redis.call('HSET', key, 'status', ok and 'finished' or 'failed', 'ended_at', ISO, 'last_heartbeat', ISO)
  -- A named failure is the picture's own: to run it again would end the same.
  if not ok and redis.call('HEXISTS', key, 'retries_left') == 1 then redis.call('HSET', key, 'retries_left', 0) end
  redis.call('XADD', 'rq:results:' .. id, 'MAXLEN', '~', 10, '*', 'type', ok and 1 or 2, 'worker_name', worker,
    ok and 'return_value' or 'exc_string', ok and value or exception, 'execution_id', execution,
    'execution_started_at', started or STAMP, 'execution_ended_at', STAMP)
  if expire then redis.call('EXPIRE', 'rq:results:' .. id, expire) end
  redis.call('EXPIRE', key, expire or FAILURE_TTL)
  redis.call('ZADD', (ok and 'rq:finished:' or 'rq:failed:') .. queue, NOW + (expire or FAILURE_TTL), id)
  if redis.call('EXISTS', key .. ':dependents') == 1 then dependents[#dependents + 1] = id end
end

local function finish_record(id, state, i)
  local common = {'model', model, 'batch_size', size, 'batch_position', ARGV[i + 16],
    'preprocess_ms', preprocess, 'inference_ms', inference}
  if state ~= 'succeeded' then
    return end_record(id, state, record_ttl, ended, 'error_code', ARGV[i + 13], 'error_message', ARGV[i + 14],
      unpack(common))
  end
  if end_record(id, state, record_ttl, ended, 'digit', ARGV[i + 8], 'confidence', ARGV[i + 9], 'probabilities',
      ARGV[i + 10], 'decision', ARGV[i + 11], 'warnings', ARGV[i + 12], unpack(common)) then
    redis.call('SET', INPUT .. id, ARGV[i + 15], 'EX', record_ttl)
  end
end

for i = HEAD + 1, #ARGV, FIELDS do
  local id, execution, queue, state = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 7]
  local member = id .. ':' .. execution
  local expiry = redis.call('ZSCORE', 'rq:wip:' .. queue, member)
  if expiry and tonumber(expiry) > NOW + margin then
    redis.call('ZREM', 'rq:wip:' .. queue, member)
    local ok = ARGV[i + 6] == ''
    finish_job(id, execution, queue, tonumber(ARGV[i + (ok and 3 or 4)]), ARGV[i + 5], ARGV[i + 6])
    finish_record(id, state, i)
    if ok then succeeded = succeeded + 1 else failed = failed + 1 end
  else
    fenced[#fenced + 1] = id
  end
end

local stats = 'rq:worker:' .. worker
redis.call('HSET', stats, 'state', 'idle')
if succeeded > 0 then redis.call('HINCRBY', stats, 'successful_job_count', succeeded) end
if failed > 0 then redis.call('HINCRBY', stats, 'failed_job_count', failed) end
redis.call('HINCRBYFLOAT', stats, 'total_working_time', working_time)
announce(ended)
return {fenced, dependents}
