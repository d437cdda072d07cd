import { readFile } from 'node:fs/promises';
import {
  appraise,
  parsePolicy,
  policyDigest,
  type AppraisalPolicy,
  type AttestationResult,
} from '../attestation/verifier/index.ts';
import { CfnError } from '../proto/index.ts';

/** `cfn` is a relying party: it appraises for its user, under the user's policy. */
export { appraise, policyDigest, type AppraisalPolicy, type AttestationResult };

/** @throws {CfnError} `CFN_POLICY_INVALID` */
export async function readPolicy(file: string): Promise<AppraisalPolicy> {
  let json: unknown;
  try {
    json = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    throw new CfnError('CFN_POLICY_INVALID', `${file} is not readable as JSON`, { cause });
  }
  return parsePolicy(json);
}
