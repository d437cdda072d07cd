import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { CfnError, toHex, utf8 } from '../../../proto/index.ts';
import { parseJwks } from '../../evidence/jwks.ts';
import { parsePem } from '../../evidence/pem.ts';
import { parseCertificate } from '../../evidence/x509.ts';
import { Findings } from '../findings.ts';
import {
  genuine,
  judge,
  madeService,
  NONCE,
  NOW,
  partsOf,
  sign,
  vector,
  vectorKeys,
  type Parts,
} from './nras.fixture.ts';
import { verifyNras, type NrasInput } from './nras.ts';
import { requireSameGpu } from './same-gpu.ts';

type Service = Awaited<ReturnType<typeof madeService>>;
let service: Service;
beforeAll(async () => {
  service = await madeService();
});

const reasons = async (input: NrasInput): Promise<string[]> => [
  ...new Set((await judge(input)).failures.map(({ reason }) => reason)),
];
const refused = (reason: string) => expect.objectContaining({ reason }) as Error;

/** An answer of the throw-away service, judged at the time of the genuine one. */
async function made(change: (parts: Parts) => void, input: Partial<NrasInput> = {}): Promise<string[]> {
  return reasons({ answer: await service.answer(change), keys: service.keys, nonce: NONCE, now: NOW, ...input });
}

describe('recorded answers', () => {
  test('nras-prod-h100-20250611 is accepted, with its claims', async () => {
    const { claims, failures, findings } = await judge(await genuine());
    expect(failures).toEqual([]);
    expect(findings.list.map(({ check }) => check)).toContain('NRAS GPU-0 token: digest');
    expect(claims).toMatchObject({
      issuer: 'https://nras.attestation.nvidia.com',
      claimsVersion: '3.0',
      overallResult: true,
      nonce: toHex(NONCE),
    });
    expect(claims.devices).toEqual([
      {
        name: 'GPU-0',
        kind: 'gpu',
        measurementResult: 'success',
        secureBoot: true,
        debugStatus: 'disabled',
        hardwareModel: 'GH100 A01 GSP BROM',
        ueid: '478176379286082186618948445787393647364802107249',
        driverVersion: '550.90.07',
        vbiosVersion: '96.00.9F.00.01',
        warning: null,
        claims: expect.objectContaining({ 'x-nvidia-gpu-arch-check': true }),
      },
    ]);
    expect(JSON.parse(JSON.stringify(claims))).toEqual(claims);
  });

  test('nras-staging-switch-20250628 fails for its issuer alone; as staging it is genuine', async () => {
    const keys = await vectorKeys('nras-staging-switch-20250628.jwks.json');
    const staging = {
      answer: await vector('nras-staging-switch-20250628.json'),
      keys,
      nonce: NONCE,
      now: new Date('2025-06-28T23:58:40Z'),
    };
    expect(await reasons(staging)).toEqual(['evidence/token-issuer']);
    expect(await reasons({ ...staging, issuer: 'https://nras.attestation-stg.nvidia.com' })).toEqual([]);
  });

  test('nras-expired', async () => {
    expect(await reasons({ ...(await genuine()), now: new Date('2025-06-11T02:00:00Z') })).toEqual([
      'evidence/token-expired',
    ]);
  });

  test('nras-wrong-nonce', async () => {
    expect(await reasons({ ...(await genuine()), nonce: new Uint8Array(32) })).toEqual(['binding/nonce-mismatch']);
    expect(await reasons({ ...(await genuine()), nonce: new Uint8Array() })).toEqual(['binding/nonce-empty']);
  });

  test('a nonce that nobody states is skipped, with the reason', async () => {
    const { failures, findings } = await judge({ ...(await genuine()), nonce: { notChecked: 'a recording' } });
    expect(failures).toEqual([]);
    const skipped = { outcome: 'skipped', detail: 'a recording' };
    expect(findings.list).toContainEqual({ check: 'NRAS overall token: nonce', ...skipped });
    expect(findings.list).toContainEqual({ check: 'NRAS GPU-0 token: nonce', ...skipped });
  });

  test('nras-unknown-kid', async () => {
    const keys = await vectorKeys('nras-staging-switch-20250628.jwks.json');
    expect(await reasons({ ...(await genuine()), keys })).toEqual(['evidence/token-kid-unknown']);
  });

  test('dates are inclusive at the start, exclusive at the end, and an invalid date refuses', async () => {
    const at = async (now: string, clockSkewMs = 0) =>
      reasons({ ...(await genuine()), now: new Date(now), clockSkewMs });
    expect(await at('2025-06-11T00:30:58Z')).toEqual([]);
    expect(await at('2025-06-11T00:30:57.999Z')).toEqual(['evidence/token-not-yet-valid']);
    expect(await at('2025-06-11T00:30:57Z', 1000)).toEqual([]);
    expect(await at('2025-06-11T01:30:57.999Z')).toEqual([]);
    expect(await at('2025-06-11T01:30:58Z')).toEqual(['evidence/token-expired']);
    expect(await at('2025-06-11T01:31:57Z', 60_000)).toEqual([]);
    expect(await at('never')).toContain('evidence/token-not-yet-valid');
  });
});

