#!lua flags=allow-oom
-- Takes a callback that is due, under a lease after which it comes due again; and notes the outcome of a try.
-- KEYS: none
-- ARG: step 'take', lease (s), most (tries), busy (parties), fields -> {id, number of the try, number of the end of this picture,
--        URL, party, then the values of `fields`}; empty if nothing is due except for busy parties
--      step 'end', id, try, outcome, delay (s) or nil     -> 1, or 0 where another try has begun since
local PARKED, PARTIES = 'digitq:parked:', 'digitq:parties'

-- Returns whose calls count together: those of the picture's API key, or of the receiver where there are no keys.
local function party_of(owner, url)
  return owner and 'key:' .. owner or 'host:' .. string.lower(string.match(url, '^%a+://([^/?#]*)') or '')
end

-- Moves a callback of a busy party to a list of its own, so that the others are found at once. It leaves the common list
-- last: while it is in both it may be called twice.
local function park(id, party, ttl)
  redis.call('ZADD', PARTIES, 'NX', 0, party)
  extend(PARTIES, ttl)
  redis.call('ZADD', PARKED .. party, NOW, id)
  extend(PARKED .. party, ttl)
  redis.call('ZREM', WEBHOOKS, id)
end

-- Returns the id parked longest, of the party that was served longest ago; nil if all parties are busy.
local function unparked(busy)
  for _, party in ipairs(redis.call('ZRANGEBYSCORE', PARTIES, '-inf', '+inf', 'LIMIT', 0, 100)) do
    if not busy[party] then
      local id = redis.call('ZRANGEBYSCORE', PARKED .. party, '-inf', '+inf', 'LIMIT', 0, 1)[1]
      if id then
        redis.call('ZADD', WEBHOOKS, NOW, id)
        redis.call('ZREM', PARKED .. party, id)
        redis.call('ZADD', PARTIES, NOW, party)
        return id
      end
      redis.call('ZREM', PARTIES, party)
    end
  end
end

-- Returns the record, or what is left where its job was deleted.
local function record_of(id)
  for _, key in ipairs({JOB .. id, GONE .. id}) do
    local record = try('HMGET', key, unpack(ARG.fields))
    if record and record[1] then return record end
  end
  return {}
end

local function take(busy)
  for _ = 1, 1000 do
    local id = unparked(busy) or redis.call('ZRANGEBYSCORE', WEBHOOKS, '-inf', NOW, 'LIMIT', 0, 1)[1]
    if not id then return {} end
    local key = CALLBACK .. id
    local callback, record = try('HMGET', key, 'url', 'owner', 'tries', 'round') or {}, record_of(id)
    local party = callback[1] and party_of(callback[2], callback[1])
    local ttl = math.max(1, redis.call('TTL', key))
    if not party or not record[1] then
      -- Deleted or expired meanwhile.
      redis.call('ZREM', WEBHOOKS, id)
    elseif not has_ended(record[1]) then
      -- A stock worker says so before RQ ends the job; or somebody has put it back, and it will be due again.
      redis.call('ZADD', WEBHOOKS, NOW + 1, id)
    elseif busy[party] then
      park(id, party, ttl)
    else
      local try = redis.call('HINCRBY', key, 'tries', 1)
      if try <= ARG.most then
        redis.call('ZADD', WEBHOOKS, NOW + ARG.lease, id)
        extend(WEBHOOKS, ttl)
        return {id, try, tonumber(callback[4] or 1), callback[1], party, unpack(record, 1, #ARG.fields)}
      end
      -- The last try ended with the process that made it.
      redis.call('HSET', key, 'outcome', 'given_up')
      redis.call('ZREM', WEBHOOKS, id)
    end
  end
  return {}
end

if ARG.step == 'take' then
  local busy = {}
  for _, party in ipairs(ARG.busy) do busy[party] = true end
  return take(busy)
end

local id, key = ARG.id, CALLBACK .. ARG.id
local tries = redis.call('HGET', key, 'tries')
if ARG.outcome ~= 'delivered' and tries ~= tostring(ARG.try) then return 0 end
if redis.call('EXISTS', key) == 1 then redis.call('HSET', key, 'outcome', ARG.outcome) end
if ARG.delay then
  redis.call('ZADD', WEBHOOKS, 'XX', NOW + ARG.delay, id)
else
  redis.call('ZREM', WEBHOOKS, id)
end
return 1
