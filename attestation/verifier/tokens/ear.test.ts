import fc from 'fast-check';
import { generateKeyPair, exportJWK } from 'jose';
import { beforeAll, describe, expect, test } from 'vitest';
import { CfnError } from '../../../proto/index.ts';
import { tierOf, TRUST_CLAIMS, worstTier } from '../../evidence/ar4si.ts';
import { parseJwks, type Jwks } from '../../evidence/jwks.ts';
import { REASONS, type Reason } from '../../evidence/reasons.ts';
import { Findings, type Finding } from '../findings.ts';
import { verifyEar, type EarClaims, type EarInput } from './ear.ts';
import type { TokenAlgorithm } from './keys.ts';
import { makeEar, type EarAppraisal, type EarContents } from './make-ear.ts';
import { sign, vector, vectorKeys, type Claims } from './nras.fixture.ts';
import { trustVectorOf } from './trust-vector.ts';

const refused = (reason: Reason) => expect.objectContaining({ reason }) as Error;
const notChecked = { notChecked: 'the vector has none' };
const NOW = new Date('2026-11-01T00:00:10Z');
const IAT = Math.floor(NOW.getTime() / 1000) - 10;

async function judge(input: EarInput): Promise<{ claims: EarClaims; reasons: string[]; findings: Findings }> {
  const findings = new Findings();
  const claims = await verifyEar(input, findings);
  return { claims, reasons: findings.failures.map(({ reason }) => reason), findings };
}

interface Signer {
  readonly key: CryptoKey;
  readonly jwks: Jwks;
  readonly algorithm: TokenAlgorithm;
}

async function newSigner(algorithm: TokenAlgorithm): Promise<Signer> {
  const { privateKey, publicKey } = await generateKeyPair(algorithm, { extractable: true });
  const jwks = parseJwks(JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: algorithm }] }));
  return { key: privateKey, jwks, algorithm };
}

let signer: Signer;
beforeAll(async () => {
  signer = await newSigner('ES256');
});

/** What Trustee's attestation service writes: its profile, `exp` and `iss` beside EAR's claims, a submodule per device. */
function trusteeClaims(): Claims {
  const vectorOf = (configuration: number): Claims => ({
    'instance-identity': 0,
    configuration,
    executables: 3,
    'file-system': 0,
    hardware: 2,
    'runtime-opaque': 0,
    'storage-opaque': 0,
    'sourced-data': 0,
  });
  return {
    eat_profile: 'tag:github.com,2024:confidential-containers/Trustee',
    iat: IAT,
    'ear.verifier-id': { developer: 'https://confidentialcontainers.org', build: 'attestation-service 0.1.0' },
    submods: {
      cpu0: {
        'ear.status': 'affirming',
        'ear.trustworthiness-vector': vectorOf(2),
        'ear.appraisal-policy-id': 'default',
        'ear.veraison.annotated-evidence': {
          report_data: '00'.repeat(64),
          runtime_data_claims: { nonce: 'AAAA' },
          tdx: { tcb_status: 'UpToDate' },
        },
      },
      gpu0: {
        'ear.status': 'affirming',
        'ear.trustworthiness-vector': vectorOf(3),
        'ear.appraisal-policy-id': 'default',
      },
    },
    exp: IAT + 300,
    iss: 'CoCo-Attestation-Service',
  };
}

const expectations = {
  algorithms: ['ES256'],
  now: NOW,
  issuer: 'CoCo-Attestation-Service',
  audience: { notChecked: 'Trustee names none' },
  nonce: { notChecked: 'Trustee carries it in runtime_data_claims' },
  ageMsMax: 300_000,
  statuses: ['affirming'],
  submodules: ['cpu0', 'gpu0'],
} as const satisfies Partial<EarInput>;

async function made(change: (claims: Claims) => void = () => {}, input: Partial<EarInput> = {}) {
  const claims = trusteeClaims();
  change(claims);
  const jwk = { kty: 'EC', crv: 'P-256' }; // in Trustee's header; not looked at
  const token = await sign(claims, { typ: 'JWT', alg: 'ES256', jwk }, signer.key);
  return judge({ ...expectations, token, keys: { kind: 'pinned', jwks: signer.jwks }, ...input });
}