describe('the device of a report', () => {
  const leafOf = async (name: string) => {
    const pem = await readFile(new URL(`../../vectors/nvidia/chains/${name}`, import.meta.url), 'utf8');
    const [der] = parsePem(pem, 8);
    return parseCertificate(der ?? new Uint8Array());
  };

  test('ueid is the serial number of the leaf certificate, for GPUs and switches', async () => {
    const leaf = await leafOf('h100-550.90.07.pem');
    const device = (await judge(await genuine())).claims.devices[0];
    if (device === undefined) throw new Error('no device');
    requireSameGpu(device, { leaf, driverVersion: '550.90.07', vbiosVersion: '96.00.9f.00.01' });
    const keys = await vectorKeys('nras-staging-switch-20250628.jwks.json');
    const staging = { answer: await vector('nras-staging-switch-20250628.json'), keys, nonce: NONCE, now: NOW };
    const nvswitch = (await judge(staging)).claims.devices[0];
    if (nvswitch === undefined) throw new Error('no switch');
    requireSameGpu(nvswitch, {
      leaf: await leafOf('ls10-switch.pem'),
      driverVersion: undefined,
      vbiosVersion: '96.10.55.00.01',
    });
    const same = { leaf, driverVersion: undefined, vbiosVersion: undefined };
    requireSameGpu(device, same);
    for (const [other, local] of [
      [device, { ...same, leaf: await leafOf('gb100-575.32.pem') }],
      [device, { ...same, driverVersion: '550.90.08' }],
      [device, { ...same, vbiosVersion: '96.00.9F.00.02' }],
      [{ ...device, ueid: null }, same],
      [{ ...device, ueid: '1' }, same],
      [{ ...device, hardwareModel: 'GB100 A01 GSP BROM' }, same],
      [
        { ...device, driverVersion: null },
        { ...same, driverVersion: '550.90.07' },
      ],
    ] as const)
      expect(() => requireSameGpu(other, local)).toThrow(refused('binding/gpu-identity'));
  });
});

