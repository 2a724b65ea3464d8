#!lua flags=allow-oom
-- Trims RQ's registries of cancelled and deferred jobs, which RQ itself never does.
-- A cancelled job leaves its registry after `ttl` seconds. RQ's own cancel leaves the job without a time to live: it is
-- deleted then. A deferred job is deleted when it is as old and every job that it waits for is gone: nothing enqueues it.
-- An entry goes after its job, so that an error in between leaves both to the next round.
-- KEYS: none
-- ARG: ttl (s), most (entries of a registry to look at), queues
-- Answer: how many entries have left
local oldest, most = as_text(NOW - ARG.ttl), ARG.most
local leaving, gone = {}, 0

local function dependencies_of(id) return try('SMEMBERS', JOB .. ':' .. id .. ':dependencies') or {} end

-- Whether a deferred job waits for jobs of which none is left.
local function waits_in_vain(id)
  local dependencies = dependencies_of(id)
  for _, other in ipairs(dependencies) do
    if redis.call('EXISTS', JOB .. other) == 1 then return false end
  end
  return #dependencies > 0
end

for _, queue in ipairs(ARG.queues) do
  local cancelled, deferred = 'rq:canceled:' .. queue, 'rq:deferred:' .. queue
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', cancelled, '-inf', oldest, 'LIMIT', 0, most)) do
    local for_ever = try('HGET', JOB .. id, 'status') == 'canceled' and redis.call('TTL', JOB .. id) == -1
    leaving[#leaving + 1] = {cancelled, id, for_ever and dependencies_of(id)}
  end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', deferred, '-inf', oldest, 'LIMIT', 0, most)) do
    if try('HGET', JOB .. id, 'status') ~= 'deferred' then
      leaving[#leaving + 1] = {deferred, id, false}
    elseif waits_in_vain(id) then
      leaving[#leaving + 1] = {deferred, id, dependencies_of(id)}
    end
  end
end

for _, one in ipairs(leaving) do
  local registry, id, dependencies = unpack(one)
  if dependencies then
    for _, other in ipairs(dependencies) do try('SREM', JOB .. other .. ':dependents', id) end
    redis.call('DEL', 'rq:results:' .. id, JOB .. id .. ':dependents', JOB .. ':' .. id .. ':dependencies', JOB .. id)
  end
  gone = gone + redis.call('ZREM', registry, id)
end
return gone
