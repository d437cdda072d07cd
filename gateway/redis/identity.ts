import { readFile, writeFile } from 'node:fs/promises';
import { CfnError } from '../../proto/index.ts';
import type { RedisServerView } from './connection.ts';

/** Under this key Redis says whose data it holds. Every write asks for it: an empty Redis takes nothing. */
export const IDENTITY = 'identity';

export interface Identity {
  /** 32 hexadecimal digits, once the first connection was checked. */
  readonly id: string;
  readonly check: (server: RedisServerView) => Promise<void>;
}

/**
 * Knows again the Redis that this gateway has used. One that was emptied, or is another, is refused: its answers would say that nothing
 * is deployed and nobody was dismissed.
 *
 * @param file where the identity is kept, in the state folder
 * @throws {CfnError} from `check`: `CFN_STORE_FAILED`
 */
export async function redisIdentity(file: string, randomId: () => string): Promise<Identity> {
  const kept = await readFile(file, 'utf8').catch(() => undefined);
  let id = kept?.trim() ?? '';
  return {
    get id() {
      return id;
    },
    async check({ client, key }) {
      if (id === '') {
        await client.set(key(IDENTITY), randomId(), { condition: 'NX' });
        id = (await client.get(key(IDENTITY))) ?? '';
        await writeFile(file, id, { mode: 0o600, flag: 'wx' });
        return;
      }
      if ((await client.get(key(IDENTITY))) === id) return;
      throw new CfnError(
        'CFN_STORE_FAILED',
        `Redis has lost its data, or is another one: restore it, or delete ${file} to begin with what it holds`,
      );
    },
  };
}