describe('forged signatures', () => {
  const overallOf = (answer: string): string => (JSON.parse(answer) as [[string, string]])[0][1];
  const withOverall = (answer: string, token: string): string => answer.replace(overallOf(answer), token);

  test('alg none, HS256 with the public key, ES256 and ES512 are refused for the algorithm', async () => {
    const input = await genuine();
    const [, payload = ''] = overallOf(input.answer).split('.');
    const header = (alg: string) => Buffer.from(JSON.stringify({ kid: 'throw-away', alg })).toString('base64url');
    await expect(
      judge({ ...input, answer: withOverall(input.answer, `${header('none')}.${payload}.`) }),
    ).rejects.toThrow(refused('parse/token'));
    for (const alg of ['none', 'None', 'ES256', 'ES512', 'RS256', 'EdDSA', 'es384'])
      expect(await reasons({ ...input, answer: withOverall(input.answer, `${header(alg)}.${payload}.AAAA`) })).toEqual([
        'evidence/token-algorithm',
      ]);
    const confused = await sign(
      partsOf(input.answer).overall,
      { alg: 'HS256', kid: 'throw-away' },
      utf8(service.jwksText),
    );
    expect(await reasons({ ...input, keys: service.keys, answer: withOverall(input.answer, confused) })).toContain(
      'evidence/token-algorithm',
    );
  });

  test('a key in the header (jwk, jku, x5c) is not used, and crit refuses', async () => {
    const other = await madeService('other');
    const parts = partsOf(await service.answer());
    const answer = await service.answer();
    for (const header of [
      { jwk: other.jwk },
      { jku: 'https://nras.attestation.nvidia.com/.well-known/jwks.json' },
      { x5c: ['AAAA'], x5u: 'https://example.com' },
    ]) {
      const token = await sign(parts.overall, { alg: 'ES384', kid: 'throw-away', ...header }, other.privateKey);
      expect(
        await reasons({ answer: withOverall(answer, token), keys: service.keys, nonce: NONCE, now: NOW }),
      ).toContain('evidence/token-signature');
    }
    const head = Buffer.from(JSON.stringify({ alg: 'ES384', kid: 'throw-away', crit: ['exp'], exp: 1 })).toString(
      'base64url',
    );
    const critical = withOverall(answer, [head, ...overallOf(answer).split('.').slice(1)].join('.'));
    await expect(judge({ answer: critical, keys: service.keys, nonce: NONCE, now: NOW })).rejects.toThrow(
      refused('parse/token'),
    );
  });

  test('claims, header and signature of two genuine tokens do not mix', async () => {
    const input = await genuine();
    const [[, overall], devices] = JSON.parse(input.answer) as [[string, string], Record<string, string>];
    const device = devices['GPU-0'] ?? '';
    const mixed = [0, 1, 2].map((at) =>
      overall
        .split('.')
        .map((segment, i) => (i === at ? device.split('.')[i] : segment))
        .join('.'),
    );
    expect(await reasons({ ...input, answer: withOverall(input.answer, mixed[0] ?? '') })).toEqual([]); // their headers are the same
    expect(await reasons({ ...input, answer: withOverall(input.answer, mixed[1] ?? '') })).toContain(
      'evidence/token-signature',
    );
    expect(await reasons({ ...input, answer: withOverall(input.answer, mixed[2] ?? '') })).toEqual([
      'evidence/token-signature',
    ]);
  });

  test('a kid that two keys claim, or none, is refused', async () => {
    const other = await madeService();
    const twice = parseJwks(JSON.stringify({ keys: [service.jwk, other.jwk] }));
    const answer = await service.answer();
    expect(await reasons({ answer, keys: { kind: 'pinned', jwks: twice }, nonce: NONCE, now: NOW })).toEqual([
      'evidence/token-kid-unknown',
    ]);
    const same = parseJwks(JSON.stringify({ keys: [service.jwk, service.jwk] }));
    expect(await reasons({ answer, keys: { kind: 'pinned', jwks: same }, nonce: NONCE, now: NOW })).toEqual([]);
    expect(await reasons({ answer, keys: { kind: 'pinned', jwks: [] }, nonce: NONCE, now: NOW })).toEqual([
      'evidence/token-kid-unknown',
    ]);
    const encryption = parseJwks(JSON.stringify({ keys: [{ ...service.jwk, use: 'enc' }] }));
    expect(await reasons({ answer, keys: { kind: 'pinned', jwks: encryption }, nonce: NONCE, now: NOW })).toEqual([
      'evidence/token-kid-unknown',
    ]);
  });
});

