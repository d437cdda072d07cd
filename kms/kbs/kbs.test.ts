import { decodeJwt } from 'jose';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  decryptResource,
  generateTeeKeyPair,
  kbsJweSchema,
  resourceInfo,
  sealTo,
  type TeeKeyPair,
} from '../../proto/index.ts';
import { KBS_BODY_BYTES_MAX, KBS_SESSION_MS, KBS_SESSIONS_MAX, RELEASES_INFLIGHT_MAX } from '../limits.ts';
import { auditOf, startKms, strangePlatform, type TestKms } from '../test-kms.ts';
import { addResource, attestation, kbsCaller, nameOf, putResource, type KbsAnswer } from './client.testkit.ts';
import { openSessions } from './sessions.ts';

const NAME = 'acme/key/detector';
let kms: TestKms;
let keys: TeeKeyPair;
beforeEach(async () => {
  kms = await startKms();
  keys = await generateTeeKeyPair();
});
const refusedAs = (answer: KbsAnswer): [number, string] => [answer.status, nameOf(answer)];

describe('INV-28 a resource goes to attested clients only, encrypted to the key that their evidence binds', () => {
  test('request, challenge, attestation, resource; by cookie and by token', async () => {
    const { content } = await addResource(kms);
    const client = kbsCaller(kms);
    const { body, status, cookie } = await client.auth();
    expect([status, body['extra-params']]).toEqual([200, { 'selected-hash-algorithm': 'sha384' }]);
    expect(Buffer.from(String(body['nonce']), 'base64')).toHaveLength(32);
    const attested = await client.attest(cookie ?? '', await attestation(String(body['nonce']), keys.publicKey));
    expect([attested.status, attested.cookie]).toEqual([200, cookie]);
    const token = String(attested.body['token']);
    const { iat = 0, exp = 0, ...claims } = decodeJwt(token);
    expect(exp - iat).toBe(KBS_SESSION_MS / 1000);
    expect(claims).toMatchObject({ tee: 'simulated', policy: kms.policyDigest, 'tee-pubkey': keys.publicKey });

    for (const headers of [{ cookie: cookie ?? '' }, { authorization: `Bearer ${token}` }]) {
      const released = await client.resource(NAME, headers);
      expect(released.status).toBe(200);
      expect(Buffer.from(await decryptResource(kbsJweSchema.parse(released.body), keys))).toEqual(Buffer.from(content));
      await expect(
        decryptResource(kbsJweSchema.parse(released.body), await generateTeeKeyPair()),
      ).rejects.toMatchObject({ code: 'CFN_BROKER_ANSWER' });
    }
    const [released, , stored] = await auditOf(kms);
    expect(released).toMatchObject({ decision: 'resource-released', subject: 'key/detector' });
    expect(stored).toMatchObject({ decision: 'resource-stored', subject: 'key/detector' });
    expect(JSON.stringify(kms.logs)).not.toContain(token);
  });

  test('attesting again in a session gives its first token', async () => {
    const client = kbsCaller(kms);
    const { cookie, nonce, token } = await client.attested(keys);
    const again = await client.attest(cookie, await attestation(nonce, (await generateTeeKeyPair()).publicKey));
    expect(again).toMatchObject({ status: 200, body: { token } });
  });

  test('the key, the nonce and the device evidence must be what the evidence binds', async () => {
    const client = kbsCaller(kms);
    const others = await generateTeeKeyPair();
    const changes: ((good: Awaited<ReturnType<typeof attestation>>) => Awaited<ReturnType<typeof attestation>>)[] = [
      (good) => ({ ...good, 'runtime-data': { ...good['runtime-data'], 'tee-pubkey': others.publicKey } }),
      (good) => ({
        ...good,
        'tee-evidence': {
          ...good['tee-evidence'],
          additional_evidence: ` ${good['tee-evidence'].additional_evidence}`,
        },
      }),
    ];
    for (const change of changes) {
      const { cookie, nonce } = await client.session();
      const answer = await client.attest(cookie, change(await attestation(nonce, keys.publicKey)));
      expect(refusedAs(answer)).toEqual([401, 'AttestationError']);
      expect(String(answer.body['detail'])).toContain('CFN_REPORT_DATA_MISMATCH');
    }
    expect((await auditOf(kms, ''))[0]).toMatchObject({ decision: 'refused', code: 'CFN_REPORT_DATA_MISMATCH' });
  });

  test('device evidence for another challenge is refused, and without any the policy is not met', async () => {
    const client = kbsCaller(kms);
    const [first, second] = [await client.session(), await client.session()];
    const [old, fresh] = [
      await attestation(first.nonce, keys.publicKey),
      await attestation(second.nonce, keys.publicKey),
    ];
    const mixed = {
      ...fresh,
      'tee-evidence': {
        ...fresh['tee-evidence'],
        additional_evidence: old['tee-evidence'].additional_evidence,
      },
    };
    const answer = await client.attest(second.cookie, mixed);
    expect(refusedAs(answer)).toEqual([401, 'AttestationError']);
    const third = await client.session();
    const bare = await attestation(third.nonce, keys.publicKey);
    const without = { ...bare, 'tee-evidence': { ...bare['tee-evidence'], additional_evidence: '' } };
    expect(refusedAs(await client.attest(third.cookie, without))).toEqual([401, 'AttestationError']);
  });

  test('a nonce is used once, in its own session, for its time', async () => {
    const client = kbsCaller(kms);
    const [mine, theirs] = [await client.session(), await client.session()];
    const evidence = await attestation(mine.nonce, keys.publicKey);
    const foreign = await client.attest(theirs.cookie, evidence);
    expect(refusedAs(foreign)).toEqual([401, 'AttestationError']);
    expect(String(foreign.body['detail'])).toContain('CFN_NONCE_MISMATCH');
    // That used up their nonce, and not mine.
    expect(refusedAs(await client.attest(theirs.cookie, await attestation(theirs.nonce, keys.publicKey)))).toEqual([
      401,
      'AttestationError',
    ]);
    const altered = { ...evidence, 'runtime-data': { ...evidence['runtime-data'], nonce: theirs.nonce } };
    expect(refusedAs(await client.attest(mine.cookie, altered))).toEqual([401, 'AttestationError']);
    expect(refusedAs(await client.attest(mine.cookie, evidence))).toEqual([401, 'AttestationError']); // replayed

    const late = await client.session();
    const lateEvidence = await attestation(late.nonce, keys.publicKey);
    kms.clock.offsetMs += KBS_SESSION_MS;
    expect(refusedAs(await client.attest(late.cookie, lateEvidence))).toEqual([401, 'AttestationError']);
  });

  test('a machine that the policy does not accept is refused, with the reason', async () => {
    const client = kbsCaller(kms);
    const attempts = [
      [(nonce: string) => attestation(nonce, keys.publicKey, new Uint8Array(48).fill(1)), 'CFN_MEASUREMENT_UNKNOWN'],
      [
        async (nonce: string) => attestation(nonce, keys.publicKey, undefined, await strangePlatform()),
        'CFN_CHAIN_UNTRUSTED',
      ],
    ] as const;
    for (const [evidence, code] of attempts) {
      const { cookie, nonce } = await client.session();
      const answer = await client.attest(cookie, await evidence(nonce));
      expect(refusedAs(answer)).toEqual([401, 'AttestationError']);
      expect(String(answer.body['detail'])).toContain(code);
    }
  });

  test('an ended session and token release nothing', async () => {
    await addResource(kms);
    const client = kbsCaller(kms);
    const { cookie, token } = await client.attested(keys);
    kms.clock.offsetMs += KBS_SESSION_MS;
    for (const headers of [{ cookie }, { authorization: `Bearer ${token}` }])
      expect(refusedAs(await client.resource(NAME, headers))).toEqual([401, 'TokenVerifierError']);
  });

  test('cookies and tokens of other forms, altered ones, and two at once are none', async () => {
    await addResource(kms);
    const client = kbsCaller(kms);
    const { cookie, token } = await client.attested(keys);
    const [header = '', claims = '', signature = ''] = token.split('.');
    const cases: [Record<string, string>, string][] = [
      [{}, 'TokenNotFound'],
      [{ cookie: `${cookie}0` }, 'TokenNotFound'],
      [{ cookie: cookie.toUpperCase() }, 'TokenNotFound'],
      [{ cookie: `${cookie}; ${cookie}` }, 'TokenNotFound'],
      [{ cookie: `kbs-session-id=${'0'.repeat(32)}` }, 'TokenVerifierError'],
      [{ authorization: token }, 'TokenNotFound'],
      [{ authorization: `Bearer ${header}.${claims}.${signature.replaceAll(/./g, 'A')}` }, 'TokenVerifierError'],
      [{ authorization: `Bearer ${btoa('{"alg":"none"}').replaceAll('=', '')}.${claims}.AA` }, 'TokenVerifierError'],
    ];
    for (const [headers, name] of cases) expect(refusedAs(await client.resource(NAME, headers))).toEqual([401, name]);
    const open = await client.session(); // not attested
    expect(refusedAs(await client.resource(NAME, { cookie: open.cookie }))).toEqual([401, 'TokenVerifierError']);
  });
});

