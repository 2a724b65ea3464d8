#!lua flags=allow-oom
-- Moves a record alone, for a picture that RQ runs on its own path (a stock worker, callbacks, dependents).
-- KEYS: none
-- ARGV: 'start', id, ttl (s), filename  -> the attempt
--       'end', id, ttl (s), state, input or '', then field, value, ...  -> 1, or 0 where it has ended before
local step, id, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
if step == 'start' then return (start_record(id, ARGV[4], ttl, read_record(id) or {})) end
local ended = {}
if not end_record(id, ARGV[4], ttl, ended, ARGV[5] ~= '' and ARGV[5] or nil, unpack(ARGV, 6)) then return 0 end
announce(ended)
return 1
