#!lua flags=allow-oom
-- Who is to be told that a prediction has ended. A message that is taken comes due again when its lease ends.
-- KEYS: none
-- ARGV: 'take', lease (s), most tries                    -> {id, which try, {field, value, ...}}; empty if nothing is due
--       'end', id, which try, outcome, delay (s) or ''   -> 1, or 0 where another try has begun since
if ARGV[1] == 'take' then
  for _ = 1, 100 do
    local id = redis.call('ZRANGEBYSCORE', WEBHOOKS, '-inf', NOW, 'LIMIT', 0, 1)[1]
    if not id then return {} end
    local key = PREDICTION .. id
    local record = try('HMGET', key, 'callback_url', 'state')
    -- Forgotten or expired meanwhile: nobody wants to know any more. Or it has not ended yet: then it comes due again.
    if not record or not record[1] or is_open(record[2]) then
      redis.call('ZREM', WEBHOOKS, id)
    else
      local try = redis.call('HINCRBY', key, 'webhook_tries', 1)
      if try <= tonumber(ARGV[3]) then
        redis.call('ZADD', WEBHOOKS, NOW + ARGV[2], id)
        return {id, try, redis.call('HGETALL', key)}
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