describe('who is given a resource', () => {
  test('one that there is not and one that is not for this client are refused in the same words', async () => {
    const { token } = await addResource(kms, { tee: ['tdx'] });
    await addResource(kms, {}, 'later');
    const client = kbsCaller(kms);
    const { cookie } = await client.attested(keys);
    const unmet = await client.resource(NAME, { cookie });
    expect(refusedAs(unmet)).toEqual([401, 'PolicyDeny']);
    for (const name of ['acme/key/other', 'nobody/key/detector', 'acme/other/detector'])
      expect(await client.resource(name, { cookie })).toEqual(unmet);
    expect((await auditOf(kms))[0]).toMatchObject({
      decision: 'refused',
      code: 'CFN_GRANT_UNMET',
      subject: 'key/detector',
    });
    expect((await auditOf(kms, ''))[0]).toMatchObject({ decision: 'refused', code: 'CFN_GRANT_MISSING' });

    await putResource(kms, token, Uint8Array.of(1), {
      tee: ['simulated'],
      gpu: ['HOPPER'],
      reference: { mrtd: ['4d'.repeat(48)] },
    });
    expect((await client.resource(NAME, { cookie })).status).toBe(200);
    for (const terms of [{ gpu: ['BLACKWELL' as const] }, { reference: { mrtd: ['00'.repeat(48)] } }]) {
      await putResource(kms, token, Uint8Array.of(1), terms);
      expect(await client.resource(NAME, { cookie })).toEqual(unmet);
    }
    await putResource(kms, token, Uint8Array.of(1), { until: new Date(kms.deps.now().getTime() + 1000).toISOString() });
    kms.clock.offsetMs += 2000;
    expect(await client.resource(NAME, { cookie })).toEqual(unmet);
    await kms.send('DELETE', '/v1/resources/key/detector', undefined, token);
    expect(await client.resource(NAME, { cookie })).toEqual(unmet);
  });

  test('an owner with a policy of their own is asked under their own URL, where it counts', async () => {
    const { token } = await addResource(kms);
    const other = { ...kms.policy, name: 'of acme' };
    expect((await kms.send('PUT', '/v1/policy', other, token)).status).toBe(200);
    const [general, own] = [kbsCaller(kms), kbsCaller(kms, '/owners/acme/kbs/v0')];
    expect(refusedAs(await general.resource(NAME, { cookie: (await general.attested(keys)).cookie }))).toEqual([
      401,
      'PolicyDeny',
    ]);
    const { cookie } = await own.attested(keys);
    expect((await own.resource(NAME, { cookie })).status).toBe(200);
    const strict = { ...other, tee: { ...other.tee, mrtd: ['00'.repeat(48)] } };
    expect((await kms.send('PUT', '/v1/policy', strict, token)).status).toBe(200);
    expect(refusedAs(await own.resource(NAME, { cookie }))).toEqual([401, 'PolicyDeny']); // appraised by the old one
    await expect(own.attested(keys)).rejects.toThrow('CFN_MEASUREMENT_UNKNOWN');
    expect((await auditOf(kms))[0]).toMatchObject({ decision: 'refused', code: 'CFN_MEASUREMENT_UNKNOWN' });
    // A namespace that there is not looks like one without a policy.
    expect((await kbsCaller(kms, '/owners/nobody/kbs/v0').attested(keys)).token).not.toBe('');
  });

  test('evidence that nobody signed passes under a simulated policy only, and opens what says so only', async () => {
    const { token } = await addResource(kms);
    const client = kbsCaller(kms);
    async function sample(stated?: Uint8Array): Promise<KbsAnswer & { readonly session: string }> {
      const { cookie, nonce } = await client.session();
      const good = await attestation(nonce, keys.publicKey);
      const { report_data } = good['tee-evidence'].primary_evidence as { report_data: string };
      const primary_evidence = {
        svn: '1',
        report_data: stated === undefined ? report_data : Buffer.from(stated).toString('base64'),
      };
      const additional_evidence = good['tee-evidence'].additional_evidence;
      const answer = await client.attest(cookie, {
        ...good,
        'tee-evidence': { primary_evidence, additional_evidence },
      });
      return { ...answer, session: cookie };
    }
    for (const stated of [new Uint8Array(), new Uint8Array(48), new Uint8Array(64)])
      expect(refusedAs(await sample(stated))).toEqual([401, 'AttestationError']);
    const { status, session } = await sample();
    expect(status).toBe(200);
    expect(refusedAs(await client.resource(NAME, { cookie: session }))).toEqual([401, 'PolicyDeny']);
    await putResource(kms, token, Uint8Array.of(1), { insecureSample: true });
    expect((await client.resource(NAME, { cookie: session })).status).toBe(200);
  });

  test('releases are rated with the others of the namespace', async () => {
    await addResource(kms);
    const quotas = { models: 1, grants: 1, leases: 1, releasesPerMinute: 1 };
    await kms.send('PUT', '/v1/owners/acme/quotas', quotas, kms.admin);
    const client = kbsCaller(kms);
    const { cookie } = await client.attested(keys);
    expect((await client.resource(NAME, { cookie })).status).toBe(200);
    expect(refusedAs(await client.resource(NAME, { cookie }))).toEqual([503, 'PluginInternalError']);
  });

  test('a resource survives the rotation of its namespace key, and of the root key', async () => {
    const { token, content } = await addResource(kms);
    for (const by of [token, kms.admin]) expect((await kms.send('POST', '/v1/keys/rotate', {}, by)).status).toBe(200);
    const client = kbsCaller(kms);
    const { cookie } = await client.attested(keys);
    const { body } = await client.resource(NAME, { cookie });
    expect(Buffer.from(await decryptResource(kbsJweSchema.parse(body), keys))).toEqual(Buffer.from(content));
  });
});

