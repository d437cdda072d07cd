import { ByteReader, fromUtf8, utf8 } from './bytes.ts';
import { CfnError } from './errors.ts';
import { frame, sha256, sha256Hex } from './hash.ts';

/** How secrets of functions are named, bound and framed. Apart from the schemas of `function-secrets.ts`: sandboxes load this. */

/** The secrets of one function in one namespace; leases and audit entries name them by it where they name a model otherwise. */
export const secretsId = (owner: string, tenant: string, name: string): Promise<string> =>
  sha256Hex(frame('cfn/function-secrets/v1', utf8(owner), utf8(tenant), utf8(name)));
/** HPKE info of a secret's value, sealed to the KMS. @param id as {@link secretsId} */
export const secretInfo = (id: string, name: string): Uint8Array<ArrayBuffer> =>
  frame('cfn/function-secret/v1', utf8(id), utf8(name));
/** HPKE info of secrets wrapped by the KMS to a sandbox. */
export const wrappedSecretsInfo = (version: string, challenge: string): Uint8Array<ArrayBuffer> =>
  frame('cfn/wrapped-secrets/v1', utf8(version), utf8(challenge));
/** The nonce of evidence for a release of secrets, 32 bytes. Of another kind than that for a model, so that neither serves as the other. */
export const secretsNonce = (
  challenge: string,
  wrappingKey: string,
  functionManifest: string,
): Promise<Uint8Array<ArrayBuffer>> =>
  sha256(frame('cfn/kms-secrets-nonce/v1', utf8(challenge), utf8(wrappingKey), utf8(functionManifest)));

const SECRETS_LABEL = 'cfn/secrets/v1';

/** Values by name, as bytes that can be overwritten: strings could not be. To be overwritten by the caller. */
export function encodeSecrets(values: ReadonlyMap<string, Uint8Array>): Uint8Array<ArrayBuffer> {
  return frame(SECRETS_LABEL, ...[...values].flatMap(([name, value]) => [utf8(name), value]));
}

/** @throws {CfnError} `CFN_INPUT_INVALID` */
export function decodeSecrets(bytes: Uint8Array): Record<string, string> {
  const reader = new ByteReader(bytes, 'CFN_INPUT_INVALID');
  const next = (what: string): string => fromUtf8(reader.take(reader.u32be(what), what));
  if (next('label') !== SECRETS_LABEL) throw new CfnError('CFN_INPUT_INVALID', 'these are no secrets');
  const secrets: Record<string, string> = {};
  while (reader.remaining > 0) secrets[next('name')] = next('value');
  return secrets;
}