describe('claims', () => {
  test('the throw-away service is accepted as long as it says what the genuine one says', async () => {
    expect(await made(() => {})).toEqual([]);
    expect(
      await made(({ overall, devices }) => {
        devices['GPU-1'] = { ...devices['GPU-0'] };
        overall['jti'] = 'other';
      }),
    ).toEqual([]);
  });

  test('a failed attestation', async () => {
    expect(
      await made(({ overall, devices }) => {
        overall['x-nvidia-overall-att-result'] = false;
        delete devices['GPU-0']?.['measres'];
      }),
    ).toEqual(['evidence/token-result']);
    for (const result of ['true', 1, null, undefined])
      expect(await made(({ overall }) => (overall['x-nvidia-overall-att-result'] = result))).toEqual([
        'evidence/token-result',
      ]);
  });

  const deviceChanges: [string, unknown][] = [
    ['measres', 'fail'],
    ['secboot', false],
    ['secboot', 'true'],
    ['dbgstat', 'enabled'],
    ['hwmodel', ''],
    ['ueid', '12ab'],
    ['x-nvidia-gpu-attestation-report-nonce-match', false],
    ['x-nvidia-gpu-attestation-report-cert-chain-fwid-match', undefined],
    ['x-nvidia-gpu-driver-rim-schema-validated', false],
    ['x-nvidia-gpu-some-later-step', false],
    ['x-nvidia-gpu-driver-version', null],
    ['x-nvidia-gpu-driver-rim-cert-chain', { 'x-nvidia-cert-status': 'valid' }],
    ['x-nvidia-gpu-vbios-rim-cert-chain', 'valid'],
    ['x-nvidia-error-details', { code: 4010 }],
    ['x-nvidia-mismatch-measurement-records', [{ index: 9 }]],
  ];
  test.each(deviceChanges)('%s: %j is refused, and named', async (name, value) => {
    const answer = await service.answer(({ devices }) => {
      const device = devices['GPU-0'] ?? {};
      if (value === undefined) delete device[name];
      else device[name] = value;
    });
    const { failures } = await judge({ answer, keys: service.keys, nonce: NONCE, now: NOW });
    expect(failures).toMatchObject([{ check: 'NRAS GPU-0 token: claims', reason: 'evidence/token-result' }]);
    expect(failures[0]?.detail).toContain(name);
  });

  test('every failing claim is listed, certificates with their state', async () => {
    const chain = {
      'x-nvidia-cert-status': 'revoked',
      'x-nvidia-cert-ocsp-status': 'revoked',
      'x-nvidia-cert-revocation-reason': 'keyCompromise',
      'x-nvidia-cert-expiration-date': '2025-06-01T00:00:00Z',
    };
    const answer = await service.answer(({ devices }) => {
      Object.assign(devices['GPU-0'] ?? {}, {
        measres: 'fail',
        'x-nvidia-gpu-vbios-index-no-conflict': false,
        'x-nvidia-gpu-attestation-report-cert-chain': chain,
      });
    });
    const { failures } = await judge({ answer, keys: service.keys, nonce: NONCE, now: NOW });
    for (const text of [
      'measres',
      'vbios-index-no-conflict',
      'is "revoked"',
      'OCSP says "revoked"',
      'keyCompromise',
      'expires "2025-06-01',
    ])
      expect(failures[0]?.detail).toContain(text);
  });

  test('claims of version 2.0 carry booleans for the certificates', async () => {
    const toVersion2 = ({ overall, devices }: Parts): void => {
      overall['x-nvidia-ver'] = '2.0';
      const device = devices['GPU-0'] ?? {};
      for (const name of Object.keys(device)) if (/cert-chain|version-match/.test(name)) delete device[name];
      for (const step of [
        'attestation-report-cert-chain-validated',
        'driver-rim-cert-validated',
        'vbios-rim-cert-validated',
      ])
        device[`x-nvidia-gpu-${step}`] = true;
      device['hwmodel'] = 'GH100';
    };
    expect(await made(toVersion2)).toEqual([]);
    expect(
      await made((parts) => {
        toVersion2(parts);
        delete parts.devices['GPU-0']?.['x-nvidia-gpu-driver-rim-cert-validated'];
      }),
    ).toEqual(['evidence/token-result']);
    // Claims of the one version do not pass for the other.
    expect(await made(({ overall }) => (overall['x-nvidia-ver'] = '2.0'))).toEqual(['evidence/token-result']);
  });

  test('issuer, dates, nonce, subject and version, of the overall and of the device tokens', async () => {
    expect(await made(({ overall }) => (overall['iss'] = 'https://nras.attestation.nvidia.com/'))).toEqual([
      'evidence/token-issuer',
    ]);
    expect(await made(({ devices }) => delete devices['GPU-0']?.['iss'])).toEqual(['evidence/token-issuer']);
    expect(await made(({ overall }) => (overall['sub'] = 'SOMETHING-ELSE'))).toEqual(['evidence/token-claims']);
    expect(await made(({ overall }) => (overall['x-nvidia-ver'] = '4.0'))).toEqual(['evidence/token-claims']);
    expect(
      await made(({ devices }) => (devices['GPU-0'] = { ...devices['GPU-0'], eat_nonce: '00'.repeat(32) })),
    ).toEqual(['binding/nonce-mismatch']);
    expect(await made(({ overall }) => delete overall['eat_nonce'])).toEqual(['binding/nonce-empty']);
    expect(await made(({ overall }) => (overall['eat_nonce'] = [toHex(NONCE)]))).toEqual(['binding/nonce-mismatch']);
    expect(await made(({ overall }) => delete overall['exp'])).toEqual(['evidence/token-claims']);
    expect(await made(({ overall }) => (overall['exp'] = '1749605458'))).toEqual(['evidence/token-claims']);
    expect(await made(({ overall }) => (overall['exp'] = 1e300))).toEqual(['evidence/token-claims']);
    expect(await made(({ overall }) => (overall['iat'] = 1749605000))).toEqual(['evidence/token-not-yet-valid']);
    expect(await made(({ overall }) => (overall['nbf'] = 1749605000))).toEqual(['evidence/token-not-yet-valid']);
    expect(await made(({ overall }) => (overall['exp'] = 1749601858))).toEqual(['evidence/token-claims']);
    expect(await made(({ devices }) => Object.assign(devices['GPU-0'] ?? {}, { exp: 1749601900 }))).toEqual([
      'evidence/token-expired',
    ]);
  });
});