describe('what is not of the protocol', () => {
  test.each(['0.1.1', '0.3.0', '0.4.1', '0.4', '', '1.0.0'])(
    'version %j is refused, with the one that is had',
    async (version) => {
      const answer = await kbsCaller(kms).auth({ version });
      expect(refusedAs(answer)).toEqual([401, 'AttestationError']);
      expect(String(answer.body['detail'])).toContain('supported: 0.4.0');
    },
  );

  test('kinds of TEE that are not verified here', async () => {
    const client = kbsCaller(kms);
    for (const tee of ['sgx', 'az-snp-vtpm', 'cca', 'none', 'simulated', '']) {
      const { cookie, body } = await client.auth({ tee });
      const answer = await client.attest(cookie ?? '', await attestation(String(body['nonce']), keys.publicKey));
      expect(refusedAs(answer)).toEqual([401, 'AttestationError']);
    }
  });

  test('a real kind is refused where the policy is a simulated one, though the quote were signed by it', async () => {
    const client = kbsCaller(kms);
    const { cookie, body } = await client.auth({ tee: 'tdx' });
    const answer = await client.attest(cookie ?? '', await attestation(String(body['nonce']), keys.publicKey));
    expect(String(answer.body['detail'])).toContain('CFN_TEE_REFUSED');
  });

  test('bodies that are malformed or too long', async () => {
    const client = kbsCaller(kms);
    expect(refusedAs(await client.send('POST', '/auth', { tee: 'tdx' }))).toEqual([401, 'AttestationError']);
    const { cookie, nonce } = await client.session();
    const good = await attestation(nonce, keys.publicKey);
    for (const bad of [
      {},
      { ...good, 'runtime-data': { nonce } },
      { ...good, 'runtime-data': { ...good['runtime-data'], 'tee-pubkey': { kty: 'oct', k: 'AA' } } },
      { ...good, 'tee-evidence': { primary_evidence: {} } },
    ])
      expect(refusedAs(await client.send('POST', '/attest', bad, { cookie }))).toEqual([401, 'AttestationError']);
    const large = { ...good, 'init-data': { format: 'toml', body: 'x'.repeat(KBS_BODY_BYTES_MAX) } };
    expect(refusedAs(await client.attest(cookie, large))).toEqual([413, 'AttestationError']);
    // None of these used the nonce.
    expect((await client.attest(cookie, { ...good, 'init-data': { format: 'toml', body: 'x' } })).status).toBe(200);
  });

  test('evidence that fails is an attestation that fails, also where an owner is named like a step', async () => {
    await addResource(kms, {}, 'resource');
    const client = kbsCaller(kms, '/owners/resource/kbs/v0');
    const { cookie } = await client.session();
    const answer = await client.attest(cookie, await attestation('A'.repeat(44), keys.publicKey));
    expect(refusedAs(answer)).toEqual([401, 'AttestationError']);
    expect(String(answer.body['detail'])).toContain('CFN_NONCE_MISMATCH');
    const { cookie: attested } = await client.attested(keys);
    expect(refusedAs(await client.resource('resource/key/other', { cookie: attested }))).toEqual([401, 'PolicyDeny']);
  });

  test('evidence is not read for a client without a session, nor while as many are appraised as may be', async () => {
    /** @returns whether any of the body was read */
    async function isRead(at: TestKms, cookie: string, status: number): Promise<boolean> {
      let pulled = false;
      const body = new ReadableStream(
        {
          pull(controller) {
            pulled = true;
            controller.enqueue(new TextEncoder().encode('{}'));
            controller.close();
          },
        },
        { highWaterMark: 0 },
      );
      const init = { method: 'POST', headers: { cookie }, body, duplex: 'half' };
      expect((await at.app.request('/kbs/v0/attest', init)).status).toBe(status);
      return pulled;
    }
    expect(await isRead(kms, '', 401)).toBe(false);
    expect(await isRead(kms, (await kbsCaller(kms).session()).cookie, 401)).toBe(true);

    const gate = Promise.withResolvers<never>();
    let waiting = 0;
    const appraiseClient = async (): Promise<never> => {
      waiting++;
      return gate.promise;
    };
    const busy = await startKms(undefined, { kbs: { ...kms.deps.kbs, appraiseClient } });
    const client = kbsCaller(busy);
    const held = Array.from({ length: RELEASES_INFLIGHT_MAX }, async () => {
      const { cookie, nonce } = await client.session();
      return client.attest(cookie, await attestation(nonce, keys.publicKey));
    });
    await expect.poll(() => waiting, { timeout: 20_000 }).toBe(RELEASES_INFLIGHT_MAX);
    expect(await isRead(busy, (await client.session()).cookie, 503)).toBe(false);
    gate.reject(new Error('enough'));
    await Promise.all(held);
  });

  test('paths that there are not', async () => {
    const client = kbsCaller(kms);
    for (const path of [
      '/',
      '/resource',
      '/resource/acme/key',
      '/resource/acme/key/..%2fx',
      '/resource/Acme/key/x',
      '/metrics',
    ])
      expect(refusedAs(await client.send('GET', path))).toEqual([404, 'InvalidRequestPath']);
    expect(refusedAs(await client.send('POST', '/resource-policy', {}))).toEqual([404, 'InvalidRequestPath']);
  });
});

