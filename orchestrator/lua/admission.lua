-- Lets a call begin: takes from its budget and passes its gate, both or neither.
-- Stands after the functions that it calls and the constant of redis_dues.py.
--
-- KEYS  behind the script's own: the gate's, if there is one, then the accounts
-- ARGV  behind the script's own, in words: what gate_enter is given, what budget_reserve is
--       given; empty where there is no gate, or no budget

-- Gives back what was reserved for a call that has to wait.
local function unreserve(accounts, hold, day)
  local settlement = {hold[1], 0, 0, day}
  for i = 5, #hold, 3 do
    table.insert(settlement, hold[i])
  end
  budget_settle(accounts, settlement)
end

-- Returns {'wait', ...} or {'spent', ...} as those functions do, {'admitted', part of the
-- gate's window or -1, day of the reservation or -1}, or {'withdrawn'}, which nobody waits
-- for: the call was taken back before this was heard.
local function admit_call(place, first_key, tenant, task)
  local entry, hold = words(ARGV[place]), words(ARGV[place + 1])
  local has_gate, has_budget = #entry > 0, #hold > 0
  if redis.call('EXISTS', WITHDRAWN .. (entry[1] or hold[1])) == 1 then
    return {'withdrawn'}
  end
  local accounts = {unpack(KEYS, has_gate and first_key + 1 or first_key)}
  local part, day = -1, -1
  if has_budget then
    local answer = budget_reserve(accounts, hold)
    if answer[1] == 'spent' then
      return answer
    end
    day = answer[2]
  end
  if has_gate then
    local answer = gate_enter(KEYS[first_key], entry, tenant, task)
    if answer[1] == 'wait' then
      if has_budget then
        unreserve(accounts, hold, day)
      end
      return answer
    end
    part = answer[2]
  end
  return {'admitted', part, day}
end
