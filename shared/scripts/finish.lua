#!lua flags=allow-oom
-- Ends a batch: RQ's jobs with what was found in each, each only if its lease is still ours and has not run out.
-- The fence compares with Redis's clock and keeps a margin, because RQ's recovery compares with a worker's clock.
-- WITH: jobs
-- KEYS: none
-- ARG: worker, margin (s), ttl (s), seconds (working time); columns: id, execution, queue, result_ttl, failure_ttl, claimed_at
--   (Unix s), value (base64 JSON) or '', exception (base64 zlib) or '', found (JSON), input (compressed) or '', news (JSON of
--   the record, but when it ended) or '' for what is no picture
-- Answer: {ids that were fenced off, ids whose dependents RQ has to enqueue now}
local worker, ttl, margin, jobs, ids, fenced = ARG.worker, ARG.ttl, ARG.margin, {}, {}, {}
local all, members = rows(), {}
for _, one in ipairs(all) do note(members, one.queue, one.id .. ':' .. one.execution) end
local leases, at = {}, {}
for queue, names in pairs(members) do leases[queue] = redis.call('ZMSCORE', WIP .. queue, unpack(names)) end
for _, one in ipairs(all) do
  at[one.queue] = (at[one.queue] or 0) + 1
  local expiry = leases[one.queue][at[one.queue]]
  if expiry and tonumber(expiry) > NOW + margin then
    jobs[#jobs + 1], ids[#ids + 1] = one, one.id
  else
    fenced[#fenced + 1] = one.id
  end
end
local known = before_the_end(ids)

local kept = whole(ttl)
local dependents = finish_jobs(worker, jobs, ttl, function(one)
  if one.input ~= '' then redis.call('SET', INPUT .. one.id, one.input, 'EX', kept) end
  redis.pcall('EXPIRE', IMAGE .. one.id, kept) -- it lives as long as what was found in it
  return {'digitq_found', one.found}
end)
local ended, succeeded = {}, 0
for _, one in ipairs(jobs) do
  if one.ok then succeeded = succeeded + 1 end
  if one.ended and one.news ~= '' then ended[#ended + 1] = {one.id, one.news} end
end
announce(ended, known, ttl)
count_jobs(worker, succeeded, #jobs - succeeded, ARG.seconds)
return {fenced, dependents}