test('what one owner sealed, another cannot store as theirs', async () => {
  const { token } = await addResource(kms);
  const mallory = String((await kms.send('POST', '/v1/owners', { name: 'mallory' }, kms.admin)).body['token']);
  const sealed = await sealTo(kms.deps.sealingKey.publicKey, Uint8Array.of(1), resourceInfo('acme', 'key', 'taken'));
  const body = { sealed, terms: { until: new Date(kms.deps.now().getTime() + 3_600_000).toISOString() } };
  expect((await kms.send('PUT', '/v1/resources/key/taken', body, mallory)).body.code).toBe('CFN_INPUT_INVALID');
  expect((await kms.send('PUT', '/v1/resources/key/taken', body, token)).status).toBe(200);
});

test('who has many sessions in one namespace pushes out those, attested or not, and none of another', async () => {
  const sessions = openSessions(kms.deps);
  const none = { tee: 'sample', claims: { tdx: undefined, snp: undefined, gpus: [] }, policy: '', client: '' } as const;
  const request = { tee: 'sample', hash: 'sha384' } as const;
  async function attest(owner: string): Promise<string> {
    const { id } = sessions.open({ ...request, owner });
    sessions.take(id);
    await sessions.attested(id, keys.publicKey, { ...none, owner });
    return id;
  }
  const mine = [await attest('acme'), await attest('')];
  const waiting = [sessions.open({ ...request, owner: 'acme' }), sessions.open({ ...request, owner: undefined })];
  const first = await attest('other');
  const { token } = sessions.ofCookie(first);
  const firstWaiting = sessions.open({ ...request, owner: 'other' });
  for (let i = 0; i < KBS_SESSIONS_MAX; i++) {
    await attest('other');
    sessions.open({ ...request, owner: 'other' });
  }
  const gone = expect.objectContaining({ code: 'CFN_CHALLENGE_INVALID' }) as Error;
  for (const id of mine) expect(sessions.ofToken(sessions.ofCookie(id).token)).toBe(sessions.ofCookie(id));
  for (const { id, nonce } of waiting) expect(sessions.take(id)).toMatchObject({ nonce });
  expect(() => sessions.ofCookie(first)).toThrow(gone);
  expect(() => sessions.ofToken(token)).toThrow(gone);
  expect(() => sessions.take(firstWaiting.id)).toThrow(gone);
});