describe('devices and their digests', () => {
  test('missing, extra and swapped device tokens', async () => {
    const answer = JSON.parse(
      await service.answer(({ devices }) => (devices['GPU-1'] = { ...devices['GPU-0'], ueid: '2' })),
    ) as [[string, string], Record<string, string>];
    const [head, tokens] = answer;
    const judged = (devices: Record<string, string | undefined>) =>
      reasons({ answer: JSON.stringify([head, devices]), keys: service.keys, nonce: NONCE, now: NOW });
    expect(await judged(tokens)).toEqual([]);
    expect(await judged({ 'GPU-0': tokens['GPU-0'] })).toEqual(['evidence/submodule-set']);
    expect(await judged({})).toEqual(['evidence/submodule-set']);
    expect(await judged({ ...tokens, 'GPU-2': tokens['GPU-0'] })).toEqual(['evidence/submodule-set']);
    expect(await judged({ 'GPU-0': tokens['GPU-0'], 'GPU-2': tokens['GPU-1'] })).toEqual(['evidence/submodule-set']);
    expect(await judged({ 'GPU-0': tokens['GPU-1'], 'GPU-1': tokens['GPU-0'] })).toEqual(['evidence/submodule-digest']);
  });

  test('submods that are none, other digests and other hashes', async () => {
    for (const submods of [{}, null, [], 'GPU-0'])
      expect(await made(({ overall }) => (overall['submods'] = submods))).toEqual(['evidence/submodule-set']);
    const hash = '00'.repeat(32);
    for (const submodule of [
      ['DIGEST', ['SHA-256', hash]],
      ['DIGEST', ['SHA-512', hash]],
      ['JWT', ['SHA-256', hash]],
      ['DIGEST', hash],
      hash,
      null,
    ])
      expect(await made(({ overall }) => (overall['submods'] = { 'GPU-0': submodule }))).toEqual([
        'evidence/submodule-digest',
      ]);
  });

  test.each([
    ['[]', 'parse/json'],
    ['{}', 'parse/json'],
    ['[["JWT","a.b.c"]]', 'parse/json'],
    ['[["CWT","a.b.c"],{}]', 'parse/json'],
    ['[["JWT",{}],{}]', 'parse/json'],
    ['[["JWT","a.b"],{}]', 'parse/token'],
    ['[["JWT","a.b.c.d"],{}]', 'parse/token'],
    ['[["JWT","e30.e30.AA"],{}]', 'parse/token'],
    ['[["JWT","eyJhbGciOiJFUzM4NCJ9.W10.AA"],{}]', 'parse/json'],
    ['[["JWT","eyJhbGciOiJFUzM4NCJ9.e30.AA"],{"GPU-0":"x"}]', 'parse/token'],
    ['[["JWT","eyJhbGciOiJFUzM4NCJ9.e30.AA"],{"DPU-0":"eyJhbGciOiJFUzM4NCJ9.e30.AA"}]', 'parse/json'],
    ['[["JWT","eyJhbGciOiJFUzM4NCJ9.e30.AA"],{"GPU-0":1}]', 'parse/json'],
    ['[["JWT","eyJhbGciOiJFUzM4NCJ9.e30.AB"],{}]', 'parse/token'],
    ['[["JWT","eyJhbGciOiJFUzM4NCJ9.e30=.AA"],{}]', 'parse/token'],
    [
      '[["JWT","eyJhbGciOiJFUzM4NCJ9.e30.AA"],{"GPU-0":"eyJhbGciOiJFUzM4NCJ9.e30.AA","GPU-0":"eyJhbGciOiJFUzM4NCJ9.e30.AA"}]',
      'parse/duplicate',
    ],
  ])('%s is malformed', async (answer, reason) => {
    await expect(judge({ ...(await genuine()), answer })).rejects.toThrow(refused(reason));
  });
});