describe('recorded tokens of other implementations', () => {
  test('Veraison, 2022: affirming in all eight claims', async () => {
    const input: EarInput = {
      ...expectations,
      token: await vector('ear-veraison-2022.jwt'),
      keys: await vectorKeys('ear-veraison-2022.jwks.json'),
      now: new Date('2022-10-18T11:10:00Z'),
      issuer: notChecked,
      audience: notChecked,
      nonce: notChecked,
      submodules: ['test'],
    };
    const { claims, reasons, findings } = await judge(input);
    expect(reasons).toEqual([]);
    expect(findings.list.filter(({ outcome }) => outcome === 'skipped')).toHaveLength(3);
    expect(claims).toMatchObject({
      profile: 'tag:github.com,2023:veraison/ear',
      verifierId: { build: 'rrtrap-v1.0.0', developer: 'Acme Inc.' },
      rawEvidence: '3q2-7w',
      dates: { issuedAt: 1666091373 },
    });
    expect(Object.keys(claims.submodules[0]?.trustVector ?? {}).toSorted()).toEqual([...TRUST_CLAIMS].toSorted());
    expect((await judge({ ...input, now: NOW })).reasons).toEqual(['evidence/token-expired']);
    expect((await judge({ ...input, algorithms: ['ES384'] })).reasons).toEqual(['evidence/token-algorithm']);
  });

  test('Trustee, 2025: three claims, with the key in its header not used', async () => {
    const input: EarInput = {
      ...expectations,
      token: await vector('ear-trustee-cca-2025.jwt'),
      keys: await vectorKeys('ear-trustee-cca-2025.jwks.json'),
      now: new Date(1752059140_000),
      issuer: notChecked,
      submodules: ['cpu0'],
    };
    const { claims, reasons } = await judge(input);
    expect(reasons).toEqual([]);
    expect(claims.submodules[0]).toMatchObject({
      name: 'cpu0',
      status: 'affirming',
      policyId: 'default',
      trustVector: { configuration: 3, executables: 3, hardware: 2 },
    });
    expect(claims.submodules[0]?.annotatedEvidence).toHaveProperty('cca');
    expect((await judge({ ...input, keys: { kind: 'pinned', jwks: [] } })).reasons).toEqual([
      'evidence/token-kid-unknown',
    ]);
    expect((await judge({ ...input, keys: { kind: 'pinned', jwks: signer.jwks } })).reasons).toEqual([
      'evidence/token-signature',
    ]);
  });
});

