#!lua flags=allow-oom
-- A chunk in a worker's hands: what it has found so far, and the end. For a BatchWorker the lease is the fence, and RQ's
-- job ends in the same step; on RQ's own path (a stock worker) there is no lease of ours, and RQ ends its job itself.
-- The fence compares with Redis's clock and keeps a margin, because RQ's recovery compares with a worker's clock.
-- WITH: jobs, chunks
-- KEYS: none
-- ARGV: 'start', id, result ttl (s)                                                          -> the attempt
--       'note' | 'finish', id, result ttl (s), attempt, first picture, rows (JSON list) or '', succeeded, failed,
--       next suspect or '', worker name or '', execution, queue, margin (s), then for 'finish' with a worker:
--       job's result ttl, failure ttl, return value (base64 JSON), exception (base64 zlib) or '', working time (s)
-- Answer: 0 where nothing was written, because the chunk is somebody else's or has ended; 1; or 2: it has dependents
local step, id, ttl = ARGV[1], ARGV[2], tonumber(ARGV[3])
if step == 'start' then return (start_chunk(id, ttl, read_chunk(id))) end
local worker, execution, queue, margin = ARGV[10], ARGV[11], ARGV[12], tonumber(ARGV[13])
if worker ~= '' and not held(queue, id .. ':' .. execution, margin) then return 0 end
local noted = note_rows(id, ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9])
if step == 'note' then return noted and 1 or 0 end

-- A job put back by hand after its chunk had ended changes nothing here, but it ends.
if noted then
  end_chunk(id, ttl, 'failed', 'lost', 'The job ended without an answer.')
end
if worker == '' then return noted and 1 or 0 end
local ok = ARGV[17] == ''
local dependents = finish_jobs(worker, {
  {id, execution, queue, tonumber(ARGV[ok and 14 or 15]), ARGV[16], ARGV[17], ARGV[19]}}, ttl)
count_jobs(worker, ok and 1 or 0, ok and 0 or 1, ARGV[18])
return #dependents > 0 and 2 or 1
