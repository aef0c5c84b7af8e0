"""The Lua scripts that Redis runs for a `RedisState`, each atomically.

A stored value begins with eight bytes, the time until which it is valid (a double, big endian);
after them comes the data. Redis itself also expires the value, which frees its memory. The names of
remembered values are in `lru`, a sorted set by last use, and in `expiries`, one by expiry; their
sizes are in `sizes`, and the sum of the sizes in `bytes`.
"""

from __future__ import annotations

from hashlib import sha1

import attrs

from orchestra.stores.state.layout import LAYOUT

DROPPED_AT_ONCE = 500
"""The most old values that one script drops for a new one: about 20 ms, in which Redis serves no
other client. After the limit was lowered, there may be a hundred thousand to drop.
"""


@attrs.frozen
class Script:
    """A script, and the digest by which Redis knows it."""

    text: str
    digest: str = attrs.field(
        default=attrs.Factory(lambda self: sha1(self.text.encode()).hexdigest(), takes_self=True)  # noqa: S324 - Redis's own choice
    )


SWAP = Script("""
local reads, at = tonumber(ARGV[1]), 1
local there, same = {}, true
for i = 1, reads do
  at = at + 1
  there[i] = redis.pcall('GET', KEYS[i])
  if type(there[i]) == 'table' then there[i] = false end -- no string, and so none of ours
  if ARGV[at] ~= (there[i] and ('=' .. there[i]) or '-') then same = false end
end
if not same then return {0, redis.call('TIME'), there} end
for i = reads + 1, #KEYS do
  local px, value = ARGV[at + 1], ARGV[at + 2]
  at = at + 2
  if px == '-' then redis.call('DEL', KEYS[i])
  elseif px == '' then redis.call('SET', KEYS[i], value)
  else redis.call('SET', KEYS[i], value, 'PX', px) end
end
return {1}
""")
"""Write if the values that were read are unchanged; otherwise return the time and the values.

`KEYS`: those read, then those written. `ARGV`: the number of keys read, the value of each, and for
each key to write its TTL and its value.
"""

_MEMORY = f"""
local prefix = KEYS[1]
local mark = redis.pcall('GET', prefix .. 'layout')
local layout = mark and (type(mark) == 'string' and tonumber(string.match(mark, '^(%d+) ')) or 1/0)
if layout and layout > {LAYOUT} then
  return redis.error_reply('NEWER what is here was written by a newer orchestra; upgrade this one')
end
local lru, sizes, expiries = prefix .. 'lru', prefix .. 'sizes', prefix .. 'expiries'
local bytes, used = prefix .. 'bytes', prefix .. 'used'
local function forget(name) -- first what a full Redis refuses: all of it is done, or nothing
  local size = redis.call('HGET', sizes, name)
  if size then redis.call('DECRBY', bytes, size) end
  redis.call('HDEL', sizes, name)
  redis.call('ZREM', lru, name)
  redis.call('ZREM', expiries, name)
  redis.call('DEL', prefix .. 'm:' .. name)
end
local name = ARGV[1]
"""

RECALL = Script(
    _MEMORY
    + """
local value = redis.pcall('GET', prefix .. 'm:' .. name)
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6 + tonumber(ARGV[2])
if type(value) ~= 'string' or #value < 8 or struct.unpack('>d', value) <= now then
  pcall(forget, name)
  return false
end
local use = redis.pcall('INCR', used)
if type(use) == 'number' then redis.pcall('ZADD', lru, use, name) end
return value
"""
)
"""Return a remembered value, and mark it as used.

`KEYS`: the prefix. `ARGV`: the key, and the seconds to add to the time. If Redis refuses to write,
the value is returned anyway, but not marked as used.
"""

REMEMBER = Script(
    _MEMORY
    + f"""
local data, size, ttl = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local limit, time = tonumber(ARGV[5]), redis.call('TIME')
redis.call('INCRBY', bytes, 0) -- a full Redis refuses this, but no later write of a script
forget(name)
if size > limit or ttl <= 0 then return 0 end
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6 + tonumber(ARGV[6])
local drops = {DROPPED_AT_ONCE}
while tonumber(redis.call('GET', bytes) or 0) + size > limit do
  local oldest = redis.call('ZRANGEBYSCORE', expiries, '-inf', now, 'LIMIT', 0, 1)[1]
    or redis.call('ZRANGE', lru, 0, 0)[1]
  if not oldest then redis.call('DEL', bytes, sizes) break end
  if drops == 0 then return 0 end
  drops = drops - 1
  forget(oldest)
end
local until_s = now + ttl
local value = struct.pack('>d', until_s) .. data
redis.call('SET', prefix .. 'm:' .. name, value, 'PX', math.ceil(ttl * 1000))
redis.call('HSET', sizes, name, size)
redis.call('INCRBY', bytes, size)
redis.call('ZADD', lru, redis.call('INCR', used), name)
redis.call('ZADD', expiries, until_s, name)
return 1
"""
)
"""Remember a value; to make room, drop expired ones, then the least recently used; 0 if not stored.

`KEYS`: the prefix. `ARGV`: the key, the data, the size of both, the TTL, the limit, and the seconds
to add to the time.
"""

SCRIPTS = (SWAP, RECALL, REMEMBER)
