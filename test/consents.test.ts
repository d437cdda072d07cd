import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { confidentialFetch } from '../client/index.ts';
import { signWithdrawal } from '../proto/index.ts';
import { problemCode, startTestSystem, VAD_MODEL, type TestSystem } from './local-system.ts';

const SOURCE = 'export default { fetch: (request, env) => Response.json(env.VAD.outputs.map(({ name }) => name)) }';

let system: TestSystem;
let digest: string;
beforeAll(async () => {
  system = await startTestSystem();
  digest = await system.push('demo/asked@1', VAD_MODEL);
});
afterAll(() => system.stop());

const models = (): { binding: string; model: string; digest: string }[] => [
  { binding: 'VAD', model: 'demo/asked@1', digest },
];
const grant = (fn: string): Promise<void> =>
  system.grant(digest, `demo/${fn}`, 600_000, { author: system.author.thumbprint });
const consent = async (subject: string, admitted: boolean): Promise<number> =>
  (await system.control('POST', '/v1/consents', { subject, admitted }, system.local.operatorToken)).status;
const codeOf = async (name: string): Promise<string> => problemCode(await system.call(name));
function sealed(name: string, change: object = {}): ReturnType<typeof confidentialFetch> {
  const { gatewayUrl } = system.local;
  return confidentialFetch({ endpoint: gatewayUrl, function: `demo/${name}`, policy: system.policy, ...change });
}

describe('INV-26 four consents', () => {
  test('with all four, a call goes through', async () => {
    await grant('agreed');
    await system.deploy('agreed', SOURCE, { models: models() });
    const response = await (await sealed('agreed'))('/');
    expect(response.status).toBe(200);
    await response.arrayBuffer();
    const { receipt } = await response.confidentiality.receipt;
    expect(receipt.models).toMatchObject([{ model: 'demo/asked@1', digest }]);
  });

  test("the owner's alone is missing", async () => {
    await system.deploy('ungranted', SOURCE, { models: models() });
    expect(await codeOf('ungranted')).toBe('CFN_GRANT_MISSING');
    // Granted to the same name by another author: as if nothing had been granted.
    await system.grant(digest, 'demo/ungranted', 600_000, { author: 'another-author' });
    expect(await codeOf('ungranted')).toBe('CFN_GRANT_MISSING');
    await grant('ungranted');
    expect((await system.call('ungranted')).status).toBe(200);
  });

  test("the author's alone is missing: not declared, put in by somebody else, or withdrawn", async () => {
    await grant('authored');
    const source = 'export default { fetch: (request, env) => new Response(typeof env.VAD) }';
    await system.deploy('authored', source);
    expect(await (await system.call('authored')).text()).toBe('undefined'); // granted or not

    const version = await system.deploy('authored', SOURCE, { models: models() });
    const { jws } = (await (await system.control('GET', '/v1/functions/demo/authored')).json()) as { jws: string };
    const [head, payload = '', signature] = jws.split('.');
    const manifest = JSON.parse(Buffer.from(payload, 'base64url').toString()) as { models: object[] };
    manifest.models.push({ ...manifest.models[0], binding: 'SECOND' });
    const altered = [head, Buffer.from(JSON.stringify(manifest)).toString('base64url'), signature].join('.');
    const deployed = await system.control('POST', '/v1/functions/demo/authored/versions', {
      manifest: altered,
      bundle: Buffer.from(SOURCE).toString('base64url'),
    });
    expect(await problemCode(deployed)).toBe('CFN_MANIFEST_ALTERED');

    expect((await system.call('authored')).status).toBe(200);
    const statement = await signWithdrawal(version, system.author.key);
    const withdrawn = await system.kms('POST', '/v1/withdrawals', { functionManifest: jws, statement });
    expect(await withdrawn.json()).toEqual({ leasesRevoked: 1 });
    await expect.poll(() => codeOf('authored'), { timeout: 10_000 }).toBe('CFN_WITHDRAWN');
    // An operator who kept the old manifest and bundle gets no further with them.
    await system.control('POST', '/v1/functions/demo/authored/versions', {
      manifest: jws,
      bundle: Buffer.from(SOURCE).toString('base64url'),
    });
    expect(await codeOf('authored')).toBe('CFN_WITHDRAWN');
  });

  test("the operator's alone is missing: of the function, or of a model, in the same words", async () => {
    await grant('admitted');
    await system.deploy('admitted', SOURCE, { models: models() });
    expect((await system.call('admitted')).status).toBe(200);
    const answers: unknown[] = [];
    for (const subject of ['demo/admitted', 'demo/asked@1']) {
      expect(await consent(subject, false)).toBe(200);
      const refused = await system.call('admitted');
      expect(refused.status).toBe(403);
      answers.push(await refused.json());
      await expect((async () => (await sealed('admitted'))('/'))()).rejects.toMatchObject({
        code: 'CFN_OPERATOR_CONSENT_MISSING',
      });
      await expect(system.deploy('admitted', SOURCE, { models: models() })).rejects.toThrow(
        'CFN_OPERATOR_CONSENT_MISSING',
      );
      expect(await consent(subject, true)).toBe(200);
    }
    expect(answers[0]).toMatchObject({ code: 'CFN_OPERATOR_CONSENT_MISSING' });
    expect(answers[1]).toEqual(answers[0]);
    expect((await system.call('admitted')).status).toBe(200);
    const byTenant = await system.control('POST', '/v1/consents', { subject: 'demo/admitted', admitted: false });
    expect(await problemCode(byTenant)).toBe('CFN_TOKEN_SCOPE');
  });

  test("the caller's alone is missing: another image, or another version, and nothing is sent", async () => {
    await grant('called');
    await system.deploy('called', SOURCE, { models: models() });
    const { policy } = system;
    await expect(sealed('called', { version: 'e'.repeat(64) })).rejects.toMatchObject({ code: 'CFN_VERSION_MISMATCH' });
    const text = JSON.stringify(policy).replace(/"mrtd":\[?"[0-9a-f]{96}"/i, (found) =>
      found.replace(/[0-9a-f]{96}/i, 'e'.repeat(96)),
    );
    expect(text).not.toBe(JSON.stringify(policy));
    await expect(sealed('called', { policy: JSON.parse(text) as unknown })).rejects.toMatchObject({
      code: 'CFN_MEASUREMENT_UNKNOWN',
    });
  });
});
