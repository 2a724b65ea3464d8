#!lua flags=allow-oom
-- Takes back those of some chunks that wait; or forgets them, once the batch has ended.
-- WITH: jobs, chunks
-- KEYS: none
-- ARGV: batch id, ttl (s) of what remains, state that the caller has seen, first chunk, last chunk
-- Answer: how many chunks were taken back or forgotten
local id, ttl = ARGV[1], tonumber(ARGV[2])
local key, changed = BATCH .. id, 0
local batch = redis.call('HMGET', key, 'state', 'chunks')
-- It may have ended since, and who takes back what waits does not mean to forget what has ended.
local open = is_open(ARGV[3])
if not batch[2] or is_open(batch[1]) ~= open then return 0 end
for i = tonumber(ARGV[4]), math.min(tonumber(ARGV[5]), batch[2] - 1) do
  local chunk = id .. '-' .. i
  local origin = try('HGET', JOB .. chunk, 'origin')
  if not open then
    forget_job(chunk)
    redis.call('DEL', CHUNK .. chunk, RESULTS .. chunk)
    changed = changed + 1
  elseif origin and cancel_job(chunk, origin, ttl) and end_chunk(chunk, ttl, 'cancelled', '', '') then
    changed = changed + 1
  end
end
if not open and batch[2] - 1 <= tonumber(ARGV[5]) then leave_tombstone(key, id, ttl) end
return changed