describe("tokens in Trustee's layout", () => {
  test('are accepted, with CPU and GPU', async () => {
    const { claims, reasons } = await made();
    expect(reasons).toEqual([]);
    expect(claims.submodules.map(({ name }) => name)).toEqual(['cpu0', 'gpu0']);
  });

  test('issuer, audience, nonce', async () => {
    expect((await made((claims) => delete claims['iss'])).reasons).toEqual(['evidence/token-issuer']);
    expect((await made((claims) => (claims['iss'] = 'Other'))).reasons).toEqual(['evidence/token-issuer']);
    const audience = { audience: 'kms' };
    expect((await made((claims) => (claims['aud'] = ['other', 'kms']), audience)).reasons).toEqual([]);
    expect((await made((claims) => (claims['aud'] = 'other'), audience)).reasons).toEqual(['evidence/token-audience']);
    expect((await made(() => {}, audience)).reasons).toEqual(['evidence/token-audience']);
    const nonce = { nonce: 'bm9uY2Utbm9uY2U' };
    expect((await made((claims) => (claims['eat_nonce'] = nonce.nonce), nonce)).reasons).toEqual([]);
    expect((await made((claims) => (claims['eat_nonce'] = ['other-nonce', nonce.nonce]), nonce)).reasons).toEqual([]);
    expect((await made((claims) => (claims['eat_nonce'] = 'other-nonce'), nonce)).reasons).toEqual([
      'binding/nonce-mismatch',
    ]);
    expect((await made(() => {}, nonce)).reasons).toEqual(['binding/nonce-empty']);
    expect((await made((claims) => (claims['eat_nonce'] = 'other-nonce'), { nonce: '' })).reasons).toEqual([
      'binding/nonce-empty',
    ]);
  });

  test('dates: its own end and the greatest age, whichever is earlier', async () => {
    expect((await made((claims) => (claims['exp'] = IAT + 10))).reasons).toEqual(['evidence/token-expired']);
    expect((await made((claims) => delete claims['exp'], { ageMsMax: 11_000 })).reasons).toEqual([]);
    expect((await made((claims) => delete claims['exp'], { ageMsMax: 10_000 })).reasons).toEqual([
      'evidence/token-expired',
    ]);
    expect((await made(() => {}, { ageMsMax: 10_000 })).reasons).toEqual(['evidence/token-expired']);
    expect((await made((claims) => (claims['iat'] = IAT + 11))).reasons).toEqual(['evidence/token-not-yet-valid']);
    expect((await made((claims) => (claims['nbf'] = IAT + 11))).reasons).toEqual(['evidence/token-not-yet-valid']);
    expect((await made((claims) => (claims['iat'] = IAT + 11), { clockSkewMs: 1000 })).reasons).toEqual([]);
    await expect(made((claims) => delete claims['iat'])).rejects.toThrow(refused('evidence/token-claims'));
  });

  const cpu = (claims: Claims): Claims => (claims['submods'] as Record<string, Claims>)['cpu0'] ?? {};

  test('a status that is not taken, and one that is better than its vector', async () => {
    for (const status of ['none', 'warning', 'contraindicated'])
      expect((await made((claims) => (cpu(claims)['ear.status'] = status))).reasons).toEqual(['evidence/token-result']);
    expect(
      (await made((claims) => (cpu(claims)['ear.status'] = 'warning'), { statuses: ['affirming', 'warning'] })).reasons,
    ).toEqual([]);
    expect((await made(() => {}, { statuses: [] })).reasons).toEqual([
      'evidence/token-result',
      'evidence/token-result',
    ]);
    for (const value of [32, 96, -33, -97, 127, -128])
      expect(
        (await made((claims) => (cpu(claims)['ear.trustworthiness-vector'] = { hardware: value }))).reasons,
      ).toEqual(['evidence/token-claims']);
    for (const value of [-32, -1, 0, 1, 2, 31])
      expect(
        (await made((claims) => (cpu(claims)['ear.trustworthiness-vector'] = { hardware: value }))).reasons,
      ).toEqual([]);
  });

  test('a missing submodule', async () => {
    const { reasons } = await made((claims) => delete (claims['submods'] as Claims)['gpu0']);
    expect(reasons).toEqual(['evidence/submodule-set']);
  });

  test.each<[string, (claims: Claims) => void]>([
    ['no profile', (claims) => delete claims['eat_profile']],
    ['another profile', (claims) => (claims['eat_profile'] = 'tag:github.com,2023:veraison/ear2')],
    ['no verifier', (claims) => delete claims['ear.verifier-id']],
    ['half a verifier', (claims) => (claims['ear.verifier-id'] = { build: 'x' })],
    ['no submodules', (claims) => delete claims['submods']],
    ['empty submodules', (claims) => (claims['submods'] = {})],
    [
      'many submodules',
      (claims) =>
        (claims['submods'] = Object.fromEntries(Array.from({ length: 65 }, (_, i) => [`cpu${i}`, cpu(claims)]))),
    ],
    ['a status that is none', (claims) => (cpu(claims)['ear.status'] = 'good')],
    ['no status', (claims) => delete cpu(claims)['ear.status']],
    ['a value out of range', (claims) => (cpu(claims)['ear.trustworthiness-vector'] = { hardware: 128 })],
    ['a value that is a fraction', (claims) => (cpu(claims)['ear.trustworthiness-vector'] = { hardware: 2.5 })],
    ['a claim that AR4SI does not know', (claims) => (cpu(claims)['ear.trustworthiness-vector'] = { hardwar: 2 })],
    ['a nonce that is too short', (claims) => (claims['eat_nonce'] = 'short')],
    ['raw evidence that is no base64url', (claims) => (claims['ear.raw-evidence'] = 'a+b=')],
    ['raw evidence without end', (claims) => (claims['ear.raw-evidence'] = 'A'.repeat(300_000))],
  ])('malformed: %s', async (_, change) => {
    await expect(made(change)).rejects.toThrow(refused('parse/json'));
  });
});

