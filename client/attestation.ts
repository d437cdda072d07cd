import { z } from 'zod';
import { appraise, type AppraisalPolicy, type AttestationResult } from '../attestation/verifier/index.ts';
import {
  callerNonce,
  CfnError,
  digestSchema,
  evidenceSchema,
  fromBase64url,
  fromHex,
  fromProblem,
  nameSchema,
  parseModelPackage,
  sha256Hex,
  toHex,
  verifyManifest,
  type ModelPackage,
  type SignedManifest,
} from '../proto/index.ts';
import { gatewayUrl } from './gateway-url.ts';
import { readJson } from './http.ts';

/** GET /.well-known/cfn/attestation: all that a caller needs to decide for itself. Nothing in it is believed as such. */
export const attestationDocumentSchema = z.strictObject({
  function: z.strictObject({ tenant: nameSchema, name: nameSchema, version: digestSchema, manifest: z.string() }),
  /** Where requests are split between versions: all of them, `function` the one that gets most. Whoever seals chooses among them. */
  versions: z
    .array(z.strictObject({ version: digestSchema, percent: z.int().min(0).max(100), manifest: z.string() }))
    .max(8)
    .optional(),
  /** Exact bytes of the model packages' manifests, base64url. */
  models: z.array(z.string().regex(/^[A-Za-z0-9_-]+$/)).max(32),
  workers: z
    .array(
      z.strictObject({
        workerId: digestSchema,
        nonce: z.string().regex(/^[0-9a-f]{64}$/),
        evidence: evidenceSchema,
        leaseEndsAt: z.iso.datetime(),
        /** Requests under way, and at once at most, as the gateway says: a hint for choosing among workers. */
        load: z.strictObject({ inflight: z.int().nonnegative(), capacity: z.int().positive() }).optional(),
        /** The versions that a request may be sealed to it for. Absent: any of the document. */
        versions: z.array(digestSchema).max(8).optional(),
      }),
    )
    .max(1024),
  /** The operator's own policy, by name and digest; a caller appraises with another. */
  policy: z.strictObject({ name: z.string(), digest: digestSchema }),
});
export type AttestationDocument = z.infer<typeof attestationDocumentSchema>;

/** Evidence of many workers, and manifests up to 1 MiB each. */
const DOCUMENT_BYTES_MAX = 64 * 1024 * 1024;

export interface FetchAttestationOptions {
  /** URL of the gateway. */
  readonly endpoint: string;
  /** URL of a relay to go through. */
  readonly relay?: string | undefined;
  /** `tenant/name` */
  readonly function: string;
  /** Asks for this one of the versions that are deployed, 64 hexadecimal digits; by default the gateway lists all. */
  readonly version?: string | undefined;
  /** 32 bytes of the caller's own: evidence is then made for it, now. Rate limited by the gateway. */
  readonly nonce?: Uint8Array | undefined;
  readonly fetch: typeof globalThis.fetch;
}

/** @throws {CfnError} what the gateway says; `CFN_GATEWAY_UNREACHABLE`; `CFN_EVIDENCE_MALFORMED` */
export async function fetchAttestation({
  endpoint,
  relay,
  function: reference,
  version,
  nonce,
  fetch,
}: FetchAttestationOptions): Promise<AttestationDocument> {
  const url = gatewayUrl({ endpoint, relay }, '/.well-known/cfn/attestation');
  url.searchParams.set('function', reference);
  if (version !== undefined) url.searchParams.set('version', version);
  if (nonce !== undefined) url.searchParams.set('nonce', toHex(nonce));
  const { status, json } = await readJson(
    () => fetch(url, { credentials: 'omit', referrerPolicy: 'no-referrer' }),
    DOCUMENT_BYTES_MAX,
  );
  if (status !== 200)
    throw (
      fromProblem(json) ??
      new CfnError('CFN_GATEWAY_UNREACHABLE', `the gateway answered ${status} to a request for evidence`)
    );
  const parsed = attestationDocumentSchema.safeParse(json);
  if (!parsed.success)
    throw new CfnError('CFN_EVIDENCE_MALFORMED', 'the attestation document is malformed', { cause: parsed.error });
  return parsed.data;
}

export interface AppraisedDocument {
  /** Workers that hold under the policy; at least one. */
  readonly workers: readonly AttestationResult[];
  /** Workers that do not, and why. */
  readonly refused: readonly { readonly workerId: string; readonly error: CfnError }[];
  /** Verified: its `version` is what to seal for, where requests are not split. */
  readonly manifest: SignedManifest;
  /** What requests may be sealed for, each verified: one version, or those that requests are split between. */
  readonly versions: readonly OfferedVersion[];
  /** Model packages of the manifest, in its order. */
  readonly models: readonly (ModelPackage & { readonly digest: string })[];
}