test('what is too long or too deep is malformed', async () => {
  const deep = `${'['.repeat(1000)}${']'.repeat(1000)}`;
  for (const [answer, reason] of [
    [`[["JWT","${'A'.repeat(600_000)}"],{}]`, 'parse/length'],
    [' '.repeat(2 ** 21), 'parse/length'],
    ['['.repeat(100_000), 'parse/json'],
    [deep, 'parse/length'],
  ] as const)
    await expect(judge({ ...(await genuine()), answer })).rejects.toThrow(refused(reason));
});

test('any changed character of a genuine token is refused, or malformed, and nothing crashes', async () => {
  const input = await genuine();
  const [[, overall], devices] = JSON.parse(input.answer) as [[string, string], Record<string, string>];
  const device = devices['GPU-0'] ?? '';
  const alphabet = fc.constantFrom(
    ...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n"\\\u00e9'.split(''),
  );
  const edit = fc.record({
    at: fc.nat(),
    character: alphabet,
    kind: fc.constantFrom('replace', 'insert', 'delete', 'cut'),
  });
  await fc.assert(
    fc.asyncProperty(fc.boolean(), edit, async (first, { at, character, kind }) => {
      const original = first ? overall : device;
      const i = at % original.length;
      const changed =
        kind === 'cut'
          ? original.slice(0, i)
          : original.slice(0, i) + (kind === 'delete' ? '' : character) + original.slice(kind === 'insert' ? i : i + 1);
      fc.pre(changed !== original);
      const answer = JSON.stringify([['JWT', first ? changed : overall], { 'GPU-0': first ? device : changed }]);
      const findings = new Findings();
      try {
        await verifyNras({ ...input, answer }, findings);
      } catch (error) {
        expect(error).toBeInstanceOf(CfnError);
        return;
      }
      expect(findings.failures).not.toEqual([]);
    }),
    { numRuns: 400 },
  );
});

test('no bytes crash the parser', async () => {
  const input = await genuine();
  await fc.assert(
    fc.asyncProperty(fc.nat(), fc.string({ maxLength: 8 }), async (at, text) => {
      const i = at % input.answer.length;
      const answer = input.answer.slice(0, i) + text + input.answer.slice(i + text.length);
      await judge({ ...input, answer }).catch((error: unknown) => expect(error).toBeInstanceOf(CfnError));
    }),
    { numRuns: 300 },
  );
});
