-- How the end of a picture is told, and what is counted until then.

-- Adds to the count of pictures that arrived or ended in this slot of five seconds, which load.lua reads. A failure to
-- count is no error.
local function tally(field, pictures)
  local key = FLOW .. math.floor(NOW / SLOT_SECONDS)
  if redis.pcall('HINCRBY', key, field, pictures) == pictures then redis.pcall('EXPIRE', key, 60) end
end

-- Adds the bytes in "slot:bytes..." to sums by slot; nothing where the text is missing.
local function add_bytes(slots, text)
  local slot, bytes = string.match(text or '', '^(%d+):(%d+)')
  if slot then slots[slot] = (slots[slot] or 0) + bytes end
end

-- Subtracts the bytes of ended pictures. A sum expires together with what it counts, so a missing one needs no change.
local function release_bytes(slots)
  for slot, bytes in pairs(slots) do
    local left = redis.pcall('HINCRBY', BYTES, slot, -bytes)
    if type(left) == 'number' and left <= 0 then redis.pcall('HDEL', BYTES, slot) end
  end
end

-- Adds one entry with ids to the stream of ends, from whose oldest evict.lua deletes. What is missing there stays for its
-- whole time to live, so a failure is no error.
local function index_ended(field, ids, ttl)
  redis.pcall('XADD', ENDED, 'MINID', '~', math.max(0, tonumber(time[1]) - ttl) * 1000, '*', field, ids)
  extend(ENDED, ttl)
end

-- The fields of a job that are read and told; RECORD of prediction.py.
local RECORD = {'status', 'created_at', 'started_at', 'ended_at', 'digitq_run', 'digitq_owner', 'digitq_about',
  'digitq_found'}

-- Encodes a record as it is told, from the values of RECORD and those that have changed, by name.
local function as_news(id, values, changed)
  local record = {id = id}
  for i, name in ipairs(RECORD) do record[name] = changed[name] or values[i] or nil end
  return cjson.encode(record)
end

-- Returns the record of a picture whose job was deleted, from its entry in ACCEPTED ("slot:bytes:owner").
local function lost_record(accepted)
  return {status = 'failed', digitq_owner = string.match(accepted, '^%d+:%d+:(.+)$'),
    digitq_found = '{"error":["lost","The job was deleted from the queue."]}'}
end

-- Has sweep.lua look after pictures, foreign jobs and batches until their end has been told. Returns whether it will.
local function watch(ids, ttl)
  local members, watched = {}, true
  for i, id in ipairs(ids) do members[2 * i - 1], members[2 * i] = STAMP, id end
  in_slices(members, function(...) watched = watched and type(redis.pcall('ZADD', OPEN, ...)) == 'number' end)
  extend(OPEN, 2 * ttl)
  return watched
end

-- Reads what announce() needs of pictures that are about to end.
local function before_the_end(ids)
  local known = {called = {}, bytes = fields_of(ACCEPTED, ids)}
  for _, id in ipairs(those_with(CALLBACK, ids, '')) do known.called[id] = true end
  for i, id in ipairs(ids) do known.bytes[id] = known.bytes[i] end
  return known
end

-- Makes a callback due now. A picture that ends again, because somebody has put it back, is called back again.
local function call_back(id, ttl)
  redis.call('HINCRBY', CALLBACK .. id, 'round', 1)
  redis.call('HDEL', CALLBACK .. id, 'tries', 'outcome')
  redis.call('EXPIRE', CALLBACK .. id, ttl)
  redis.call('ZADD', WEBHOOKS, NOW, id)
  extend(WEBHOOKS, ttl)
end

-- Tells that pictures have ended: `news` has the record of each as JSON. Their callbacks are due, subscribers are told, and
-- they are no longer looked after. The script that ended them does this last, and no error of it counts: sweep.lua tells
-- what is still open then.
local function announce(ids, news, known, ttl)
  if #ids == 0 then return end
  local slots = {}
  for _, id in ipairs(ids) do add_bytes(slots, known.bytes[id]) end
  local done, why = pcall(function()
    for _, id in ipairs(ids) do
      if known.called[id] then call_back(id, ttl) end
    end
    in_slices(ids, function(...) redis.call('ZREM', OPEN, ...) end)
  end)
  if not done then return complain(ids[1], 'was not told', why) end
  -- Joined once: Lua hashes each text that it makes, from end to end.
  news[1] = '{"ended_at":"' .. ISO .. '","ended":[' .. news[1]
  news[#news] = news[#news] .. ']}'
  redis.pcall('PUBLISH', EVENTS, table.concat(news, ','))
  in_slices(ids, function(...) redis.pcall('HDEL', ACCEPTED, ...) end)
  release_bytes(slots)
  tally('ended', #ids)
  index_ended('pictures', table.concat(ids, ' '), ttl)
end

-- Returns the key of IDEMPOTENCY under which `id` was accepted; nil where there is none, or it belongs to another id.
local function idempotency_of(id, key)
  if (key or '') == '' or redis.pcall('HGET', IDEMPOTENCY .. key, 'id') ~= id then return nil end
  return IDEMPOTENCY .. key
end

-- Has an idempotency key expire with its picture, and after a day at most.
local function expire_key(name, ttl)
  if name then redis.pcall('EXPIRE', name, math.min(86400, tonumber(ttl))) end
end
