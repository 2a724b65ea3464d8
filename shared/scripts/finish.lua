#!lua flags=allow-oom
-- Ends a batch: RQ's job and our record in the same step, each only if its lease is still ours and has not run out.
-- The fence compares with Redis's clock and keeps a margin, because RQ's recovery compares with a worker's clock.
-- A record comes before its job: where an error leaves the job unfinished it is run again, and the record stays.
-- WITH: jobs
-- KEYS: none
-- ARGV: worker name, margin (s), record ttl (s), working time (s), batch size, model, preprocessing (version),
--   preprocess (ms), inference (ms),
--   then for each picture FIELDS values:
--   id, execution, queue, result ttl, failure ttl, return value (base64 JSON) or '', exception (base64 zlib) or '',
--   state, digit, confidence, probabilities, decision, reason or '', warnings, error code, error message, input,
--   batch position, when it was claimed (Unix s)
-- Answer: {ids that were fenced off or could not be written, ids whose dependents RQ has to enqueue now}
local worker, margin, record_ttl = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local working_time, size, model, version, preprocess, inference = unpack(ARGV, 4, 9)
local FIELDS, HEAD = 19, 9
local fenced, jobs, ended, succeeded, failed = {}, {}, {}, 0, 0

local function finish_record(id, state, i)
  local common = {'model', model, 'preprocessing', version, 'batch_size', size, 'batch_position', ARGV[i + 17],
    'preprocess_ms', preprocess, 'inference_ms', inference}
  if state ~= 'succeeded' then
    return end_record(id, state, record_ttl, ended, nil, 'error_code', ARGV[i + 14], 'error_message', ARGV[i + 15],
      unpack(common))
  end
  end_record(id, state, record_ttl, ended, ARGV[i + 16], 'digit', ARGV[i + 8], 'confidence', ARGV[i + 9], 'probabilities',
    ARGV[i + 10], 'decision', ARGV[i + 11], 'reason', ARGV[i + 12], 'warnings', ARGV[i + 13], unpack(common))
end

for i = HEAD + 1, #ARGV, FIELDS do
  local id, execution, queue, state = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 7]
  if held(queue, id .. ':' .. execution, margin) then
    local ok = ARGV[i + 6] == ''
    local written, message = pcall(finish_record, id, state, i)
    if written then
      local kept = ARGV[i + (ok and 3 or 4)]
      jobs[#jobs + 1] = {id, execution, queue, string.match(kept, '^%d+$'), ARGV[i + 5], ARGV[i + 6], ARGV[i + 18]}
      if ok then succeeded = succeeded + 1 else failed = failed + 1 end
    else
      -- Its lease runs out, and it is run again.
      redis.log(redis.LOG_WARNING, 'digitq: ' .. id .. ' was not ended: ' .. (type(message) == 'table' and message.err or message))
      fenced[#fenced + 1] = id
    end
  else
    fenced[#fenced + 1] = id
  end
end

announce(ended)
local dependents = finish_jobs(worker, jobs, tonumber(record_ttl))
count_jobs(worker, succeeded, failed, working_time)
return {fenced, dependents}