/** A version that a request may be sealed for. */
export interface OfferedVersion {
  readonly manifest: SignedManifest;
  /** Of a hundred requests, as the gateway says: whoever seals decides. */
  readonly percent: number;
  /** Ids of the workers that are offered for it. */
  readonly workers: ReadonlySet<string>;
}

export interface AppraiseDocumentOptions {
  readonly policy: AppraisalPolicy;
  readonly now: Date;
  /** The nonce that was asked with, if one was: all evidence must answer it. */
  readonly nonce?: Uint8Array | undefined;
}

/**
 * Verifies the signed manifest and the model packages, and appraises each worker's evidence.
 *
 * @throws {CfnError} `CFN_MANIFEST_ALTERED`; `CFN_ARTIFACT_ALTERED`; the refusal of the first worker when none holds;
 *   `CFN_WORKER_UNAVAILABLE` when the document lists none
 */
export async function appraiseDocument(
  document: AttestationDocument,
  options: AppraiseDocumentOptions,
): Promise<AppraisedDocument> {
  const manifest = await verifyFunction(document.function);
  const models = await verifyModels(manifest, document.models);
  const versions = await verifyVersions(document);
  const workers: AttestationResult[] = [];
  const refused: { workerId: string; error: CfnError }[] = [];
  for (const worker of document.workers) {
    try {
      workers.push(await appraiseWorker(worker, options));
    } catch (error) {
      if (!(error instanceof CfnError)) throw error;
      refused.push({ workerId: worker.workerId, error });
    }
  }
  if (workers.length === 0)
    throw refused[0]?.error ?? new CfnError('CFN_WORKER_UNAVAILABLE', 'the gateway lists no worker');
  return { workers, refused, manifest, versions, models };
}

async function verifyFunction({
  tenant,
  name,
  version,
  manifest: jws,
}: AttestationDocument['function']): Promise<SignedManifest> {
  const signed = await verifyManifest(jws);
  if (signed.manifest.tenant !== tenant || signed.manifest.name !== name || signed.version !== version) {
    throw new CfnError(
      'CFN_MANIFEST_ALTERED',
      `the manifest is of ${signed.manifest.tenant}/${signed.manifest.name} ${signed.version}, not of ${tenant}/${name} ${version}`,
    );
  }
  return signed;
}

/** @throws {CfnError} `CFN_MANIFEST_ALTERED` also where a split leaves out the version that the document names first */
async function verifyVersions(document: AttestationDocument): Promise<OfferedVersion[]> {
  const { function: named, versions = [{ ...named, percent: 100 }] } = document;
  if (!versions.some(({ version }) => version === named.version))
    throw new CfnError('CFN_MANIFEST_ALTERED', `the split does not have version ${named.version}`);
  return Promise.all(
    versions.map(async ({ version, manifest: jws, percent }) => {
      const manifest = await verifyFunction({ ...named, version, manifest: jws });
      await verifyModels(manifest, document.models);
      const serving = document.workers.filter((worker) => worker.versions?.includes(version) ?? true);
      return { manifest, percent, workers: new Set(serving.map(({ workerId }) => workerId)) };
    }),
  );
}

async function verifyModels(
  { manifest }: SignedManifest,
  encoded: readonly string[],
): Promise<AppraisedDocument['models']> {
  const byDigest = new Map<string, Uint8Array>();
  for (const text of encoded) {
    const bytes = fromBase64url(text, 'CFN_ARTIFACT_ALTERED');
    byDigest.set(await sha256Hex(bytes), bytes);
  }
  return Promise.all(
    manifest.models.map(async ({ model, digest }) => {
      const bytes = byDigest.get(digest);
      if (bytes === undefined)
        throw new CfnError(
          'CFN_ARTIFACT_ALTERED',
          `no model manifest of the document has digest ${digest}, which the function names for ${model}`,
        );
      const parsed = await parseModelPackage(bytes, digest);
      if (parsed.model !== model)
        throw new CfnError('CFN_ARTIFACT_ALTERED', `the manifest of ${model} is of ${parsed.model}`);
      return parsed;
    }),
  );
}

async function appraiseWorker(
  worker: AttestationDocument['workers'][number],
  { policy, now, nonce }: AppraiseDocumentOptions,
): Promise<AttestationResult> {
  const quoted = nonce === undefined ? fromHex(worker.nonce) : await callerNonce(nonce);
  const result = await appraise(worker.evidence, { nonce: quoted, policy, now });
  if (result.workerId !== worker.workerId)
    throw new CfnError(
      'CFN_EVIDENCE_MALFORMED',
      `evidence of worker ${result.workerId} is listed under ${worker.workerId}`,
    );
  return result;
}
