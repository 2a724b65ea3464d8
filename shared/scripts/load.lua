#!lua flags=no-writes
-- How busy queues and workers are, in one step and without a command that grows with the queue.
-- KEYS: none
-- ARG: queues
-- Answer: {Unix seconds, pictures in chunks beyond one for each job, created_at of the longest waiting job or '',
--   seconds over which was counted, pictures that arrived in them, pictures that ended,
--   {waiting jobs by queue}, {claimed jobs by queue}, {name, state or '', device or '', pictures/s or '', model or '',
--   why a newer model is refused or '', ... of live workers}}
local waits, running, workers, oldest = {}, {}, {}, ''
for i, name in ipairs(ARG.queues) do
  waits[i] = queue_length(name)
  running[i] = redis.call('ZCARD', WIP .. name)
  local first = redis.call('LINDEX', QUEUE .. name, 0)
  local since = first and try('HGET', JOB .. first, 'created_at')
  -- RFC 3339 in UTC sorts as text.
  if since and (oldest == '' or since < oldest) then oldest = since end
end

local slot, arrived, ended = math.floor(NOW / SLOT_SECONDS), 0, 0
for i = slot - 2, slot do
  local counts = redis.call('HMGET', FLOW .. i, 'arrived', 'ended')
  arrived, ended = arrived + (tonumber(counts[1]) or 0), ended + (tonumber(counts[2]) or 0)
end

for _, name in ipairs(redis.call('ZRANGEBYSCORE', 'digitq:workers', NOW, '+inf')) do
  workers[#workers + 1] = name
  for _, text in ipairs(redis.call('HMGET', 'rq:worker:' .. name, 'state', 'device', 'speed', 'model', 'refused')) do
    workers[#workers + 1] = text or ''
  end
end
return {STAMP, redis.call('GET', BULK) or '0', oldest, tostring(NOW - (slot - 2) * SLOT_SECONDS), arrived, ended, waits, running, workers}
