#!lua flags=allow-oom
-- A worker's heartbeat: it lives, and what it still holds is its own for another lease.
-- KEYS: none
-- ARG: worker, lease (s), alive (s for which it counts as such), card (of its model, JSON, or ''); columns queue, id, execution
-- Answer: how many claims are still held
local leases, kept = {}, 0
for _, one in ipairs(rows()) do
  local member = one.id .. ':' .. one.execution
  -- A lease that has run out is not revived: somebody may be taking the job over at this moment.
  if held(one.queue, member, 0) then
    note(leases, WIP .. one.queue, as_text(NOW + ARG.lease), member)
    kept = kept + 1
  end
end
-- The leases come first: nothing else may cost a worker what it holds.
for_each('ZADD', leases)
redis.call('ZADD', 'digitq:workers', NOW + ARG.alive, ARG.worker)
redis.call('EXPIRE', 'digitq:workers', 3600)
redis.call('ZREMRANGEBYSCORE', 'digitq:workers', '-inf', NOW)
if ARG.card ~= '' then redis.call('SET', 'digitq:model', ARG.card, 'EX', 3600) end
return kept
