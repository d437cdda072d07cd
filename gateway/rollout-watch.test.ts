import { expect, test } from 'vitest';
import type { ErrorCode } from '../proto/index.ts';
import type { Deployed } from './catalogue.ts';
import { attestedShare, rolloutWatch } from './rollout-watch.ts';
import type { VersionView } from './routing/fleet.ts';
import type { Deployment } from './store/index.ts';

const [a, b] = ['a'.repeat(64), 'b'.repeat(64)];

async function house(percents: readonly [number, number] = [90, 10], from = a) {
  let nowMs = 0;
  const stopped: (Omit<Deployment, 'id'> & { after: number | undefined })[] = [];
  const views = new Map<string, Pick<VersionView, 'members' | 'refused'>>();
  const serves = (version: string, members: number, refused: readonly ErrorCode[]): void =>
    void views.set(version, {
      members: Array.from({ length: members }) as VersionView['members'],
      refused: new Map(refused.map((code, i) => [`w${i}`, { code, atMs: 0 }])),
    });
  serves(a, 3, []);
  serves(b, 3, []);
  const watch = rolloutWatch({
    store: {
      deployments: async () =>
        [
          { id: 1, versions: [] },
          { id: 0, versions: [{ version: from, percent: 100 }] },
        ] as unknown as Deployment[],
      addDeployment: async (deployment, after) => {
        stopped.push({ ...deployment, after });
        return { ...deployment, id: 2 };
      },
    },
    fleet: { view: (version) => views.get(version) as VersionView },
    monotonicMs: () => nowMs,
    now: () => new Date(0),
    log: () => undefined,
  });
  const versions = [
    { version: a, percent: percents[0] },
    { version: b, percent: percents[1] },
  ] as unknown as Deployed['versions'];
  watch.follow({ tenant: 'acme', name: 'echo', id: 1, versions });
  await Promise.resolve(); // the history is there
  const ends = (version: string, times: number, outcome: 'ok' | ErrorCode = 'ok'): void => {
    for (let i = 0; i < times; i++) watch.ended(version, outcome);
  };
  return { watch, ends, serves, stopped, pass: (ms: number) => void (nowMs += ms) };
}
const stop = {
  cause: 'stopped',
  after: 1,
  versions: [
    { version: a, percent: 100 },
    { version: b, percent: 0 },
  ],
};

test('the share is of the workers that were asked and could say', () => {
  const members = Array.from({ length: 2 }) as VersionView['members'];
  const refused = (...codes: ErrorCode[]) => new Map(codes.map((code, i) => [`w${i}`, { code, atMs: 0 }]));
  expect(attestedShare({ members: [], refused: new Map() })).toBe(1);
  expect(attestedShare({ members, refused: refused('CFN_GRANT_MISSING', 'CFN_ENGINE_FAILED') })).toBe(0.5);
  expect(attestedShare({ members, refused: refused('CFN_BUSY', 'CFN_WORKER_LOST') })).toBe(1);
});

test('a version that too few can serve stops; one that half can serve does not', async () => {
  const { ends, serves, stopped } = await house();
  serves(b, 1, ['CFN_GRANT_MISSING']);
  ends(b, 1);
  expect(stopped).toEqual([]);
  serves(b, 1, ['CFN_GRANT_MISSING', 'CFN_GRANT_MISSING']);
  ends(a, 1); // whichever is called
  expect(stopped).toMatchObject([stop]);
});

test('a version that fails more often than the other stops', async () => {
  const { ends, stopped } = await house();
  ends(a, 50);
  ends(a, 1, 'CFN_SANDBOX_LOST');
  ends(b, 18);
  ends(b, 1, 'CFN_ENGINE_FAILED');
  expect(stopped).toEqual([]); // too few to say
  ends(b, 1, 'CFN_ENGINE_FAILED');
  expect(stopped).toMatchObject([
    { ...stop, message: expect.stringContaining('2 of 20 requests of the last minute failed') },
  ]);
});

test('one that fails as often as the other does not: the trouble is elsewhere', async () => {
  const { ends, stopped } = await house();
  ends(a, 50);
  ends(a, 5, 'CFN_KMS_UNREACHABLE');
  ends(b, 20);
  ends(b, 3, 'CFN_KMS_UNREACHABLE');
  expect(stopped).toEqual([]);
});

test('what the function throws, and callers who go, are no errors of the system; old errors are forgotten', async () => {
  const { ends, stopped, pass } = await house();
  ends(b, 50, 'CFN_FUNCTION_THREW');
  ends(b, 50, 'CFN_ABORTED');
  ends(b, 5, 'CFN_SANDBOX_LOST');
  pass(90_000);
  ends(b, 50);
  ends(b, 2, 'CFN_SANDBOX_LOST');
  expect(stopped).toEqual([]);
});

test('nothing stops where nothing is split', async () => {
  const { ends, serves, stopped } = await house([100, 0]);
  serves(b, 0, ['CFN_GRANT_MISSING']);
  ends(b, 30, 'CFN_SANDBOX_LOST');
  expect(stopped).toEqual([]);
});

test('what was there before the roll-out is not stopped by failures, which callers can make', async () => {
  const { ends, serves, stopped } = await house([10, 90], b);
  ends(a, 100);
  ends(b, 50, 'CFN_SANDBOX_LOST');
  expect(stopped).toEqual([]);
  serves(b, 1, ['CFN_GRANT_MISSING', 'CFN_GRANT_MISSING']);
  ends(b, 1);
  expect(stopped).toHaveLength(1); // its workers say that, not its callers
});