describe('our own results', () => {
  const passed = (check: string): Finding => ({ check, outcome: 'passed' });
  const failed = (reason: Reason): Finding => ({ check: reason, outcome: 'failed', reason, detail: 'detail' });
  const appraisal = {
    findings: [passed('quote signature'), { check: 'revocation', outcome: 'skipped', detail: 'why' } as const],
    covers: ['hardware', 'executables', 'configuration', 'runtime-opaque', 'instance-identity'] as const,
    simulated: false,
    policyDigest: 'ab'.repeat(32),
    claims: { mrtd: '00' },
  };
  const contents: EarContents = {
    issuer: 'https://kms.example.com',
    audience: 'worker',
    nonce: 'bm9uY2Utbm9uY2U',
    verifierId: { developer: 'cfn', build: 'cfn 0.1.0' },
    now: NOW,
    lifeMs: 60_000,
    submodules: { cpu0: appraisal },
  };

  test.each(['ES256', 'ES384', 'EdDSA'] as const)('go out and come back, signed with %s', async (algorithm) => {
    const { key, jwks } = await newSigner(algorithm);
    const token = await makeEar(contents, { algorithm, keyId: algorithm, key });
    const input: EarInput = {
      ...expectations,
      token,
      keys: { kind: 'pinned', jwks },
      algorithms: [algorithm],
      issuer: contents.issuer,
      audience: 'worker',
      nonce: 'bm9uY2Utbm9uY2U',
      submodules: ['cpu0'],
    };
    const { claims, reasons } = await judge(input);
    expect(reasons).toEqual([]);
    expect(claims.profile).toBe('tag:github.com,2023:veraison/ear');
    expect(claims.submodules).toEqual([
      {
        name: 'cpu0',
        status: 'affirming',
        trustVector: { 'instance-identity': 2, configuration: 2, executables: 3, hardware: 2, 'runtime-opaque': 2 },
        policyId: `urn:cfn:appraisal-policy:sha256:${'ab'.repeat(32)}`,
        annotatedEvidence: { mrtd: '00' },
      },
    ]);
    expect((await judge({ ...input, now: new Date(NOW.getTime() + 60_000) })).reasons).toEqual([
      'evidence/token-expired',
    ]);
    expect(
      (
        await judge({
          ...input,
          algorithms: (['ES256', 'ES384', 'EdDSA'] as const).filter((name) => name !== algorithm),
        })
      ).reasons,
    ).toEqual(['evidence/token-algorithm']);
  });

  const statusOf = async (change: Partial<EarAppraisal>): Promise<string | undefined> => {
    const token = await makeEar(
      { ...contents, submodules: { cpu0: { ...appraisal, ...change } } },
      { algorithm: 'ES256', keyId: 'ES256', key: signer.key },
    );
    const { claims } = await judge({
      ...expectations,
      token,
      keys: { kind: 'pinned', jwks: signer.jwks },
      issuer: contents.issuer,
    });
    return claims.submodules[0]?.status;
  };

  test('every reason contraindicates, and worsens a claim', async () => {
    for (const reason of Object.keys(REASONS) as Reason[]) {
      const vectorOf = trustVectorOf({ ...appraisal, findings: [failed(reason)] });
      expect(['warning', 'contraindicated'], reason).toContain(worstTier(vectorOf));
    }
    expect(await statusOf({ findings: [failed('tcb/out-of-date')] })).toBe('contraindicated');
    expect(await statusOf({ findings: [passed('x'), failed('policy/debug')] })).toBe('contraindicated');
  });

  test('what the policy did not cover is not affirmed, and a simulated platform never is', async () => {
    expect(await statusOf({ covers: [] })).toBe('none');
    expect(await statusOf({ simulated: true })).toBe('contraindicated');
    expect(trustVectorOf({ ...appraisal, covers: ['hardware'], simulated: false })).toEqual({ hardware: 2 });
    expect(trustVectorOf({ ...appraisal, simulated: true }).hardware).toBe(97);
    expect(trustVectorOf({ ...appraisal, findings: [failed('reference/mismatch')] })).toMatchObject({
      executables: 33,
      hardware: 2,
    });
  });
});

test('the tiers of AR4SI', () => {
  const expected = [
    [-128, 'contraindicated'],
    [-97, 'contraindicated'],
    [-96, 'warning'],
    [-33, 'warning'],
    [-32, 'affirming'],
    [-2, 'affirming'],
    [-1, 'none'],
    [0, 'none'],
    [1, 'none'],
    [2, 'affirming'],
    [31, 'affirming'],
    [32, 'warning'],
    [95, 'warning'],
    [96, 'contraindicated'],
    [127, 'contraindicated'],
  ] as const;
  for (const [value, tier] of expected) expect(tierOf(value), String(value)).toBe(tier);
  expect(worstTier({})).toBe('none');
  expect(worstTier({ hardware: 2, executables: 33 })).toBe('warning');
});

test('any changed character is refused, or malformed', async () => {
  const token = await vector('ear-trustee-cca-2025.jwt');
  const keys = await vectorKeys('ear-trustee-cca-2025.jwks.json');
  const input: EarInput = {
    ...expectations,
    token,
    keys,
    now: new Date(1752059140_000),
    issuer: notChecked,
    submodules: ['cpu0'],
  };
  const alphabet = fc.constantFrom(...'ABCXYZabcxyz019-_.=+/ \u00e9'.split(''));
  await fc.assert(
    fc.asyncProperty(fc.nat(token.length - 1), alphabet, async (at, character) => {
      const changed = token.slice(0, at) + character + token.slice(at + 1);
      fc.pre(changed !== token);
      const findings = new Findings();
      try {
        await verifyEar({ ...input, token: changed }, findings);
      } catch (error) {
        expect(error).toBeInstanceOf(CfnError);
        return;
      }
      expect(findings.failures).not.toEqual([]);
    }),
    { numRuns: 300 },
  );
});
