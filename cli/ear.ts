import { stat, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import {
  appraisalEar,
  appraiseEar,
  openResultSigner,
  type AppraisalPolicy,
  type InputsAppraisal,
  type ResultSigner,
} from '../attestation/verifier/index.ts';
import { CfnError, EXIT_CODES, fromUtf8, sha256Hex } from '../proto/index.ts';
import { openPrivateJwk } from './author-key.ts';
import { readInput } from './conformance/cases.ts';
import type { Cli } from './context.ts';

/** How long a result of the command line counts, in ms. */
const EAR_MS = 60 * 60_000;
/** RFC 9711 §4.1 */
const NONCE_BYTES_MIN = 8;

/** The key that signs results. It is made at its first use, with the public half beside it in `FILE.pub`, for relying parties. */
export async function openEarSigner(file: string, { context, output }: Cli): Promise<ResultSigner> {
  const path = resolve(context.cwd, file);
  const { jwk } = await openPrivateJwk(path);
  const signer = await openResultSigner(jwk);
  const publicFile = `${path}.pub`;
  if ((await stat(publicFile).catch(() => undefined)) === undefined) {
    await writeFile(publicFile, `${JSON.stringify({ keys: [signer.publicJwk] })}\n`);
    output.note(`public key: ${file}.pub`);
  }
  return signer;
}

export interface EarFacts {
  readonly policy: AppraisalPolicy;
  readonly nonce: Uint8Array | undefined;
  readonly now: Date;
  /** What was appraised, in the order given. */
  readonly inputs: readonly Uint8Array[];
}

/** An appraisal, accepted or refused, as a signed token. The inputs are named by their SHA-256. */
export async function earOf(
  appraisal: InputsAppraisal,
  { policy, nonce, now, inputs }: EarFacts,
  signer: ResultSigner,
): Promise<string> {
  if (nonce !== undefined && nonce.length < NONCE_BYTES_MIN)
    throw new CfnError('CFN_USAGE', `--nonce has ${nonce.length} bytes, an EAR takes ${NONCE_BYTES_MIN} at least`);
  const digests = await Promise.all(inputs.map((bytes) => sha256Hex(bytes)));
  const { findings, claims, binding } = appraisal;
  return appraisalEar(
    {
      findings,
      claims: { ...claims, binding: binding?.level ?? null, inputs: digests },
      policy,
      ...(nonce && { nonce }),
      isOfWorker: false,
      now,
      endsAt: new Date(now.getTime() + EAR_MS),
    },
    signer,
  );
}

/** Verifies somebody's result, with a key that the user pins. */
export async function verifyEarFile(
  files: readonly string[],
  {
    keys,
    ...options
  }: { readonly keys: string; readonly nonce?: Uint8Array; readonly policy?: AppraisalPolicy; readonly now: Date },
  { context, output, ...cli }: Cli,
): Promise<number> {
  const [file, ...more] = files;
  if (file === undefined || more.length > 0)
    throw new CfnError('CFN_USAGE', `--ear-key verifies one attestation result, there are ${files.length} files`);
  const read = async (path: string): Promise<string> =>
    fromUtf8((await readInput(context.cwd, path)).bytes, 'CFN_EVIDENCE_MALFORMED');
  const { accepted, findings, claims } = await appraiseEar(await read(file), { ...options, keys: await read(keys) });
  output.result({ accepted, findings, claims }, [
    accepted ? output.colors.green('ACCEPTED') : output.colors.red('REFUSED'),
    `attestation result of ${claims.verifierId.developer} ${claims.verifierId.build}, issued by ${claims.issuer ?? 'nobody named'}`,
    ...findings.map((finding) =>
      finding.outcome === 'passed'
        ? `  ${finding.check}: passed`
        : finding.outcome === 'failed'
          ? `  ${finding.check}: FAILED ${finding.reason}: ${finding.detail}`
          : `  ${finding.check}: not checked: ${finding.detail}`,
    ),
    ...claims.submodules.map(
      ({ name, status, policyId }) => `  ${name}: ${status} under ${policyId ?? 'no policy named'}`,
    ),
  ]);
  return accepted ? cli.exitCode : EXIT_CODES.trust;
}
