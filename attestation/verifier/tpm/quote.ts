import { concatBytes, equalBytes, toHex } from '../../../proto/index.ts';
import type { PublicKey } from '../../evidence/algorithms.ts';
import { leftPad } from '../../evidence/public-key.ts';
import { refuse } from '../../evidence/reasons.ts';
import {
  TPM_HASH_BYTES,
  type PcrValues,
  type SignedTpmQuote,
  type TpmQuote,
  type TpmSignature,
} from '../../evidence/tpm.ts';
import type { Findings } from '../findings.ts';
import { verifyEcdsa, verifySignature } from '../pki/signatures.ts';
import { appraisePcrs, type PcrReference } from './pcr-references.ts';

export interface TpmQuoteInput {
  readonly evidence: SignedTpmQuote;
  /** Whose trust comes from elsewhere: an HCL report, a certificate, a list. */
  readonly attestationKey: PublicKey;
  /** What the relying party asked for. */
  readonly nonce: Uint8Array | NotChecked;
  readonly references: readonly PcrReference[] | NotChecked;
}

/** A check that the caller leaves out, and why. */
export interface NotChecked {
  readonly notChecked: string;
}

/** What a quote says; to be believed only when the findings have no failure. Numbers of 64 bits are hexadecimal. */
export interface TpmQuoteClaims {
  readonly nonce: string;
  readonly clock: string;
  readonly resetCount: number;
  readonly restartCount: number;
  readonly clockSafe: boolean;
  readonly firmwareVersion: string;
  /** Registers that the quote covers: bank, index, value. */
  readonly pcrs: Readonly<Record<string, Readonly<Record<string, string>>>>;
}

/**
 * Verifies a quote: the attestation key signed it, it answers the nonce, and it is over the registers shown. It proves nothing of
 * the platform unless the attestation key is known to live in a TPM of that platform.
 */
export async function verifyTpmQuote(input: TpmQuoteInput, findings: Findings): Promise<TpmQuoteClaims> {
  const { evidence, attestationKey, nonce, references } = input;
  const { quote, signature } = evidence;
  const pcrs = selectPcrs(evidence);
  await findings.check('TPM quote signature', async () => {
    if (!(await isQuoteSigned(quote, signature, attestationKey)))
      refuse('evidence/tpm-signature', 'the attestation key did not sign the TPM quote');
  });
  await checkNonce(quote, nonce, findings);
  const genuine = await findings.check('TPM PCR digest', () => requirePcrDigest(evidence));
  if ('notChecked' in references) findings.skip('TPM PCR references', references.notChecked);
  else if (genuine) await appraisePcrs(pcrs, references, findings);
  else findings.skip('TPM PCR references', 'the PCR values are not those of the quote');
  return claimsOf(quote, pcrs);
}

/** The registers that a quote covers, of those that came with it. What it does not cover anybody may have written. */
export function selectPcrs({ quote, pcrs }: SignedTpmQuote): PcrValues {
  return new Map(
    quote.selections.map(({ hash, indexes }) => {
      const bank = pcrs.get(hash);
      const values = indexes.map((index) => [index, bank?.get(index)] as const);
      return [hash, new Map(values.filter((entry): entry is readonly [number, Uint8Array] => entry[1] !== undefined))];
    }),
  );
}

async function isQuoteSigned(quote: TpmQuote, signature: TpmSignature, key: PublicKey): Promise<boolean> {
  const { hash } = signature;
  const data = quote.signedBytes;
  if (signature.scheme === 'ecdsa') {
    if (key.type !== 'ec') return false;
    const bytes = key.curve === 'P-256' ? 32 : 48;
    if (signature.r.length > bytes || signature.s.length > bytes) return false;
    return verifyEcdsa(
      key,
      hash,
      concatBytes(leftPad(signature.r, bytes, 'r'), leftPad(signature.s, bytes, 's')),
      data,
    );
  }
  if (key.type !== 'rsa') return false;
  if (signature.scheme === 'rsassa') return verifySignature(key, { type: 'rsa-pkcs1', hash }, signature.bytes, data);
  for (const saltBytes of saltLengths(key.modulusBits, TPM_HASH_BYTES[hash]))
    if (await verifySignature(key, { type: 'rsa-pss', hash, saltBytes }, signature.bytes, data)) return true;
  return false;
}

/** TPMs in FIPS mode take a salt as long as the hash, others the longest that fits (TPM 2.0 Library, part 1 §B.7). */
function saltLengths(modulusBits: number, hashBytes: number): readonly number[] {
  return [hashBytes, Math.ceil((modulusBits - 1) / 8) - hashBytes - 2];
}

async function checkNonce(quote: TpmQuote, expected: Uint8Array | NotChecked, findings: Findings): Promise<void> {
  const { extraData } = quote;
  await findings.check('TPM nonce', () => {
    if (extraData.length === 0) refuse('binding/nonce-empty', 'the TPM quote answers no nonce');
    if ('notChecked' in expected) return;
    if (expected.length === 0) refuse('binding/nonce-empty', 'no nonce is expected, so any answer would do');
    if (!equalBytes(extraData, expected))
      refuse('binding/nonce-mismatch', `the TPM quote answers ${toHex(extraData)}, expected ${toHex(expected)}`);
  });
  if ('notChecked' in expected) findings.skip('TPM nonce equality', expected.notChecked);
}

/** The digest is over the selected values, bank by bank, ascending, with the hash of the signature (part 2 §10.12.1). */
async function requirePcrDigest({ quote, signature, pcrs }: SignedTpmQuote): Promise<void> {
  const values = quote.selections.flatMap(({ hash, indexes }) =>
    indexes.map((index) => {
      const value = pcrs.get(hash)?.get(index);
      if (value?.length !== TPM_HASH_BYTES[hash])
        refuse(
          'evidence/pcr-digest',
          `the quote covers PCR ${index} of bank ${hash}, whose value did not come with it`,
        );
      return value;
    }),
  );
  if (values.length === 0) refuse('evidence/pcr-digest', 'the quote covers no PCR');
  const digest = await crypto.subtle.digest(signature.hash, concatBytes(...values));
  if (!equalBytes(new Uint8Array(digest), quote.pcrDigest))
    refuse('evidence/pcr-digest', 'the PCR values are not those that the quote was made over');
}

function claimsOf(quote: TpmQuote, pcrs: PcrValues): TpmQuoteClaims {
  return {
    nonce: toHex(quote.extraData),
    clock: hex64(quote.clock),
    resetCount: quote.resetCount,
    restartCount: quote.restartCount,
    clockSafe: quote.safe,
    firmwareVersion: hex64(quote.firmwareVersion),
    pcrs: Object.fromEntries(
      [...pcrs].map(([hash, values]) => [
        hash,
        Object.fromEntries([...values].map(([index, value]) => [String(index), toHex(value)])),
      ]),
    ),
  };
}

function hex64(value: bigint): string {
  return value.toString(16).padStart(16, '0');
}
