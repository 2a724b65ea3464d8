#!lua flags=allow-oom
-- Reads a batch, and repairs it where RQ alone has moved its jobs, for a batch has counts of its own.
-- KEYS: none
-- ARG: id, ttl (s)
-- Answer: {field, value, ...} of the batch, empty where there is none
local id, ttl = ARG.id, ARG.ttl
if is_open(try('HGET', BATCH .. id, 'state')) then repair_batch(id, ttl) end
return try('HGETALL', BATCH .. id) or {}
