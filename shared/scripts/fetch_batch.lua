#!lua flags=allow-oom
-- Reads batches, and repairs them where RQ alone has moved their jobs, for a batch has counts of its own.
-- KEYS: none
-- ARG: ids, ttl (s)
-- Answer: for each id {field, value, ...} of the batch, empty where there is none
local batches = {}
for i, id in ipairs(ARG.ids) do
  if is_open(try('HGET', BATCH .. id, 'state')) then repair_batch(id, ARG.ttl) end
  batches[i] = try('HGETALL', BATCH .. id) or {}
end
return batches
