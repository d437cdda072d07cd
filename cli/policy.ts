import { fileURLToPath } from 'node:url';
import {
  appraise,
  parsePolicy,
  parseWorkerPolicy,
  policyDigest,
  type AppraisalPolicy,
  type AttestationResult,
} from '../attestation/verifier/index.ts';
import { CfnError } from '../proto/index.ts';
import { readPolicyFile } from '../proto/node.ts';

/** `cfn` is a relying party: it appraises for its user, under the user's policy. */
export { appraise, policyDigest, type AppraisalPolicy, type AttestationResult };

/**
 * A policy for workers, from a JSON or TOML file.
 *
 * @throws {CfnError} `CFN_POLICY_INVALID`
 */
export async function readPolicy(file: string): Promise<AppraisalPolicy> {
  return parseWorkerPolicy(await readPolicyFile(file));
}

/** Policies that come with `cfn`. Their measurements are empty, which accepts nothing, until `--reference` fills them. */
export const READY_MADE = ['production-tdx-h100', 'production-snp-h100', 'cpu-only', 'simulated'] as const;

/**
 * A policy for any evidence: the name of a ready-made one, or a file.
 *
 * @param references `name=hex`: a reference value more for that list of the policy's `tee`
 * @throws {CfnError} `CFN_POLICY_INVALID`, `CFN_USAGE`
 */
export async function readAnyPolicy(nameOrFile: string, references: readonly string[]): Promise<AppraisalPolicy> {
  const known = READY_MADE.find((name) => name === nameOrFile);
  const file =
    known === undefined ? nameOrFile : fileURLToPath(new URL(`../attestation/policies/${known}.toml`, import.meta.url));
  const policy = parsePolicy(await readPolicyFile(file).catch((error: unknown) => explain(error)));
  const tee = references.reduce<Record<string, unknown>>(addReference, { ...policy.tee });
  return parsePolicy({ ...policy, tee });
}

function explain(error: unknown): never {
  if (!(error instanceof CfnError)) throw error;
  throw new CfnError(error.code, `${error.message}; ready-made policies are ${READY_MADE.join(', ')}`, {
    cause: error,
  });
}

function addReference(tee: Readonly<Record<string, unknown>>, reference: string): Record<string, unknown> {
  const [, name = '', value = ''] = /^([A-Za-z0-9]+)=([0-9a-fA-F]+)$/.exec(reference) ?? [];
  const list = tee[name];
  if (name === 'root' && typeof list === 'string') return { ...tee, root: value.toLowerCase() };
  if (!Array.isArray(list) || name === 'vmpl' || name === 'products')
    throw new CfnError(
      'CFN_USAGE',
      `--reference ${reference}: expected name=hex, for a list of measurements of the policy`,
    );
  return { ...tee, [name]: [...list, value.toLowerCase()] };
}
