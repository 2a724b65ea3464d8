#!lua flags=allow-oom
-- Makes room where memory is nearly full: deletes pictures and batches that have ended, the oldest ends first, with all their
-- keys; their ids are then answered as expired. One bounded step; it does nothing without `maxmemory`. What has not ended, has
-- just ended, or was put back by an operator is never deleted.
-- KEYS: none
-- ARG: begin and stop (shares of maxmemory), fresh (s for which an end is kept in any case), batch_fresh (the same for a batch),
--   ttl (s), most (pictures at once), uncalled (s for which a callback that has not been made keeps its picture), more (bytes for
--   which there is to be room besides)
-- Answer: {how many pictures and batches were deleted, 1 if there may be more to delete, else 0}
local ttl, most, more = ARG.ttl, ARG.most, ARG.more
local uncalled_since = iso(math.floor(tonumber(time[1]) - ARG.uncalled), 0)
local info = redis.call('INFO', 'memory')
local function number(name) return tonumber(string.match(info, '\n' .. name .. ':(%d+)') or 0) end

local limit = number('maxmemory')
-- Buffers for replicas and the log do not count, as they do not when Redis refuses to write.
local used = number('used_memory') - number('mem_not_counted_for_evict')
-- One large upload must not cost all the rest.
if more > limit / 2 then return {0, 0} end
used = used + more
if limit == 0 or used < ARG.begin * limit then return {0, 0} end
local wanted, count = used - ARG.stop * limit, 0
local gone, registries, entries = {}, {}, {}
-- Pictures and batches that stay for now and go back to the stream of ends.
local again, batches_again = {}, {}

-- Returns values of a hash; none where the key has another type: it is deleted all the same.
local function fields(key, ...) return try('HMGET', key, ...) or {} end

-- Adds the keys of an RQ job that has ended, and its id to `jobs` by queue. Returns false while RQ has to run it, because
-- somebody has put it back.
local function drop_job(id, job, found)
  if job[1] and not has_ended(job[1]) then return false end
  append(found, JOB .. id, 'rq:results:' .. id)
  if job[2] then note(found.jobs, job[2], id) end
  return true
end

local function drop(found, idempotency)
  append(gone, unpack(found))
  for queue, ids in pairs(found.jobs) do
    for _, registry in ipairs({'finished', 'failed', 'canceled'}) do
      for _, id in ipairs(ids) do note(registries, 'rq:' .. registry .. ':' .. queue, id) end
    end
  end
  gone[#gone + 1] = idempotency
  count = count + 1
end

local function drop_picture(id)
  local job, callback = fields(JOB .. id, 'status', 'origin', 'ended_at', 'digitq_key'), fields(CALLBACK .. id, 'url', 'tries')
  local size = redis.pcall('STRLEN', IMAGE .. id)
  local found = {IMAGE .. id, INPUT .. id, CALLBACK .. id, GONE .. id, jobs = {}}
  -- A callback is made first, once; but one whose receiver is dead must not fill Redis.
  if (callback[1] and not callback[2] and (job[3] or '') > uncalled_since) or not drop_job(id, job, found) then
    again[#again + 1] = id
    return
  end
  if callback[1] then note(registries, WEBHOOKS, id) end
  drop(found, idempotency_of(id, job[4]))
  wanted = wanted - (tonumber(size) or 0) - 2600
end

local function drop_batch(id)
  local batch = fields(BATCH .. id, 'state', 'chunks', 'idempotency_key')
  if is_open(batch[1]) then return end
  local found = {BATCH .. id, jobs = {}}
  for i = 0, tonumber(batch[2] or 0) - 1 do
    local chunk = id .. '-' .. i
    if not drop_job(chunk, fields(JOB .. chunk, 'status', 'origin'), found) then
      batches_again[#batches_again + 1] = id
      return
    end
    found[#found + 1] = CHUNK .. chunk
    found[#found + 1] = RESULTS .. chunk
  end
  drop(found, idempotency_of(id, batch[3]))
  wanted = wanted - 4096 * #found
end

local from, newest = '-', string.format('%d', (NOW - ARG.fresh) * 1000)
-- Reading the results of a batch takes longer than reading one prediction.
local newest_batch, looked = (NOW - math.max(ARG.fresh, ARG.batch_fresh)) * 1000, 0
while wanted > 0 and count < most and #entries < most and looked < 4 * most do
  local entry = redis.call('XRANGE', ENDED, from, newest, 'COUNT', 1)[1]
  if not entry then break end
  looked = looked + 1
  from = '(' .. entry[1]
  local of_batch = entry[2][1] == 'batch'
  local stays = of_batch and tonumber(string.match(entry[1], '^%d+')) > newest_batch
  if not stays then entries[#entries + 1] = entry[1] end
  if stays then
    -- It is too new for a batch.
  elseif of_batch then
    drop_batch(entry[2][2])
  else
    for id in string.gmatch(entry[2][2], '%S+') do drop_picture(id) end
  end
end
if #entries == 0 then return {0, 0} end

if count > 0 then
  -- From now on an id that was issued before the last of these ends, and of which nothing is left, has expired.
  local milliseconds = string.match(entries[#entries], '^%d+')
  redis.call('SET', EVICTED, string.format('%d.%03d', milliseconds / 1000, milliseconds % 1000), 'EX', ttl)
end
in_slices(gone, function(...) redis.call('DEL', ...) end)
for_each('ZREM', registries)
-- An entry of the stream is deleted as a whole, so what stays is put back a few at a time.
for _, id in ipairs(batches_again) do index_ended('batch', id, ttl) end
for i = 1, #again, 16 do index_ended('pictures', table.concat(again, ' ', i, math.min(i + 15, #again)), ttl) end
in_slices(entries, function(...) redis.call('XDEL', ENDED, ...) end)
return {count, 1}
