#!lua flags=allow-oom
-- A picture that RQ runs on its own path (a stock worker, callbacks, dependents): what we note in its job.
-- KEYS: none
-- ARG: step 'start', id, ttl (s)                         -> the attempt, 0 where the job is gone
--      step 'end', id, ttl (s), attempt, status with which RQ ends the job, found (JSON); then input (zlib) or ''  -> 1, or 0
--        where the job is gone, has ended otherwise, or was started again: by then another worker has it
local id, ttl = ARG.id, ARG.ttl
local key = JOB .. id
local job = try('HMGET', key, 'status', 'origin', 'digitq_run', 'digitq_found', unpack(RECORD)) or {}
local status, run = job[1], job[3]
if not status then return 0 end

if ARG.step == 'start' then
  local attempt, execution = run_of(run)
  local accepted = redis.call('HEXISTS', ACCEPTED, id) == 1
  -- A worker of ours has counted when it claimed the job.
  local ours = execution ~= '' and redis.call('ZSCORE', WIP .. job[2], id .. ':' .. execution)
  watch({id}, ttl)
  if ours then return attempt end
  if not accepted and not run then
    remember_history({[RECENT] = {history_score(1), id}}, ttl)
    tally('arrived', 1)
  end
  if job[4] then
    redis.call('HDEL', key, 'digitq_found')
    redis.call('DEL', INPUT .. id)
  end
  redis.call('HSET', key, 'digitq_run', (attempt + 1) .. ':')
  return attempt + 1
end

if status ~= 'started' and status ~= ARG.status or run_of(run) ~= ARG.attempt then return 0 end
local known, input = before_the_end({id}), ARGV[2]
redis.pcall('EXPIRE', IMAGE .. id, ttl)
if input ~= '' then redis.call('SET', INPUT .. id, input, 'EX', ttl) end
redis.call('HSET', key, 'digitq_found', ARG.found)
local changed = {status = ARG.status, ended_at = ISO, digitq_found = ARG.found}
announce({id}, {as_news(id, {unpack(job, 5, 4 + #RECORD)}, changed)}, known, ttl)
return 1
