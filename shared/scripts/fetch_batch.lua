#!lua flags=allow-oom
-- Reads a batch, and repairs it where RQ alone has moved its jobs, as fetch.lua does for one picture.
-- WITH: chunks
-- KEYS: none
-- ARGV: id, result ttl (s)
-- Answer: {field, value, ...} of the batch, empty where there is none
local id, ttl = ARGV[1], tonumber(ARGV[2])
if is_open(try('HGET', BATCH .. id, 'state')) then repair_batch(id, ttl) end
return try('HGETALL', BATCH .. id) or {}
