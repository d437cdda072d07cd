import type { EvidenceBinding } from '../../attestation/attester/index.ts';
import { cocoDevices, cocoEvidence } from '../../attestation/attester/index.ts';
import { simulatedAttester } from '../../attestation/insecure/index.ts';
import * as proto from '../../proto/index.ts';
import { platform, type TestKms } from '../test-kms.ts';

// A client of the key broker protocol, one step at a time, so that tests can do each wrong. For tests only.

export interface KbsAnswer {
  readonly status: number;
  readonly body: Record<string, unknown>;
  readonly cookie: string | undefined;
}
export interface KbsSession {
  readonly cookie: string;
  readonly nonce: string;
}
/** What a client sends to /attest. */
export interface Attestation {
  readonly 'init-data'?: object | null;
  readonly 'runtime-data': { readonly nonce: string; readonly 'tee-pubkey': proto.TeePubkey };
  readonly 'tee-evidence': { readonly primary_evidence: unknown; readonly additional_evidence: string };
}

const MRTD = new Uint8Array(48).fill(0x4d);
export const HASHES_OF_CLIENTS = { 'supported-hash-algorithms': ['sha256', 'sha384', 'sha512', 'sm3'] };

/** @param base where the KMS has the protocol */
export function kbsCaller(kms: TestKms, base = '/kbs/v0') {
  async function send(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
    const init = { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) };
    const response = await kms.app.request(`${base}${path}`, init);
    const text = await response.text();
    const cookie = /^(kbs-session-id=[0-9a-f]{32});/.exec(response.headers.get('set-cookie') ?? '')?.[1];
    return { status: response.status, body: JSON.parse(text) as KbsAnswer['body'], cookie };
  }
  return {
    send,
    auth: (change: object = {}): Promise<KbsAnswer> =>
      send('POST', '/auth', {
        version: '0.4.0',
        tee: 'sample',
        'extra-params': HASHES_OF_CLIENTS,
        ...change,
      }),
    async session(): Promise<KbsSession> {
      const { body, cookie = '' } = await this.auth();
      return { cookie, nonce: String(body['nonce']) };
    },
    attest: (cookie: string, attestation: Attestation): Promise<KbsAnswer> =>
      send('POST', '/attest', attestation, { cookie }),
    /** Challenge and evidence of a simulated machine. */
    async attested(keys: proto.TeeKeyPair, mrtd = MRTD): Promise<KbsSession & { readonly token: string }> {
      const session = await this.session();
      const { status, body } = await this.attest(
        session.cookie,
        await attestation(session.nonce, keys.publicKey, mrtd),
      );
      if (status !== 200) throw new Error(`attest answered ${status}: ${JSON.stringify(body)}`);
      return { ...session, token: String(body['token']) };
    },
    resource: (path: string, headers: Record<string, string>): Promise<KbsAnswer> =>
      send('GET', `/resource/${path}`, undefined, headers),
  };
}

/** Evidence over nonce and key, by a simulated machine with its GPU. */
export async function attestation(
  nonce: string,
  teePubkey: proto.TeePubkey,
  mrtd = MRTD,
  on = platform,
): Promise<Attestation> {
  const binding = { nonce, teePubkey, hash: 'sha384' as const };
  let devices = '';
  let over: Uint8Array = new Uint8Array();
  const wanted: EvidenceBinding = {
    gpuNonce: await proto.kbsDeviceNonce(binding),
    reportData: async (gpus) => {
      devices = cocoDevices(gpus);
      over = await proto.kbsReportData(binding, devices);
      return over;
    },
  };
  const collected = await simulatedAttester(on, { mrtd }).collectOver(wanted);
  return {
    'runtime-data': { nonce, 'tee-pubkey': teePubkey },
    'tee-evidence': {
      primary_evidence: cocoEvidence(collected, over.subarray(0, 48)).primary,
      additional_evidence: devices,
    },
  };
}

/** An owner with a resource. */
export async function addResource(
  kms: TestKms,
  terms: Partial<proto.ResourceTerms> = {},
  owner = 'acme',
): Promise<{ readonly token: string; readonly content: Uint8Array }> {
  const added = await kms.send('POST', '/v1/owners', { name: owner }, kms.admin);
  const token = String(added.body['token']);
  const content = crypto.getRandomValues(new Uint8Array(32));
  await putResource(kms, token, content, terms);
  return { token, content };
}

export async function putResource(
  kms: TestKms,
  token: string,
  content: Uint8Array,
  terms: Partial<proto.ResourceTerms> = {},
): Promise<void> {
  const sealed = await proto.sealTo(
    kms.deps.sealingKey.publicKey,
    content,
    proto.resourceInfo(token.split('.', 1)[0] ?? '', 'key', 'detector'),
  );
  const until = new Date(kms.deps.now().getTime() + 3_600_000).toISOString();
  const put = await kms.send('PUT', '/v1/resources/key/detector', { sealed, terms: { until, ...terms } }, token);
  if (put.status !== 200) throw new Error(`put answered ${put.status}: ${JSON.stringify(put.body)}`);
}

/** The name of an error. */
export const nameOf = ({ body }: KbsAnswer): string => String(body['type']).replace(proto.KBS_ERRORS, '');
