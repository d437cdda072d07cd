import { CompactSign, compactVerify, decodeProtectedHeader, importJWK, type CryptoKey } from 'jose';
import { z } from 'zod';
import { CfnError } from './errors.ts';
import { fromUtf8, utf8 } from './bytes.ts';
import { digestSchema, type SignedManifest } from './manifest.ts';

/** What an author signs to withdraw a function version for good. */
const withdrawalSchema = z.strictObject({
  format: z.literal('cfn/withdrawal/v1'),
  version: digestSchema,
});
const JWS_TYPE = 'cfn-withdrawal+jws';

/** @param key the author's, which signed the manifest */
export function signWithdrawal(version: string, key: CryptoKey): Promise<string> {
  const payload = withdrawalSchema.parse({ format: 'cfn/withdrawal/v1', version });
  return new CompactSign(utf8(JSON.stringify(payload))).setProtectedHeader({ alg: 'EdDSA', typ: JWS_TYPE }).sign(key);
}

/**
 * Verifies that the author of a function version withdraws it.
 *
 * @param use the version's manifest, verified: its header holds the author's key
 * @throws {CfnError} `CFN_MANIFEST_ALTERED` when another key signed, or it names another version
 */
export async function verifyWithdrawal(statement: string, use: SignedManifest): Promise<void> {
  try {
    const { jwk } = decodeProtectedHeader(use.jws); // verified with the manifest
    const key = await importJWK({ kty: 'OKP', crv: 'Ed25519', x: jwk?.x ?? '' }, 'EdDSA');
    const { payload, protectedHeader } = await compactVerify(statement, key, { algorithms: ['EdDSA'] });
    if (protectedHeader.typ !== JWS_TYPE) throw new Error(`typ is ${String(protectedHeader.typ)}`);
    const { version } = withdrawalSchema.parse(JSON.parse(fromUtf8(payload)));
    if (version !== use.version) throw new Error('it names another version');
  } catch (cause) {
    throw new CfnError('CFN_MANIFEST_ALTERED', 'the withdrawal is not by the author of this version', { cause });
  }
}
