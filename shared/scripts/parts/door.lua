-- How much may enter, and when to come back. For scripts that say `WITH: door`.

local RATE = 'digitq:rate:'

-- The bucket of a client: `limit` pictures, and it fills evenly in `period` seconds (GCRA, ITU-T I.371 annex A; kept is
-- when it will be full). Answers when it will be full once `count` pictures are taken from it, and 0; or nil, and the
-- seconds until there is enough in it. What is more than the bucket enters when it is full, and is owed. `full` is what an
-- earlier picture of the same script has left.
local function bucket_after(client, limit, period, count, full)
  if client == '' or limit == 0 then return nil, 0 end
  local each = period / limit
  full = full or math.max(NOW, tonumber(redis.call('GET', RATE .. client) or 0))
  local early = full + math.min(count, limit) * each - NOW - period
  if early > 1e-6 then return nil, math.ceil(early) end
  return full + count * each, 0
end

-- Keeps when buckets will be full.
local function fill_buckets(buckets)
  for client, full in pairs(buckets) do
    redis.call('SET', RATE .. client, as_text(full), 'PX', math.ceil((full - NOW) * 1000))
  end
end

-- Seconds until so many pictures have ended, at the rate of the last 10 to 15 seconds.
local function wait_for_room(pictures)
  local slot, ended = math.floor(NOW / SLOT_SECONDS), 0
  for i = slot - 2, slot do ended = ended + (tonumber(redis.call('HGET', FLOW .. i, 'ended')) or 0) end
  if ended == 0 then return 30 end -- nobody works: they have to be started first
  return math.max(1, math.min(60, math.ceil(pictures * (NOW - (slot - 2) * SLOT_SECONDS) / ended)))
end

-- Whether no job is in a worker's hands, for scripts whose KEYS are the queues.
local function nothing_in_hand()
  for _, key in ipairs(KEYS) do
    if redis.call('ZCARD', WIP .. string.sub(key, #QUEUE + 1)) > 0 then return false end
  end
  return true
end

-- Bytes of pictures that were accepted and have not ended, where so many wait; and the slots of which nothing can be left:
-- of all, if nothing waits or is in hand (what RQ's tools have deleted is counted until its end is told).
local function bytes_waiting(waiting)
  local sums, bytes, slots, stale = redis.call('HGETALL', BYTES), 0, {}, {}
  for i = 1, #sums, 2 do
    slots[#slots + 1] = sums[i]
    if tonumber(sums[i]) > NOW then bytes = bytes + sums[i + 1] else stale[#stale + 1] = sums[i] end
  end
  if bytes > 0 and waiting == 0 and nothing_in_hand() then return 0, slots end
  return bytes, stale
end

-- The slot for what is accepted now, named for the Unix second when all of it has expired, ended or not.
local function byte_slot(ttl)
  local width = math.ceil(ttl / 4)
  return string.format('%d', (math.floor(NOW / width) + 1) * width + 2 * ttl)
end

-- What is counted has been accepted: a count is not worth an error.
local function count_bytes(slot, bytes, stale, ttl)
  if #stale > 0 then redis.pcall('HDEL', BYTES, unpack(stale)) end
  if bytes > 0 and redis.pcall('HINCRBY', BYTES, slot, bytes) == bytes then redis.pcall('EXPIRE', BYTES, 3 * ttl) end
end

-- The answer where so many bytes more do not fit; nil where they do. What finds nothing before it always enters: how
-- large one upload may be is bounded elsewhere.
local function too_heavy(bytes, more, limit, waiting)
  if bytes == 0 or bytes + more <= limit then return nil end
  local each = bytes / math.max(1, waiting)
  return {'heavy', bytes, wait_for_room((bytes + more - limit) / each)}
end
