#!lua flags=allow-oom
-- Reads records, and repairs those where RQ alone has moved the job: retried or failed by anyone's maintenance,
-- cancelled or deleted with RQ's tools. Whoever looks repairs, so nobody ever polls a record that cannot end.
-- KEYS: none
-- ARGV: result ttl (s), how far to look for the position in the queue, ids
-- Answer: for each id {field, value, ...} of the record, empty where there is none; last the position in the queue or ''
local ttl, depth = tonumber(ARGV[1]), tonumber(ARGV[2])
local ended, records = {}, {}

-- What RQ says of a record that has not ended; the position in the queue, or ''.
local function look_after(id, key, state)
  local job = redis.call('HMGET', JOB .. id, 'status', 'origin')
  local status = job[1]
  if not status then
    end_record(id, 'failed', ttl, ended, 'error_code', 'lost', 'error_message', 'The job was deleted from the queue.')
  elseif status == 'failed' or status == 'stopped' then
    end_record(id, 'failed', ttl, ended, 'error_code', 'poison', 'error_message',
      'Every worker that took this picture died or lost it.')
  elseif status == 'finished' then
    end_record(id, 'failed', ttl, ended, 'error_code', 'lost', 'error_message', 'The job ended without an answer.')
  elseif status == 'canceled' then
    end_record(id, 'cancelled', ttl, ended)
  elseif status ~= 'started' then
    if state == 'running' then redis.call('HSET', key, 'state', 'queued') end
    -- Past `depth` the queue's length has to do: a search through 100,000 ids would cost everybody else.
    local queue = 'rq:queue:' .. (job[2] or '')
    return redis.call('LPOS', queue, id, 'MAXLEN', depth) or redis.call('LLEN', queue)
  end
  return ''
end

for i = 3, #ARGV do
  local key = PREDICTION .. ARGV[i]
  local state, record = redis.call('HGET', key, 'state'), {}
  if state then
    local position = is_open(state) and look_after(ARGV[i], key, state) or ''
    record = redis.call('HGETALL', key)
    record[#record + 1] = 'queue_position'
    record[#record + 1] = tostring(position)
  end
  records[#records + 1] = record
end
announce(ended)
return records
