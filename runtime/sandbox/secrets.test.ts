import { afterEach, describe, expect, test } from 'vitest';
import { encodeSecrets, frame, generateSealingKeyPair, sealTo, utf8, wrappedSecretsInfo } from '../../proto/index.ts';
import { startTestSandbox, type TestOptions, type TestSandbox } from './testing.ts';

const VERSION = 'a'.repeat(64);
const CHALLENGE = 'c'.repeat(43);
const SOURCE = 'export default { fetch: (_, env) => Response.json(env) }';

let sandbox: TestSandbox | undefined;
afterEach(() => sandbox?.close());

const sealedTo =
  (change: { key?: string; info?: Uint8Array; value?: Uint8Array } = {}): NonNullable<TestOptions['secrets']> =>
  async (wrappingKey) => ({
    sealed: await sealTo(
      change.key ?? wrappingKey,
      change.value ??
        encodeSecrets(
          new Map([
            ['API_KEY', utf8('from the KMS')],
            ['NAME', utf8('secret')],
          ]),
        ),
      change.info ?? wrappedSecretsInfo(VERSION, CHALLENGE),
    ),
    version: VERSION,
    challenge: CHALLENGE,
  });

describe('secrets in a sandbox', () => {
  test('are in env of every isolate, before vars of the same name', async () => {
    sandbox = await startTestSandbox(SOURCE, { vars: { LANGUAGE: 'en', NAME: 'var' }, secrets: sealedTo() });
    for (let i = 0; i < 2; i++)
      expect(JSON.parse((await sandbox.call()).body)).toEqual({
        LANGUAGE: 'en',
        API_KEY: 'from the KMS',
        NAME: 'secret',
      });
  });

  test.each<[string, () => Promise<NonNullable<TestOptions['secrets']>>]>([
    ['to another key', async () => sealedTo({ key: (await generateSealingKeyPair()).publicKey })],
    ['for another version', async () => sealedTo({ info: wrappedSecretsInfo('b'.repeat(64), CHALLENGE) })],
    ['for another challenge', async () => sealedTo({ info: wrappedSecretsInfo(VERSION, 'd'.repeat(43)) })],
  ])('that were wrapped %s keep the function from starting', async (_name, secrets) => {
    sandbox = await startTestSandbox(SOURCE, { secrets: await secrets() });
    expect(sandbox.first).toMatchObject({ op: 'start-failed', code: 'CFN_CHALLENGE_INVALID' });
  });

  test.each([
    ['cut', encodeSecrets(new Map([['API_KEY', utf8('marker-7c1')]])).subarray(0, -1)],
    ['of another kind', frame('cfn/other', utf8('API_KEY'), utf8('marker-7c1'))],
  ])('that are %s keep it from starting, and the reason names no value', async (_name, value) => {
    sandbox = await startTestSandbox(SOURCE, { secrets: sealedTo({ value }) });
    expect(sandbox.first.op).toBe('start-failed');
    expect(JSON.stringify(sandbox.first)).not.toContain('marker-7c1');
  });
});