test('names that are no namespace open sessions of nobody', async () => {
  await addResource(kms);
  const opened: (string | undefined)[] = [];
  const { sessions } = kms.deps.kbs;
  const open: typeof sessions.open = (session) => {
    opened.push(session.owner);
    return sessions.open(session);
  };
  const watched = await startKms(undefined, {
    store: kms.deps.store,
    kbs: { ...kms.deps.kbs, sessions: { ...sessions, open } },
  });
  for (const name of ['acme', 'nobody']) await kbsCaller(watched, `/owners/${name}/kbs/v0`).auth();
  expect(opened).toEqual(['acme', undefined]);
});

test('sessions are bounded: strangers push each other out, and none that attested', async () => {
  let at = 0;
  const sessions = openSessions({
    now: () => new Date(at),
    randomBytes: (n) => crypto.getRandomValues(new Uint8Array(n)),
  });
  const request = { tee: 'sample', hash: 'sha384', owner: undefined } as const;
  const none = {
    tee: 'sample',
    claims: { tdx: undefined, snp: undefined, gpus: [] },
    policy: '',
    client: '',
    owner: '',
  } as const;
  const first = sessions.open(request);
  const mine = sessions.open(request);
  sessions.take(mine.id);
  await sessions.attested(mine.id, keys.publicKey, none);
  for (let i = 0; i < KBS_SESSIONS_MAX; i++) sessions.open(request);
  expect(() => sessions.take(first.id)).toThrow(expect.objectContaining({ code: 'CFN_CHALLENGE_INVALID' }));
  const { token } = sessions.ofCookie(mine.id);
  expect(sessions.ofToken(token)).toBe(sessions.ofCookie(mine.id));
  at += KBS_SESSION_MS;
  expect(() => sessions.ofToken(token)).toThrow(expect.objectContaining({ code: 'CFN_CHALLENGE_INVALID' }));
});
