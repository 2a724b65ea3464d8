#!lua flags=allow-oom
-- Makes room where memory is nearly full: deletes predictions and batches that have ended, the oldest ends first, with
-- everything that is kept of them; their ids are then answered as expired. One bounded step; nothing where there is no
-- limit of memory. What has not ended, what has just ended, and what an operator has put back is never deleted.
-- WITH: jobs
-- KEYS: none
-- ARGV: share of maxmemory at which to begin, share at which to stop, how long an end is kept in any case (s),
--       result ttl (s), most predictions at once, how long a callback that has not been made keeps its prediction (s),
--       bytes for which there is to be room besides, how long the end of a batch is kept in any case (s)
-- Answer: {how many predictions and batches were deleted, 1 if there may be more to delete, else 0}
local begin, stop, fresh, ttl, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local uncalled_since = iso(tonumber(time[1]) - ARGV[6], 0)
local info = redis.call('INFO', 'memory')

local function number(name)
  return tonumber(string.match(info, '\n' .. name .. ':(%d+)') or 0)
end

local limit = number('maxmemory')
-- Buffers for replicas and the log do not count, as they do not when Redis refuses to write.
local used = number('used_memory') - number('mem_not_counted_for_evict')
local more = tonumber(ARGV[7])
-- What hardly fits must not clear all the rest.
if more > limit / 2 then return {0, 0} end
used = used + more
if limit == 0 or used < begin * limit then return {0, 0} end
local wanted, count = used - stop * limit, 0
local gone, registries, entries = {}, {}, {}
-- What stays for now, to be looked at again: `again` predictions, and batches.
local again, batches_again = {}, {}

-- What a hash holds; nothing where somebody has put something else in its place: it is deleted all the same.
local function fields(key, ...)
  local values = redis.pcall('HMGET', key, ...)
  if not values.err then return values end
  return string.find(values.err, 'WRONGTYPE', 1, true) and {} or error(values)
end

-- Adds the keys of an RQ job that has ended, and by queue in `jobs` its id. False while RQ still has to run it, because somebody has put it back.
local function drop_job(id, found)
  local job = fields(JOB .. id, 'status', 'origin')
  if job[1] and not (job[1] == 'finished' or job[1] == 'failed' or job[1] == 'canceled' or job[1] == 'stopped') then
    return false
  end
  found[#found + 1] = JOB .. id
  found[#found + 1] = 'rq:results:' .. id
  if job[2] then note(found.jobs, job[2], id) end
  return true
end

local function drop(found, idempotency)
  for _, key in ipairs(found) do gone[#gone + 1] = key end
  for queue, ids in pairs(found.jobs) do
    for _, registry in ipairs({'finished', 'failed', 'canceled'}) do
      for _, id in ipairs(ids) do note(registries, 'rq:' .. registry .. ':' .. queue, id) end
    end
  end
  gone[#gone + 1] = idempotency
  count = count + 1
end

local function drop_prediction(id)
  local record = fields(PREDICTION .. id, 'state', 'idempotency_key', 'callback_url', 'webhook_tries', 'finished_at')
  if is_open(record[1]) then return end
  -- Whoever asked for a callback is to be called first, once; but one whose receivers are dead must not fill Redis.
  if record[3] and not record[4] and (record[5] or '') > uncalled_since then
    again[#again + 1] = id
    return
  end
  local size = redis.pcall('STRLEN', IMAGE .. id)
  local found = {IMAGE .. id, INPUT .. id, PREDICTION .. id, jobs = {}}
  if not drop_job(id, found) then
    again[#again + 1] = id
    return
  end
  if record[3] then note(registries, WEBHOOKS, id) end
  drop(found, idempotency_of(id, record[2]))
  wanted = wanted - (tonumber(size) or 0) - 4096
end

local function drop_batch(id)
  local batch = fields(BATCH .. id, 'state', 'chunks', 'idempotency_key')
  if is_open(batch[1]) then return end
  local found = {BATCH .. id, jobs = {}}
  for i = 0, tonumber(batch[2] or 0) - 1 do
    local chunk = id .. '-' .. i
    if not drop_job(chunk, found) then
      batches_again[#batches_again + 1] = id
      return
    end
    found[#found + 1] = CHUNK .. chunk
    found[#found + 1] = RESULTS .. chunk
  end
  drop(found, idempotency_of(id, batch[3]))
  wanted = wanted - 4096 * #found
end

local from, newest = '-', string.format('%d', (NOW - fresh) * 1000)
-- Reading the results of a batch takes longer than reading one prediction.
local newest_batch, looked = (NOW - math.max(fresh, tonumber(ARGV[8]))) * 1000, 0
while wanted > 0 and count < most and #entries < most and looked < 4 * most do
  local entry = redis.call('XRANGE', ENDED, from, newest, 'COUNT', 1)[1]
  if not entry then break end
  looked = looked + 1
  from = '(' .. entry[1]
  local of_batch = entry[2][1] == 'batch'
  local stays = of_batch and tonumber(string.match(entry[1], '^%d+')) > newest_batch
  if not stays then entries[#entries + 1] = entry[1] end
  if stays then
    -- It is looked at again when its time has come.
  elseif of_batch then
    drop_batch(entry[2][2])
  else
    for id in string.gmatch(entry[2][2], '%S+') do drop_prediction(id) end
  end
end
if #entries == 0 then return {0, 0} end

if count > 0 then
  -- From now on an id that was handed out before the last of these ends, and of which nothing is left, has expired.
  local milliseconds = string.match(entries[#entries], '^%d+')
  redis.call('SET', EVICTED, string.format('%d.%03d', milliseconds / 1000, milliseconds % 1000), 'EX', ttl)
end
in_slices(gone, function(...) redis.call('DEL', ...) end)
for_each('ZREM', registries)
-- An entry goes whole, so those that stay for now are noted a few at a time.
for _, id in ipairs(batches_again) do index_ended('batch', id, ttl) end
for i = 1, #again, 16 do index_ended('predictions', table.concat(again, ' ', i, math.min(i + 15, #again)), ttl) end
in_slices(entries, function(...) redis.call('XDEL', ENDED, ...) end)
return {count, 1}
