#!lua flags=no-writes
-- Reads records. Of a picture whose job was deleted with RQ's tools it returns that it is lost, or its announced end.
-- KEYS: none
-- ARG: ids, depth (how far to look for the position in the queue), fields
-- Answer: for each id the values of `fields` and the position in the queue or ''; empty where there is no such picture
-- Returns how many jobs are before one. Past `depth` that is the queue's length: a search through 100,000 ids takes too long.
local function position(id, queue)
  local at, skip = redis.call('LPOS', QUEUE .. queue, id, 'MAXLEN', ARG.depth), SKIPPED .. queue
  if not at then return queue_length(queue) end
  -- Those that were cancelled are there still, and are skipped.
  if at > 0 and redis.call('EXISTS', skip) == 1 then
    for _, gone in ipairs(redis.call('SMISMEMBER', skip, unpack(redis.call('LRANGE', QUEUE .. queue, 0, at - 1)))) do
      at = at - gone
    end
  end
  return at
end

-- Returns the values of the fields, empty where there is no such picture, and the position if it waits.
local function read(id)
  local job = try('HMGET', JOB .. id, 'status', 'origin', 'description', unpack(ARG.fields))
  if job and job[1] then
    local waits = not has_ended(job[1]) and job[1] ~= 'started'
    if not is_picture(job[3]) then return {} end
    return {unpack(job, 4, 3 + #ARG.fields)}, waits and tostring(position(id, job[2] or ''))
  end
  local gone = try('HMGET', GONE .. id, unpack(ARG.fields)) or {}
  if gone[1] then return gone end
  local accepted, record = redis.call('HGET', ACCEPTED, id), {}
  local lost = accepted and lost_record(accepted)
  for i, name in ipairs(lost and ARG.fields or {}) do record[i] = lost[name] or false end
  return record
end

local records = {}
for i, id in ipairs(ARG.ids) do
  local record, place = read(id)
  if #record > 0 then record[#ARG.fields + 1] = place or '' end
  records[i] = record
end
return records
