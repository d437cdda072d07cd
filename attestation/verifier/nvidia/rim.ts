import { equalBytes, frame, sha256Hex, utf8 } from '../../../proto/index.ts';
import { canonicalize } from '../../evidence/xml-canonical.ts';
import { refuse } from '../../evidence/reasons.ts';
import { parseRim, type Rim } from '../../evidence/rim.ts';
import type { Findings } from '../findings.ts';
import { verifyLinks } from '../pki/chain.ts';
import { verifyEcdsa } from '../pki/signatures.ts';
import type { RimCache } from './rim-cache.ts';
import { settled } from '../pki/settled.ts';

/** A RIM as somebody supplied it; what is found out about it is found out once. */
export interface SuppliedRim {
  readonly rim: Rim;
  /** For messages, such as `RIM driver GH100 550.90.07`. */
  readonly what: string;
  /** Digest of the document and of the root that it is verified under. */
  readonly key: string;
  /** Whether chain and signature verified before. */
  readonly kept: boolean;
}

/**
 * @param root SHA-256 of the root certificate's DER, hexadecimal
 * @throws {Refusal} those of {@link parseRim}
 */
export async function openRim(bytes: Uint8Array, root: string, cache: RimCache | undefined): Promise<SuppliedRim> {
  const key = await sha256Hex(frame('cfn/rim/v1', utf8(root), bytes));
  const known = cache?.get(key);
  const rim = known ?? parseRim(bytes);
  return { rim, what: `RIM ${rim.kind} ${rim.product} ${rim.version}`, key, kept: known !== undefined };
}

/** Work begun for {@link verifyRim}. */
export interface RimVerification {
  readonly supplied: SuppliedRim;
  readonly linked: Promise<void>;
  readonly signed: Promise<void>;
}

/** Begins what takes long, so that it runs beside other work. */
export function beginRim(supplied: SuppliedRim, root: string): RimVerification {
  const { rim, what, kept } = supplied;
  const { certificates } = rim.signature;
  return {
    supplied,
    linked: settled(kept ? Promise.resolve() : verifyLinks(certificates, { root, what })),
    signed: settled(kept ? Promise.resolve() : verifyRimSignature(rim, what)),
  };
}

/**
 * Verifies who signed a RIM, that all of it is what was signed, and the dates of its certificates. Only after that are its values
 * NVIDIA's. Revocation is looked up elsewhere.
 */
export async function verifyRim(
  { supplied, linked, signed }: RimVerification,
  now: Date,
  cache: RimCache | undefined,
  findings: Findings,
): Promise<boolean> {
  const { rim, what, key } = supplied;
  const isLinked = await findings.check(`${what} certificate chain`, () => linked);
  const isSigned = await findings.check(`${what} signature`, () => signed);
  if (isLinked && isSigned) cache?.set(key, rim);
  const isCurrent = await findings.check(`${what} dates`, () => requireCurrent(rim, now, what));
  return isLinked && isSigned && isCurrent;
}

/**
 * Verifies the XML signature with the key of the first certificate, whose chain is another matter.
 *
 * @throws {Refusal} `collateral/rim-signature`
 */
export async function verifyRimSignature({ root, signature }: Rim, what: string): Promise<void> {
  const [leaf] = signature.certificates;
  const key = leaf?.publicKey;
  if (key?.type !== 'ec' || key.curve !== 'P-384')
    refuse('collateral/rim-signature', `${what}: the signing key is not on P-384`);
  const [digest, genuine] = await Promise.all([
    crypto.subtle.digest('SHA-384', canonicalize(root, signature.element)),
    verifyEcdsa(key, 'SHA-384', signature.value, canonicalize(signature.signedInfo)),
  ]);
  if (!genuine) refuse('collateral/rim-signature', `${what}: ${leaf?.subjectCommonName ?? 'the leaf'} did not sign it`);
  if (!equalBytes(new Uint8Array(digest), signature.digest))
    refuse('collateral/rim-signature', `${what} was changed after it was signed`);
}

function requireCurrent({ signature }: Rim, now: Date, what: string): void {
  const time = now.getTime();
  for (const { subjectCommonName, notBeforeMs, notAfterMs } of signature.certificates) {
    // Written so that an invalid date refuses.
    if (!(time >= notBeforeMs))
      refuse('collateral/not-yet-valid', `${what}: ${subjectCommonName} is not valid before ${iso(notBeforeMs)}`);
    if (!(time <= notAfterMs))
      refuse('collateral/expired', `${what}: ${subjectCommonName} has expired on ${iso(notAfterMs)}`);
  }
}

function iso(ms: number): string {
  return new Date(ms).toISOString();
}
