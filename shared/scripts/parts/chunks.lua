-- How a chunk and its batch move.

-- Reads what start_chunk() needs; nil where the chunk's key has another type.
local function read_chunk(id)
  local chunk = try('HMGET', RESULTS .. id, 'state', 'batch', 'suspect', 'about', 'attempt', 'stalls')
  if not chunk or not chunk[2] then return chunk end
  chunk.of = try('HMGET', BATCH .. chunk[2], 'state', 'submitted_at') or {}
  chunk.deaths = chunk[3] and redis.call('HGET', RESULTS .. id, 'deaths:' .. chunk[3])
  return chunk
end

-- Starts a chunk and, with its first, the batch. Returns the attempt ("0": there is nothing to run), what is known of the
-- request (JSON), and when it was submitted. The attempt fences results: only the worker that started the chunk last may
-- write. A worker that had it before and did not release it has died: in the picture that is marked as suspect, or somewhere.
local function start_chunk(id, ttl, chunk)
  local key = RESULTS .. id
  if not chunk or not is_open(chunk[1]) or not chunk.of[1] then return '0', '', '' end
  local batch, attempt, blame = BATCH .. chunk[2], tostring((tonumber(chunk[5]) or 0) + 1), {}
  if chunk[3] then
    redis.call('HDEL', key, 'suspect')
    blame = {'deaths:' .. chunk[3], (tonumber(chunk.deaths) or 0) + 1}
  elseif attempt ~= '1' then
    blame = {'stalls', (tonumber(chunk[6]) or 0) + 1}
  end
  redis.call('HSET', key, 'state', 'running', 'attempt', attempt, unpack(blame))
  if chunk.of[1] == 'queued' then redis.call('HSET', batch, 'state', 'running', 'started_at', ISO) end
  for _, name in ipairs({key, CHUNK .. id, batch}) do redis.call('EXPIRE', name, 2 * ttl) end
  return attempt, chunk[4] or '', chunk.of[2] or ''
end

-- Writes the results of pictures `start` and following, the model that read them ('' if unknown), and which picture is tried
-- next ('' for none in particular).
-- Returns false, and writes nothing, for a chunk that has ended or was started by another worker since.
local function note_rows(id, attempt, start, rows, succeeded, failed, suspect, model)
  local key = RESULTS .. id
  local chunk = try('HMGET', key, 'state', 'batch', 'attempt', 'done', 'succeeded', 'failed', 'rows:' .. start)
  if not chunk or not is_open(chunk[1]) or chunk[3] ~= attempt then return false end
  if rows ~= '' and not chunk[7] then
    local batch = try('HMGET', BATCH .. chunk[2], 'succeeded', 'failed')
    -- The chunk has its own counts, with its rows; the batch's are counted again when it ends.
    redis.call('HSET', key, 'rows:' .. start, rows, 'done', (tonumber(chunk[4]) or 0) + succeeded + failed,
      'succeeded', (tonumber(chunk[5]) or 0) + succeeded, 'failed', (tonumber(chunk[6]) or 0) + failed, 'stalls', 0)
    if model ~= '' then redis.call('HSET', key, 'model:' .. start, model) end
    if batch and batch[1] then
      redis.call('HSET', BATCH .. chunk[2], 'succeeded', batch[1] + succeeded, 'failed', batch[2] + failed)
    end
    if succeeded + failed > 0 then tally('ended', succeeded + failed) end
  end
  if suspect ~= '' then redis.call('HSET', key, 'suspect', suspect) else redis.call('HDEL', key, 'suspect') end
  return true
end

