-- How much is accepted, when to come back otherwise, and under which keys it is found again.

-- Returns the score in the history of the n-th picture that a script accepts, in microseconds.
local function history_score(n) return string.format('%d', time[1] * 1e6 + time[2] + n) end

-- Adds {score, id, ...} to histories by key, which keep the newest 10,000 or a few more.
local function remember_history(histories, ttl)
  for key, entries in pairs(histories) do
    redis.pcall('ZADD', key, unpack(entries))
    extend(key, ttl)
    if time[2] % 16 == 0 then redis.pcall('ZREMRANGEBYRANK', key, 0, -10001) end
  end
end

-- Returns {'repeated' | 'mismatch', id} of the first submission under an idempotency key. Returns nil where the key is free:
-- never used, or what it stood for was deleted, has expired, or was not accepted after all.
local function first_under(key, fingerprint)
  if key == '' then return nil end
  local first = redis.call('HMGET', IDEMPOTENCY .. key, 'id', 'fingerprint')
  if not first[1] then return nil end
  local state = redis.call('HGET', BATCH .. first[1], 'state')
  if state == 'forgotten' or (not state and redis.call('EXISTS', JOB .. first[1]) == 0) then return nil end
  return {first[2] == fingerprint and 'repeated' or 'mismatch', first[1]}
end

-- Keeps an idempotency key as long as what it stands for, and a day at most.
local function remember(key, id, fingerprint, ttl)
  if key ~= '' then set_hash(IDEMPOTENCY .. key, math.min(86400, 2 * ttl), 'id', id, 'fingerprint', fingerprint) end
end

local RATE = 'digitq:rate:'

-- The rate limit of a client: a bucket of `limit` pictures that fills evenly in `period` seconds (GCRA, ITU-T I.371 annex
-- A; stored is when it will be full). Returns when it will be full after `count` pictures are taken, and 0; or nil, and the
-- seconds until there is enough in it. More than the whole bucket is taken when it is full, and is owed. `full` is what an
-- earlier picture of the same script has left.
local function bucket_after(client, limit, period, count, full)
  if client == '' or limit == 0 then return nil, 0 end
  local each = period / limit
  full = full or math.max(NOW, tonumber(redis.call('GET', RATE .. client) or 0))
  local early = full + math.min(count, limit) * each - NOW - period
  if early > 1e-6 then return nil, math.ceil(early) end
  return full + count * each, 0
end

-- Stores when buckets will be full, by client.
local function fill_buckets(buckets)
  for client, full in pairs(buckets) do
    redis.call('SET', RATE .. client, as_text(full), 'PX', math.ceil((full - NOW) * 1000))
  end
end

-- Returns the seconds until this number of pictures has ended, at the rate of the last 10 to 15 seconds.
local function wait_for_room(pictures)
  local slot, ended = math.floor(NOW / SLOT_SECONDS), 0
  for i = slot - 2, slot do ended = ended + (tonumber(redis.call('HGET', FLOW .. i, 'ended')) or 0) end
  if ended == 0 then return 30 end -- no worker runs: one has to be started first
  return math.min(60, math.ceil(pictures * (NOW - (slot - 2) * SLOT_SECONDS) / ended))
end

-- Whether no worker holds a job, for scripts whose KEYS are the queues.
local function nothing_in_hand()
  for _, key in ipairs(KEYS) do
    if redis.call('ZCARD', WIP .. string.sub(key, #QUEUE + 1)) > 0 then return false end
  end
  return true
end

-- Returns the bytes of pictures that were accepted and have not ended, and the slots that count nothing any more: expired
-- ones, or all of them where nothing is queued or claimed (what RQ's tools delete is counted until its end is told).
local function bytes_waiting(waiting)
  local sums, bytes, slots, stale = redis.call('HGETALL', BYTES), 0, {}, {}
  for i = 1, #sums, 2 do
    slots[#slots + 1] = sums[i]
    if tonumber(sums[i]) > NOW then bytes = bytes + sums[i + 1] else stale[#stale + 1] = sums[i] end
  end
  if bytes > 0 and waiting == 0 and nothing_in_hand() then return 0, slots end
  return bytes, stale
end

-- Returns the slot for what is accepted now: the Unix second when all of it has expired, ended or not.
local function byte_slot(ttl)
  local width = math.ceil(ttl / 4)
  return string.format('%d', (math.floor(NOW / width) + 1) * width + 2 * ttl)
end

-- Counts bytes that were accepted. A failure to count is no error.
local function count_bytes(slot, bytes, stale, ttl)
  if #stale > 0 then redis.pcall('HDEL', BYTES, unpack(stale)) end
  if bytes > 0 and redis.pcall('HINCRBY', BYTES, slot, bytes) == bytes then redis.pcall('EXPIRE', BYTES, 3 * ttl) end
end

-- Returns the answer where `more` bytes do not fit, else nil. They always fit where nothing waits: how large one upload may
-- be is limited elsewhere.
local function too_heavy(bytes, more, limit, waiting)
  if bytes == 0 or bytes + more <= limit then return nil end
  local each = bytes / math.max(1, waiting)
  return {'heavy', bytes, wait_for_room((bytes + more - limit) / each)}
end
