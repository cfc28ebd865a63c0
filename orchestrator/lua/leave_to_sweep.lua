-- Has the next sweep ring for tasks whose doorbells a worker has no one to give to.
--
-- KEYS  task.lua's
-- ARGV  task.lua's, then from 6 on for each its member ('tenant id') and queue

local unrung = {}
for i = 6, #ARGV, 2 do
  unrung[#unrung + 1] = {ARGV[i], ARGV[i + 1]}
end
leave_to_sweep(unrung)
return {}