-- Ends a batch, with its last chunk: all of it lives for `ttl` from now. Its pictures are counted by chunk, and those of a
-- chunk that is gone have failed.
local function end_batch(id, ttl)
  local key, succeeded, cancelled = BATCH .. id, 0, 0
  local batch = redis.call('HMGET', key, 'chunks', 'total', 'idempotency_key')
  for i = 0, batch[1] - 1 do
    local chunk = try('HMGET', RESULTS .. id .. '-' .. i, 'done', 'succeeded', 'count', 'rest')
    if chunk and chunk[3] then
      succeeded = succeeded + (tonumber(chunk[2]) or 0)
      if chunk[4] == 'cancelled' then cancelled = cancelled + chunk[3] - (tonumber(chunk[1]) or 0) end
    end
  end
  expire_key(idempotency_of(id, batch[3]), ttl)
  for i = 0, batch[1] - 1 do
    redis.call('EXPIRE', RESULTS .. id .. '-' .. i, ttl)
    redis.call('EXPIRE', CHUNK .. id .. '-' .. i, ttl)
  end
  redis.call('HSET', key, 'state', cancelled > 0 and 'cancelled' or 'finished', 'finished_at', ISO, 'open', 0,
    'succeeded', succeeded, 'failed', batch[2] - succeeded - cancelled, 'cancelled', cancelled)
  redis.call('EXPIRE', key, ttl)
  index_ended('batch', id, ttl)
  redis.pcall('ZREM', OPEN, id)
end

-- Ends a chunk, once; its pictures without a result end as `state`, with an error where there is one.
local function end_chunk(id, ttl, state, code, message)
  local key = RESULTS .. id
  local chunk, slots = try('HMGET', key, 'state', 'batch', 'count', 'done', 'bytes'), {}
  if not chunk or not is_open(chunk[1]) then return false end
  local rest, batch = chunk[3] - chunk[4], BATCH .. chunk[2]
  local counts = try('HMGET', batch, 'open', 'failed', 'cancelled')
  if redis.call('DECRBY', BULK, chunk[3] - 1) <= 0 then redis.call('DEL', BULK) end
  redis.call('HSET', key, 'state', 'ended', 'rest', state, 'error_code', code, 'error_message', message)
  -- A failed chunk may be put back by an operator; others are not run again.
  if rest == 0 or state ~= 'failed' then redis.call('DEL', CHUNK .. id) end
  add_bytes(slots, chunk[5])
  release_bytes(slots)
  if not counts or not counts[1] then return true end
  local field = state == 'cancelled' and 'cancelled' or 'failed'
  redis.call('HSET', batch, 'open', counts[1] - 1, field, (field == 'failed' and counts[2] or counts[3]) + rest)
  if tonumber(counts[1]) == 1 then end_batch(chunk[2], ttl) end
  return true
end

-- How a chunk ends whose job RQ alone has ended: state, code and message of the error, by the job's status.
local DIED = {'failed', 'poison', 'Every worker that took this picture died or lost it.'}
local BY_STATUS = {failed = DIED, stopped = DIED, canceled = {'cancelled', '', ''},
  finished = {'failed', 'lost', 'The job ended without an answer.'},
  deleted = {'failed', 'lost', 'The job was deleted from the queue.'}}

-- Repairs a batch that has not ended: chunks follow what RQ alone has done to their jobs, and the batch ends with the last
-- of them. A chunk whose record is gone has waited for too long.
local function repair_batch(id, ttl)
  local open = 0
  for i = 0, redis.call('HGET', BATCH .. id, 'chunks') - 1 do
    local chunk = id .. '-' .. i
    local state = try('HGET', RESULTS .. chunk, 'state')
    if is_open(state) then
      local status = try('HGET', JOB .. chunk, 'status') or 'deleted'
      -- RQ's own cancel leaves a job without a time to live.
      if status == 'canceled' then redis.call('EXPIRE', JOB .. chunk, ttl) end
      if BY_STATUS[status] then
        end_chunk(chunk, ttl, unpack(BY_STATUS[status]))
      else
        if status ~= 'started' and state == 'running' then redis.call('HSET', RESULTS .. chunk, 'state', 'queued') end
        open = open + 1
      end
    end
  end
  if open == 0 and is_open(redis.call('HGET', BATCH .. id, 'state')) then end_batch(id, ttl) end
end
