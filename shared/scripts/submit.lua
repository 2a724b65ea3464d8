#!lua
-- Accepts pictures, each whole (image, RQ job with what we note in it) or not at all. Safe to repeat with the same ids.
-- Without the flag allow-oom, Redis refuses the whole script when its memory is full: nothing half-written. The job is the
-- last of what a picture needs, and an error before it takes the rest back.
-- KEYS: all queues, to count their jobs
-- ARG: limit (most in the queues), max_bytes (most that wait), ttl (s), func, timeout (s), retries, rate (pictures of one client) in
--   period (s); columns: id, queue, image, about (JSON), read (digit or numbers), key and fingerprint of idempotency or '', owner or '', client whose
--   rate is limited or '', callback (URL) or ''
-- Answer: for each picture {'accepted', id, Unix seconds} | {'repeated', first id} | {'mismatch', first id}
--   | {'full', length, seconds until there is room} | {'heavy', bytes, seconds until there is room}
--   | {'limited', seconds until it may} | {'failed', error}
local ttl, limit, pictures = ARG.ttl, ARG.limit, rows()
local length, ids, answers, waiting = 0, {}, {}, {}
for _, key in ipairs(KEYS) do
  waiting[key] = redis.call('LLEN', key)
  length = length + waiting[key]
end
if length >= limit then
  length = 0
  for _, key in ipairs(KEYS) do length = length + queue_length(string.sub(key, #QUEUE + 1)) end
end
local bytes, stale = bytes_waiting(length)
local before, slot = bytes, byte_slot(ttl)
for i, picture in ipairs(pictures) do ids[i] = picture.id end
local repeated, firsts, buckets = {}, {}, {}
for _, id in ipairs(those_with(JOB, ids, '')) do repeated[id] = true end

-- Returns why a picture is not accepted; nil where it is, and then it counts.
local function refusal(picture)
  local id, key, client = picture.id, picture.key, picture.client
  local first = firsts[key] or first_under(key, picture.fingerprint)
  if first then return {first.fingerprint and first.fingerprint ~= picture.fingerprint and 'mismatch' or first[1], first[2]} end
  if repeated[id] then return {'repeated', id} end
  if length >= limit then return {'full', length, wait_for_room(length + 1 - limit + limit / 20)} end
  local heavy = too_heavy(bytes, #picture.image, ARG.max_bytes, length)
  if heavy then return heavy end
  local full, wait = bucket_after(client, ARG.rate, ARG.period, 1, buckets[client])
  if wait > 0 then return {'limited', wait} end
  buckets[client] = full
  bytes, length, repeated[id] = bytes + #picture.image, length + 1, true
  if key ~= '' then firsts[key] = {'repeated', id, fingerprint = picture.fingerprint} end
end

local queued, entering = {}, {}
for i, picture in ipairs(pictures) do
  answers[i] = refusal(picture)
  if not answers[i] then
    note(queued, QUEUE .. picture.queue, picture.id)
    entering[#entering + 1] = i
  end
end
if #entering == 0 then return answers end

fill_buckets(buckets)
for key in pairs(queued) do
  if waiting[key] == 0 then redis.call('SADD', 'rq:queues', key) end
end
for_each('RPUSH', queued)
local twice, timeout, retry = whole(2 * ttl), whole(ARG.timeout), retried(ARG.retries)
local kept, with_slack = whole(ttl), whole(ttl + slack(ttl))

local function write(picture)
  local id, owner, more = picture.id, picture.owner, {'digitq_about', picture.about, unpack(retry)}
  if owner ~= '' then append(more, 'digitq_owner', owner) end
  if picture.key ~= '' then append(more, 'digitq_key', picture.key) end
  redis.call('SET', IMAGE .. id, picture.image, 'EX', with_slack)
  if picture.callback ~= '' then
    set_hash(CALLBACK .. id, twice, 'url', picture.callback, unpack(owner ~= '' and {'owner', owner} or {}))
  end
  remember(picture.key, id, picture.fingerprint, ttl)
  write_job(id, picture.queue, ARG.func, timeout, kept, more, picture.read)
  -- While it waits the job outlives its image, so that a picture that was not claimed in time ends as expired.
  redis.call('EXPIRE', JOB .. id, twice)
end

local accepted, noted, histories = {}, {}, {}
for _, i in ipairs(entering) do
  local picture = pictures[i]
  local id, ok, why = picture.id, pcall(write, picture)
  if ok then
    answers[i] = {'accepted', id, STAMP}
    accepted[#accepted + 1] = id
    noted[#noted + 1], noted[#noted + 2] = id, slot .. ':' .. #picture.image .. ':' .. picture.owner
    note(histories, picture.owner == '' and RECENT or RECENT .. ':' .. picture.owner, history_score(#accepted), id)
  else
    -- It is refused alone: those that came at the same time are other clients'.
    redis.pcall('DEL', IMAGE .. id, CALLBACK .. id, JOB .. id)
    bytes = bytes - #picture.image
    answers[i] = {'failed', reason(why)}
  end
end

-- They are accepted: no error from here on counts.
count_bytes(slot, bytes - before, stale, ttl)
-- Only what sweep.lua looks after is put into ACCEPTED: claim.lua adds the rest to both.
if watch(accepted, ttl) then in_slices(noted, function(...) redis.pcall('HSET', ACCEPTED, ...) end) end
extend(ACCEPTED, 2 * ttl)
remember_history(histories, ttl)
tally('arrived', #accepted)
return answers
