#!lua flags=allow-oom
-- Cancels a waiting picture, or deletes one that has ended. What is running is left alone.
-- KEYS: none
-- ARG: id, ttl (s) of what remains
-- Answer: 'cancelled' | 'forgotten' | 'running' | 'missing'
local id, ttl = ARG.id, ARG.ttl
local job = try('HMGET', JOB .. id, 'status', 'origin', 'description', 'digitq_key', unpack(RECORD)) or {}
local status, origin, record = job[1], job[2], {unpack(job, 5, 4 + #RECORD)}
if status and not is_picture(job[3]) then return 'missing' end
local known = before_the_end({id})
local key = status and idempotency_of(id, job[4])

if status and not has_ended(status) then
  if not origin or not cancel_job(id, origin, status, ttl) then return 'running' end
  redis.pcall('DEL', IMAGE .. id)
  expire_key(key, ttl)
  announce({id}, {as_news(id, record, {status = 'canceled', ended_at = ISO})}, known, ttl)
  return 'cancelled'
end

if not status then
  local gone = try('HGET', GONE .. id, 'status')
  if gone == 'forgotten' or not (gone or known.bytes[id]) then return 'missing' end
end
-- That it was deleted is remembered, so that its id is answered with "not found" and not with "lost".
set_hash(GONE .. id, ttl, 'status', 'forgotten', 'digitq_owner', record[6] or '')
forget_job(id)
redis.pcall('ZREM', (record[6] or '') == '' and RECENT or RECENT .. ':' .. record[6], id)
redis.call('DEL', IMAGE .. id, INPUT .. id, CALLBACK .. id)
if key then redis.call('DEL', key) end
-- If RQ had ended it and the end was not told, it is not told now.
redis.pcall('ZREM', OPEN, id)
if redis.pcall('HDEL', ACCEPTED, id) == 1 then
  local slots = {}
  add_bytes(slots, known.bytes[id])
  release_bytes(slots)
end
return 'forgotten'
