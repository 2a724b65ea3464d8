#!lua flags=allow-oom
-- Who is to be told that a prediction has ended. A message that is taken comes due again when its lease ends.
-- KEYS: none
-- ARGV: 'take', lease (s), most tries, busy party, ...   -> {id, which try, {field, value, ...}, party}; empty if nothing is
--                                                           due but what belongs to a busy party
--       'end', id, which try, outcome, delay (s) or ''   -> 1, or 0 where another try has begun since
local PARKED, PARTIES = 'digitq:parked:', 'digitq:parties'

-- The key that a picture came with, or its receiver where nobody has a key: a party's callbacks wait for each other only.
local function party_of(owner, url)
  return owner and 'key:' .. owner or 'host:' .. string.lower(string.match(url, '^%a+://([^/?#]*)') or '')
end

-- Has a key that is shared live for as long as this record, and no shorter than the others in it need.
local function extend(key, ttl)
  if redis.call('TTL', key) < ttl then redis.call('EXPIRE', key, ttl) end
end

-- What is due of a busy party goes to a list of its own, so that nobody has to look past it again. It leaves the other
-- last: in both it is called, twice at worst.
local function park(id, party, ttl)
  redis.call('ZADD', PARTIES, 'NX', 0, party)
  extend(PARTIES, ttl)
  redis.call('ZADD', PARKED .. party, NOW, id)
  extend(PARKED .. party, ttl)
  redis.call('ZREM', WEBHOOKS, id)
end

-- The id that has been parked longest, of the party that was served longest ago; nil if all of them are busy.
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

if ARGV[1] == 'take' then
  local busy = {}
  for i = 4, #ARGV do busy[ARGV[i]] = true end
  for _ = 1, 1000 do
    local id = unparked(busy) or redis.call('ZRANGEBYSCORE', WEBHOOKS, '-inf', NOW, 'LIMIT', 0, 1)[1]
    if not id then return {} end
    local key = PREDICTION .. id
    local record = try('HMGET', key, 'callback_url', 'owner', 'state')
    local party = record and record[1] and party_of(record[2], record[1])
    local ttl = math.max(1, redis.call('TTL', key))
    -- Forgotten or expired meanwhile: nobody wants to know any more. Or it has not ended yet: then it comes due again.
    if not party or is_open(record[3]) then
      redis.call('ZREM', WEBHOOKS, id)
    elseif busy[party] then
      park(id, party, ttl)
    else
      local try = redis.call('HINCRBY', key, 'webhook_tries', 1)
      if try <= tonumber(ARGV[3]) then
        redis.call('ZADD', WEBHOOKS, NOW + ARGV[2], id)
        extend(WEBHOOKS, ttl)
        return {id, try, redis.call('HGETALL', key), party}
      end
      -- The last try ended with the process that made it.
      redis.call('HSET', key, 'webhook', 'given_up')
      redis.call('ZREM', WEBHOOKS, id)
    end
  end
  return {}
end

local id, try, outcome, delay = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local key = PREDICTION .. id
if outcome ~= 'delivered' and redis.call('HGET', key, 'webhook_tries') ~= try then return 0 end
if redis.call('EXISTS', key) == 1 then redis.call('HSET', key, 'webhook', outcome) end
if delay == '' then
  redis.call('ZREM', WEBHOOKS, id)
else
  redis.call('ZADD', WEBHOOKS, 'XX', NOW + delay, id)
end
return 1
