-- How much may enter, and when to come back. For scripts that say `WITH: door`.

-- The bucket of a client: `limit` pictures, and it fills evenly in `period` seconds (GCRA, ITU-T I.371 annex A; kept is
-- when it will be full). Takes `count` pictures from it, or only asks. Answer: 0, or seconds until there is enough in it.
-- What is more than the bucket enters when it is full, and is owed.
local function wait_for_rate(client, limit, period, count, take)
  if client == '' or limit == 0 then return 0 end
  local key, each = 'digitq:rate:' .. client, period / limit
  local full = math.max(NOW, tonumber(redis.call('GET', key) or 0))
  local early = full + math.min(count, limit) * each - NOW - period
  if early > 1e-6 then return math.ceil(early) end
  full = full + count * each
  if take then redis.call('SET', key, full, 'PX', math.ceil((full - NOW) * 1000)) end
  return 0
end

-- Seconds until so many pictures have ended, at the rate of the last 10 to 15 seconds.
local function wait_for_room(pictures)
  local slot, ended = math.floor(NOW / SLOT_SECONDS), 0
  for i = slot - 2, slot do ended = ended + (tonumber(redis.call('HGET', FLOW .. i, 'ended')) or 0) end
  if ended == 0 then return 30 end -- nobody works: they have to be started first
  return math.max(1, math.min(60, math.ceil(pictures * (NOW - (slot - 2) * SLOT_SECONDS) / ended)))
end
