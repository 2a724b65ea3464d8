#!lua flags=allow-oom
-- Ends a batch of claimed jobs with their results, a job only while its lease is ours and valid. The fence compares
-- with Redis's clock and keeps a margin, because RQ's recovery compares with a worker's clock.
-- KEYS: none
-- ARG: worker, margin (s), ttl (s), seconds (working time); columns: id, execution, queue, result_ttl, failure_ttl, claimed_at
--   (Unix s), attempt, key (of idempotency) or '', since (when it was submitted, RFC 3339; '' where not by us), value (base64
--   JSON) or '', exception (base64 zlib) or '', found (JSON), input (zlib) or '', news (JSON of the record, except when it
--   ended) or '' for what is no picture
-- Answer: {ids that were fenced off, ids whose dependents RQ has to enqueue now}
local ttl, claims, jobs, ids, fenced, leases, at = ARG.ttl, rows(), {}, {}, {}, {}, {}
for _, one in ipairs(claims) do note(leases, one.queue, one.id .. ':' .. one.execution) end
for queue, members in pairs(leases) do leases[queue], at[queue] = redis.call('ZMSCORE', WIP .. queue, unpack(members)), 0 end
for _, one in ipairs(claims) do
  at[one.queue] = at[one.queue] + 1
  local expiry = leases[one.queue][at[one.queue]]
  if expiry and tonumber(expiry) > NOW + ARG.margin then
    jobs[#jobs + 1], ids[#ids + 1] = one, one.id
  else
    fenced[#fenced + 1] = one.id
  end
end
local known = before_the_end(ids)

-- A picture that ends soon has an image that lives long enough.
local kept, soon = whole(ttl), iso(tonumber(time[1]) - slack(ttl), 0)
local dependents = finish_jobs(ARG.worker, jobs, ttl, function(one)
  if one.since < soon then redis.pcall('EXPIRE', IMAGE .. one.id, kept) end
  if one.input ~= '' then redis.call('SET', INPUT .. one.id, one.input, 'EX', kept) end
  return {'digitq_found', one.found}
end)
local ended, news, succeeded = {}, {}, 0
for _, one in ipairs(jobs) do
  if one.ok then succeeded = succeeded + 1 end
  if one.ended and one.news ~= '' then ended[#ended + 1], news[#news + 1] = one.id, one.news end
end
announce(ended, news, known, ttl)
count_jobs(ARG.worker, succeeded, #jobs - succeeded, ARG.seconds)
return {fenced, dependents}
