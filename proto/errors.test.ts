import { expect, test } from 'vitest';
import { CfnError, ERRORS, fromProblem, toProblem, type ErrorCode } from './errors.ts';

test.each([
  ['CFN_BUSY', 'retry'],
  ['CFN_WORKER_LOST', 'retry'],
  ['CFN_KEY_CONFIG_STALE', 'attest'],
  ['CFN_VERSION_MISMATCH', 'attest'],
  ['CFN_INPUT_INVALID', 'stop'],
  ['CFN_CHANNEL_MISMATCH', 'stop'],
] as const)('after %s a caller is told to %s', (code, next) => {
  expect(toProblem(new CfnError(code, 'x')).next).toBe(next);
});

test('every code makes a problem that reads back as itself', () => {
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    const read = fromProblem(JSON.parse(JSON.stringify(toProblem(new CfnError(code, 'because')))));
    expect([read?.code, read?.message]).toEqual([code, 'because']);
  }
});
