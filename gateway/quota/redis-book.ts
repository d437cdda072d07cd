import { CfnError } from '../../proto/index.ts';
import { script, type Redis } from '../redis/connection.ts';
import { SLOTS_MS, type QuotaBook } from './book.ts';

/**
 * One page of the book, settled in one step; the clock is that of Redis. KEYS: bucket, slots, then one for each period. ARGV: gateway,
 * requests a second (0: no limit), burst, tokens wanted, slots at most (-1: no limit), in use, wanted, how long they are held; then of each
 * period seconds to keep, requests, engine ms, bytes. A bucket that is not there is full.
 */
const SETTLE = script(`
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gateway = ARGV[1]

local rate, tokens, retry = tonumber(ARGV[2]), 0, 0
if rate > 0 then
  local burst, wanted = tonumber(ARGV[3]), tonumber(ARGV[4])
  local bucket = redis.call('HMGET', KEYS[1], 'level', 'at')
  local level = tonumber(bucket[1] or burst)
  local elapsed = math.max(0, now - tonumber(bucket[2] or now))
  level = math.min(burst, level + elapsed * rate / 1000)
  tokens = math.min(wanted, math.floor(level))
  level = level - tokens
  if tokens < wanted then retry = math.ceil((1 - level) * 1000 / rate) end
  redis.call('HSET', KEYS[1], 'level', string.format('%.6f', level))
  redis.call('HSET', KEYS[1], 'at', string.format('%d', now))
  redis.call('PEXPIRE', KEYS[1], string.format('%d', math.ceil(burst * 1000 / rate) + 1000))
end

local max, inUse, wanted, ttl = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local others, gateways = 0, 1
local held = redis.call('HGETALL', KEYS[2])
for i = 1, #held, 2 do
  local count, untilMs = string.match(held[i + 1], '^(%d+):(%d+)$')
  if tonumber(untilMs) <= now then
    redis.call('HDEL', KEYS[2], held[i])
  elseif held[i] ~= gateway then
    others = others + tonumber(count)
    gateways = gateways + 1
  end
end
local slots = 0
if max >= 0 then slots = math.max(inUse, math.min(wanted, math.max(0, max - others))) end
redis.call('HSET', KEYS[2], gateway, string.format('%d:%d', slots, now + ttl))
redis.call('PEXPIRE', KEYS[2], ttl)

local answer = { tokens, retry, slots, gateways }
for k = 3, #KEYS do
  local at = 9 + (k - 3) * 4
  redis.call('HSET', KEYS[k], gateway, ARGV[at + 1] .. ':' .. ARGV[at + 2] .. ':' .. ARGV[at + 3])
  redis.call('EXPIRE', KEYS[k], ARGV[at])
  local sums = { 0, 0, 0 }
  for _, counted in ipairs(redis.call('HVALS', KEYS[k])) do
    local i = 1
    for number in string.gmatch(counted, '%d+') do
      sums[i] = sums[i] + tonumber(number)
      i = i + 1
    end
  end
  for i = 1, 3 do answer[#answer + 1] = sums[i] end
end
return answer
`);

/** The book that gateways share: Redis from 5 on, or Valkey. Keys of a tenant share a hash tag, so that one script may touch them in a cluster. */
export function redisBook(redis: Pick<Redis, 'run'>, slotsMs = SLOTS_MS): QuotaBook {
  return {
    async settle(tenant, { gateway, rate, slots, periods }) {
      const page = `quota:{${tenant}}`;
      const keys = [`${page}:bucket`, `${page}:slots`, ...periods.map(({ id }) => `${page}:used:${id}`)];
      const numbers = [
        ...(rate === undefined ? [0, 0, 0] : [rate.perSecond, rate.burst, rate.wanted]),
        ...(slots === undefined ? [-1, 0, 0] : [slots.max, slots.inUse, slots.wanted]),
        slotsMs,
        ...periods.flatMap(({ keepSeconds, used: { requests, engineMs, bytes } }) =>
          [keepSeconds, requests, engineMs, bytes].map(Math.ceil),
        ),
      ];
      return read(await redis.run(SETTLE, keys, [gateway, ...numbers.map(String)]), periods.length);
    },
  };
}

function read(answer: unknown, periods: number): Awaited<ReturnType<QuotaBook['settle']>> {
  const length = 4 + periods * 3;
  if (!Array.isArray(answer) || answer.length !== length || !answer.every((one) => typeof one === 'number'))
    throw new CfnError('CFN_STORE_FAILED', `Redis settled with something else than ${length} numbers`);
  const [tokens = 0, retryMs = 0, slots = 0, gateways = 1, ...sums] = answer as number[];
  const used = Array.from({ length: periods }, (_, i) => {
    const [requests = 0, engineMs = 0, bytes = 0] = sums.slice(i * 3, i * 3 + 3);
    return { requests, engineMs, bytes };
  });
  return { tokens, retryMs, slots, gateways, used };
}
