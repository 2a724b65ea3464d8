#!lua flags=allow-oom
-- Reads records, and repairs those where RQ alone has moved the job. Whoever looks repairs, so nobody ever polls a
-- record that cannot end; sweep.lua does the same for those at which nobody looks.
-- WITH: records
-- KEYS: none
-- ARGV: result ttl (s), how far to look for the position in the queue, ids
-- Answer: for each id {field, value, ...} of the record, empty where there is none; last the position in the queue or ''
local ttl, depth = tonumber(ARGV[1]), tonumber(ARGV[2])
local ended, records = {}, {}

-- Past `depth` the queue's length has to do: a search through 100,000 ids would cost everybody else.
local function position(id, queue)
  local at, skip = redis.call('LPOS', 'rq:queue:' .. queue, id, 'MAXLEN', depth), SKIPPED .. queue
  if not at then return queue_length(queue) end
  -- Those that were taken back stand there still, and are no wait.
  if at > 0 and redis.call('EXISTS', skip) == 1 then
    for _, gone in ipairs(redis.call('SMISMEMBER', skip, unpack(redis.call('LRANGE', 'rq:queue:' .. queue, 0, at - 1)))) do
      at = at - gone
    end
  end
  return at
end

for i = 3, #ARGV do
  local id = ARGV[i]
  local key = PREDICTION .. id
  local state, record = try('HGET', key, 'state'), {}
  if state then
    local status, queue
    if is_open(state) then status, queue = follow(id, state, ttl, ended) end
    local at = status and status ~= 'started' and position(id, queue) or ''
    record = redis.call('HGETALL', key)
    record[#record + 1] = 'queue_position'
    record[#record + 1] = tostring(at)
  end
  records[#records + 1] = record
end
announce(ended)
return records
