"""The circuit breaker's state machine in Lua, run by Redis as one step: `breaker_machine.py` says it in Python."""

from __future__ import annotations

from service.agents.breaker_machine import BUCKETS, CLOSED, BreakerPolicy, BreakerState

STATES: tuple[BreakerState, ...] = ("closed", "half_open", "open")
"""By the number that the script answers with."""
MICROSECONDS = 1_000_000
"""In a second. The script's times are whole microseconds of Redis's clock, which Lua's numbers hold exactly."""
KEEP_SECONDS = 3600.0
"""How long an idle circuit is kept, past whatever it is waiting for; then it is as if the model were new."""

SCRIPT = """
-- KEYS[1]: the hash of one model's circuit; no other key is touched, so that a cluster can run this.
local what, term, asked = ARGV[1], ARGV[2], tonumber(ARGV[3])
local window, least, share = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local open_first, open_most, lease = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local longest, keep = tonumber(ARGV[10]), tonumber(ARGV[11])
local BUCKETS, CLOSED, row = tonumber(ARGV[12]), ARGV[13], tonumber(ARGV[14])
local NUMBERS = {closed = 0, half_open = 1, open = 2}

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local stored = redis.call('HGETALL', KEYS[1])
local circuit = {}
for i = 1, #stored, 2 do circuit[stored[i]] = stored[i + 1] end
local due, open_for = tonumber(circuit.due or 0), tonumber(circuit.open_for or 0)
if due > now + longest then due = now end  -- the clock was set back: nothing is waited for that long

local function become(state, next_term, next_due, next_open_for)
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'state', state, 'term', next_term, 'due', next_due, 'open_for', next_open_for)
  redis.call('PEXPIRE', KEYS[1], keep)
  circuit = {state = state, term = next_term}
  due = next_due
end

local function open(duration, asked_until)
  duration = math.min(duration, open_most)
  become('open', '', math.max(now + duration, asked_until), duration)
end

local function answer(granted)
  local waiting = 0
  if circuit.state ~= 'closed' then waiting = math.max(0, due - now) end
  return {NUMBERS[circuit.state], waiting, now, granted}
end

local function admit()
  if circuit.state == 'closed' or circuit.term == term then
    return answer(circuit.term)  -- its own term: a probe that asks again because the answer was lost on the way
  end
  if now < due then return answer('') end
  become('half_open', term, now + lease, open_for)
  return answer(term)
end

local function probed()
  if what == 'succeeded' then
    become('closed', term .. CLOSED, 0, 0)
  elseif what == 'released' then
    become('half_open', '', now, open_for)
  else
    open(2 * open_for, now + asked)
  end
end

local function count(index)
  local counts = {succeeded = 0, failed = 0}
  counts[what] = 1
  for field, value in pairs(circuit) do
    local kind, at = string.match(field, '^(%l+):(%d+)$')
    if kind and (tonumber(at) <= index - BUCKETS or tonumber(at) > index) then
      redis.call('HDEL', KEYS[1], field)
    elseif kind then
      counts[kind] = counts[kind] + tonumber(value)
    end
  end
  return counts
end

local function counted()
  local index = math.floor(now / (window / BUCKETS))
  local counts = count(index)
  local asked_until = math.max(tonumber(circuit.asked_until or 0), now + asked)
  local in_a_row = 0
  if what == 'failed' then
    in_a_row = math.min(tonumber(circuit.in_a_row or 0) + 1, counts.failed)
    local enough = counts.failed >= least and counts.failed >= share * (counts.failed + counts.succeeded)
    if enough or in_a_row >= row then return open(open_first, asked_until) end
  end
  redis.call('HINCRBY', KEYS[1], what .. ':' .. string.format('%.0f', index), 1)
  redis.call('HSET', KEYS[1], 'in_a_row', in_a_row)
  if what == 'failed' then redis.call('HSET', KEYS[1], 'asked_until', asked_until) end
  redis.call('PEXPIRE', KEYS[1], keep)
end

if what == 'look' then
  circuit.state = circuit.state or 'closed'
  return answer('')
end
if not circuit.state then become('closed', term .. CLOSED, 0, 0) end
if what == 'admit' then return admit() end
if circuit.term == term and not (circuit.state == 'half_open' and now >= due) then
  if circuit.state == 'half_open' then probed() elseif what ~= 'released' then counted() end
end
return answer('')
"""
"""Arguments: what happens (`look`, which changes nothing, `admit`, or an outcome), the call or its term, the obeyed
Retry-After, then `figures`.

Answers the state's number in STATES, the microseconds until the next probe may go, the time, and the granted term,
which is empty when the call may not pass.
"""


def figures(policy: BreakerPolicy) -> tuple[str | int | float, ...]:
    """The script's arguments that depend on the policy alone."""
    longest = max(policy.open_seconds_most, policy.asked_seconds_most, policy.probe_seconds)
    return (
        micro(policy.window_seconds),
        policy.failures,
        policy.failure_share,
        micro(policy.open_seconds),
        micro(policy.open_seconds_most),
        micro(policy.probe_seconds),
        micro(longest),
        round(1000 * (KEEP_SECONDS + max(longest, policy.window_seconds))),
        BUCKETS,
        CLOSED,
        policy.failures_in_a_row,
    )


def micro(seconds: float) -> int:
    """Whole microseconds."""
    return round(seconds * MICROSECONDS)
