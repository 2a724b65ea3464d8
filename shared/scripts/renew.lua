#!lua flags=allow-oom
-- A worker's heartbeat: it lives, and what it still holds is its own for another lease.
-- KEYS: none
-- ARGV: worker name, lease (s), worker ttl (s), model card (JSON or ''), then queue, id, execution for each claim
-- Answer: how many claims are still held
local worker, lease, ttl, card = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local keep = math.ceil(lease) + 60

-- The leases come first: nothing else may cost a worker what it holds.
local kept, held_jobs = 0, {}
for i = 5, #ARGV, 3 do
  local queue, id, execution = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local member = id .. ':' .. execution
  -- A lease that has run out is not revived: somebody may be taking the job over at this moment.
  if held(queue, member, 0) then
    redis.call('ZADD', 'rq:wip:' .. queue, 'XX', NOW + lease, member)
    kept = kept + 1
    held_jobs[kept] = {id, member}
  end
end
redis.call('ZADD', 'digitq:workers', NOW + ttl, worker)
redis.call('EXPIRE', 'digitq:workers', 3600)
redis.call('ZREMRANGEBYSCORE', 'digitq:workers', '-inf', NOW)
if card ~= '' then redis.call('SET', 'digitq:model', card, 'EX', 3600) end
-- What RQ shows of them.
for _, job in ipairs(held_jobs) do
  local id, member = unpack(job)
  if redis.call('EXPIRE', 'rq:execution:' .. member, keep) == 1 then
    try('HSET', 'rq:execution:' .. member, 'last_heartbeat', STAMP)
  end
  redis.call('EXPIRE', 'rq:executions:' .. id, keep)
  if redis.call('EXISTS', JOB .. id) == 1 then try('HSET', JOB .. id, 'last_heartbeat', ISO) end
end
return kept
