import { LIST_MAX } from '../../limits.ts';
import type { OperatorStore } from '../operator.ts';
import { listed, writing, type RedisDatabase } from './database.ts';

const SET_CONSENT = writing(`
redis.call('HSET', k[1], a[1], a[2])
changed('consent ' .. a[1])`);
const ADD_ADDRESS = writing(`
if redis.call('ZADD', k[1], 0, a[1]) == 1 then changed('worker ' .. a[1]) end`);
const REMOVE_ADDRESS = writing(`
if redis.call('ZREM', k[1], a[1]) == 1 then changed('worker ' .. a[1]) end`);

/** `consents`: a hash of subjects and 1 or 0; `worker-addresses`. */
export function redisOperator(database: RedisDatabase): OperatorStore {
  const { key, use, write } = database;
  return {
    async setConsent(subject, admitted) {
      await write(SET_CONSENT, ['consents'], [subject, admitted ? '1' : '0']);
    },
    consents: (subjects) =>
      use(async (client) => {
        if (subjects === undefined) {
          const all = Object.entries(await client.hGetAll(key('consents')));
          const sorted = all.toSorted(([a], [b]) => (a < b ? -1 : 1)).slice(0, LIST_MAX);
          return new Map(sorted.map(([subject, said]) => [subject, said === '1']));
        }
        if (subjects.length === 0) return new Map<string, boolean>();
        const said = await client.hmGet(key('consents'), [...subjects]);
        return new Map(subjects.flatMap((subject, i) => (said[i] == null ? [] : [[subject, said[i] === '1']])));
      }),
    async addWorkerAddress(address) {
      await write(ADD_ADDRESS, ['worker-addresses'], [address]);
    },
    async removeWorkerAddress(address) {
      await write(REMOVE_ADDRESS, ['worker-addresses'], [address]);
    },
    workerAddresses: () => listed(database, 'worker-addresses', LIST_MAX),
  };
}
