#!lua flags=allow-oom
-- A chunk in a worker's hands: what it has found so far, and the end. For a BatchWorker the lease is the fence, and RQ's
-- job ends in the same step; on RQ's own path (a stock worker) there is no lease of ours, and RQ ends its job itself.
-- The fence compares with Redis's clock and keeps a margin, because RQ's recovery compares with a worker's clock.
-- KEYS: none
-- ARG: step 'start', id, ttl (s)                                                          -> the attempt
--      step 'note' | 'finish', id, ttl (s), attempt, start (first picture), succeeded, failed, suspect (next) or '', model
--        or '', margin (s), worker, execution and queue where there is a lease; to finish under it also result_ttl, failure_ttl, value (base64
--        JSON), claimed_at (Unix s), seconds (working time); then rows (JSON) or ''
-- Answer: 0 where nothing was written, because the chunk is somebody else's or has ended; 1; or 2: it has dependents
local id, ttl, worker = ARG.id, ARG.ttl, ARG.worker
if ARG.step == 'start' then return (start_chunk(id, ttl, read_chunk(id))) end
if worker and not held(ARG.queue, id .. ':' .. ARG.execution, ARG.margin) then return 0 end
local noted = note_rows(id, ARG.attempt, ARG.start, ARGV[2], ARG.succeeded, ARG.failed, ARG.suspect, ARG.model)
if ARG.step == 'note' then return noted and 1 or 0 end

-- A job put back by hand after its chunk had ended changes nothing here, but it ends.
if noted then
  end_chunk(id, ttl, 'failed', 'lost', 'The job ended without an answer.')
end
if not worker then return noted and 1 or 0 end
local dependents = finish_jobs(worker, {
  {id = id, execution = ARG.execution, queue = ARG.queue, result_ttl = ARG.result_ttl, failure_ttl = ARG.failure_ttl,
    value = ARG.value, exception = '', key = '', attempt = ARG.attempt, claimed_at = ARG.claimed_at}}, ttl)
count_jobs(worker, 1, 0, ARG.seconds)
return #dependents > 0 and 2 or 1
