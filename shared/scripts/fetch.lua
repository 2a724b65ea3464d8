#!lua flags=no-writes
-- Reads records. A picture whose job was deleted with RQ's tools is there until its end has been told, and from then on
-- what was told of it.
-- KEYS: none
-- ARG: ids, depth (how far to look for the position in the queue), fields
-- Answer: for each id the values of `fields` and the position in the queue or ''; empty where there is no such picture
local records = {}

-- Past `depth` the queue's length has to do: a search through 100,000 ids would cost everybody else.
local function position(id, queue)
  local at, skip = redis.call('LPOS', QUEUE .. queue, id, 'MAXLEN', ARG.depth), SKIPPED .. queue
  if not at then return queue_length(queue) end
  -- Those that were taken back stand there still, and are no wait.
  if at > 0 and redis.call('EXISTS', skip) == 1 then
    for _, gone in ipairs(redis.call('SMISMEMBER', skip, unpack(redis.call('LRANGE', QUEUE .. queue, 0, at - 1)))) do
      at = at - gone
    end
  end
  return at
end

local function read(id)
  local job = try('HMGET', JOB .. id, 'status', 'origin', 'description', unpack(ARG.fields))
  if job and job[1] then
    if not is_picture(job[3]) then return {} end
    local waits = not has_ended(job[1]) and job[1] ~= 'started'
    local record = {unpack(job, 4, 3 + #ARG.fields)}
    record[#ARG.fields + 1] = waits and tostring(position(id, job[2] or '')) or ''
    return record
  end
  local gone = try('HMGET', GONE .. id, unpack(ARG.fields)) or {}
  if gone[1] then
    gone[#ARG.fields + 1] = ''
    return gone
  end
  local accepted = redis.call('HGET', ACCEPTED, id)
  if not accepted then return {} end
  local record = {}
  local lost = lost_record(accepted)
  for i, name in ipairs(ARG.fields) do record[i] = lost[name] or false end
  record[#ARG.fields + 1] = ''
  return record
end

for _, id in ipairs(ARG.ids) do append(records, read(id)) end
return records
