import { expect, test } from 'vitest';
import type { SignedManifest } from '../proto/index.ts';
import type { OfferedVersion } from './attestation.ts';
import { chooseVersion } from './version-choice.ts';

const offer = (version: string, percent: number, ...workers: string[]): OfferedVersion => ({
  manifest: { version } as SignedManifest,
  percent,
  workers: new Set(workers),
});
const choose = async (offered: readonly OfferedVersion[], key?: string, holding = ['w']): Promise<string> =>
  (await chooseVersion(offered, 'acme/echo', key, holding)).manifest.version;

test('by chance, as requests are split', async () => {
  const offered = [offer('a', 50, 'w'), offer('b', 50, 'w')];
  const seen = await Promise.all(Array.from({ length: 100 }, () => choose(offered)));
  expect(new Set(seen)).toEqual(new Set(['a', 'b']));
  expect(
    await Promise.all(Array.from({ length: 20 }, () => choose([offer('a', 100, 'w'), offer('b', 0, 'w')]))),
  ).toEqual(Array(20).fill('a'));
});

test('the same one for a key', async () => {
  const offered = [offer('a', 50, 'w'), offer('b', 50, 'w')];
  const first = await Promise.all(Array.from({ length: 20 }, (_, i) => choose(offered, `k${i}`)));
  expect(new Set(first).size).toBe(2);
  expect(await Promise.all(Array.from({ length: 20 }, (_, i) => choose(offered, `k${i}`)))).toEqual(first);
});

test('none that no worker which holds can serve', async () => {
  const offered = [offer('a', 90, 'bad'), offer('b', 10, 'w')];
  expect(await choose(offered)).toBe('b');
  await expect(choose(offered, undefined, ['other'])).rejects.toMatchObject({ code: 'CFN_WORKER_UNAVAILABLE' });
});
