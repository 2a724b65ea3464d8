-- The one place where a chunk and its batch move. For scripts that say `WITH: chunks`.

-- Starts a chunk and, with its first, the batch. Returns the attempt, the request's id and trace, and when it was
-- submitted. The attempt is the fence for its results: only the last who started it may write. Whoever had it before and did not let go of it has died: in the middle of the picture
-- that is marked as its suspect, or somewhere.
local function start_chunk(id, ttl)
  local key = RESULTS .. id
  local chunk = redis.call('HMGET', key, 'state', 'batch', 'suspect', 'request_id', 'traceparent')
  if not is_open(chunk[1]) then return '0', '', '', '' end
  local attempt = redis.call('HINCRBY', key, 'attempt', 1)
  redis.call('HSET', key, 'state', 'running')
  if chunk[3] then
    redis.call('HINCRBY', key, 'deaths:' .. chunk[3], 1)
    redis.call('HDEL', key, 'suspect')
  elseif attempt > 1 then
    redis.call('HINCRBY', key, 'stalls', 1)
  end
  local batch = redis.call('HMGET', BATCH .. chunk[2], 'state', 'submitted_at')
  if batch[1] == 'queued' then
    redis.call('HSET', BATCH .. chunk[2], 'state', 'running', 'started_at', ISO)
  end
  for _, name in ipairs({key, CHUNK .. id, BATCH .. chunk[2]}) do redis.call('EXPIRE', name, 2 * ttl) end
  return tostring(attempt), chunk[4] or '', chunk[5] or '', batch[2] or ''
end

-- Notes the results of pictures `start` and following, and which picture is tried next ('' for none in particular).
-- False, and nothing, for a chunk that has ended or that somebody else has started since.
local function note_rows(id, attempt, start, rows, succeeded, failed, suspect)
  local key = RESULTS .. id
  local chunk = redis.call('HMGET', key, 'state', 'batch', 'attempt')
  if not is_open(chunk[1]) or chunk[3] ~= attempt then return false end
  if rows ~= '' and redis.call('HSETNX', key, 'rows:' .. start, rows) == 1 then
    redis.call('HINCRBY', key, 'done', succeeded + failed)
    redis.call('HDEL', key, 'stalls')
    redis.call('HINCRBY', BATCH .. chunk[2], 'succeeded', succeeded)
    redis.call('HINCRBY', BATCH .. chunk[2], 'failed', failed)
    if succeeded + failed > 0 then tally('ended', succeeded + failed) end
  end
  if suspect ~= '' then redis.call('HSET', key, 'suspect', suspect) else redis.call('HDEL', key, 'suspect') end
  return true
end

-- A batch ends with its last chunk; what it holds lives for `ttl` from then.
local function end_batch(id, ttl)
  local key = BATCH .. id
  local batch = redis.call('HMGET', key, 'cancelled', 'chunks')
  index_ended('batch', id, ttl)
  redis.call('HSET', key, 'state', batch[1] ~= '0' and 'cancelled' or 'finished', 'finished_at', ISO)
  redis.call('EXPIRE', key, ttl)
  for i = 0, tonumber(batch[2]) - 1 do
    redis.call('EXPIRE', RESULTS .. id .. '-' .. i, ttl)
    redis.call('EXPIRE', CHUNK .. id .. '-' .. i, ttl)
  end
end

-- Ends a chunk, once; its pictures without a result end as `state`, with an error where there is one.
local function end_chunk(id, ttl, state, code, message)
  local key = RESULTS .. id
  local chunk, slots = redis.call('HMGET', key, 'state', 'batch', 'count', 'done', 'bytes'), {}
  if not is_open(chunk[1]) then return false end
  local rest = tonumber(chunk[3]) - tonumber(chunk[4])
  redis.call('HSET', key, 'state', 'ended', 'rest', state, 'error_code', code, 'error_message', message)
  -- What nobody will run again need not be kept.
  if rest == 0 or state ~= 'failed' then redis.call('DEL', CHUNK .. id) end
  add_bytes(slots, chunk[5])
  release_bytes(slots)
  if redis.call('DECRBY', BULK, chunk[3] - 1) <= 0 then redis.call('DEL', BULK) end
  local batch = BATCH .. chunk[2]
  if redis.call('EXISTS', batch) == 0 then return true end
  if rest > 0 then redis.call('HINCRBY', batch, state == 'cancelled' and 'cancelled' or 'failed', rest) end
  if redis.call('HINCRBY', batch, 'open', -1) == 0 then end_batch(chunk[2], ttl) end
  return true
end
