-- What becomes of records where RQ alone has moved the job. For scripts that say `WITH: records`.

-- A record that has not ended follows its job: retried or failed by anyone's maintenance, cancelled or deleted with RQ's
-- tools. Returns the job's status and queue, or nil where the record has ended now.
local function follow(id, state, ttl, ended)
  local job = try('HMGET', JOB .. id, 'status', 'origin') or {}
  local status = job[1]
  if not status then
    end_record(id, 'failed', ttl, ended, nil, 'error_code', 'lost', 'error_message', 'The job was deleted from the queue.')
  elseif status == 'failed' or status == 'stopped' then
    end_record(id, 'failed', ttl, ended, nil, 'error_code', 'poison', 'error_message',
      'Every worker that took this picture died or lost it.')
  elseif status == 'finished' then
    end_record(id, 'failed', ttl, ended, nil, 'error_code', 'lost', 'error_message', 'The job ended without an answer.')
  elseif status == 'canceled' then
    -- RQ's own cancel leaves the job without a time to live.
    redis.call('EXPIRE', JOB .. id, ttl)
    end_record(id, 'cancelled', ttl, ended)
  else
    if status ~= 'started' and state == 'running' then redis.call('HSET', PREDICTION .. id, 'state', 'queued') end
    return status, job[2] or ''
  end
  return nil
end
