import { z } from 'zod';
import { fromHex, toHex } from '../../proto/index.ts';
import { parseCrl, type Crl } from './crl.ts';
import { parseJsonDocument, parseJsonObject } from './json.ts';
import { refuse, type Reason } from './reasons.ts';
import { parsePemChain, type Certificate } from './x509.ts';

/** Largest document, in characters; real ones have under 20 kB, most of it the PCK CRL, which grows. */
const COLLATERAL_CHARACTERS_MAX = 4 * 1024 * 1024;
/** Largest TCB info or QE identity, in characters; real ones have 3 to 15 kB. */
const SIGNED_TEXT_CHARACTERS_MAX = 512 * 1024;

/** A text of Intel's, exactly as it was signed, and the signature (r ‖ s, P-256). Its content is not read before that is verified. */
export interface SignedText {
  readonly text: string;
  readonly signature: Uint8Array;
}

/** Intel's endorsements of a TDX platform, parsed and not verified. Chains are leaf first. */
export interface IntelCollateral {
  readonly tcbInfo: SignedText;
  readonly tcbInfoIssuerChain: readonly Certificate[];
  readonly qeIdentity: SignedText;
  readonly qeIdentityIssuerChain: readonly Certificate[];
  readonly pckCrl: Crl;
  readonly pckCrlIssuerChain: readonly Certificate[];
  readonly rootCaCrl: Crl;
}

/**
 * The JSON form that DCAP libraries have in common: texts as they were signed, signatures and CRLs in hexadecimal, chains in PEM.
 * Nothing signs the envelope, so members that we do not know are ignored.
 */
const envelopeSchema = z.object({
  tcb_info: z.string(),
  tcb_info_signature: z.string().optional(),
  tcb_info_issuer_chain: z.string(),
  qe_identity: z.string(),
  qe_identity_signature: z.string().optional(),
  qe_identity_issuer_chain: z.string(),
  pck_crl: z.string(),
  pck_crl_issuer_chain: z.string(),
  root_ca_crl: z.string(),
});
type Envelope = z.infer<typeof envelopeSchema>;
const MEMBERS = Object.keys(envelopeSchema.shape) as readonly (keyof Envelope)[];

/**
 * Parses a collateral document. `tcb_info` and `qe_identity` may also be whole response bodies of Intel's service, which bring
 * their signatures along.
 *
 * @throws {Refusal} `collateral/missing`, `revocation/missing`, `parse/json`, `parse/duplicate`, `parse/length`, and those of
 *   certificates and CRLs
 */
export function parseIntelCollateral(text: string): IntelCollateral {
  const json = parseJsonObject(text, { what: 'collateral', charactersMax: COLLATERAL_CHARACTERS_MAX });
  for (const member of MEMBERS) {
    const optional = member.endsWith('_signature');
    if ((json[member] ?? '') === '' && !optional)
      refuse(member.includes('crl') ? 'revocation/missing' : 'collateral/missing', `collateral has no ${member}`);
  }
  const parsed = envelopeSchema.safeParse(json);
  if (!parsed.success) refuse('parse/json', `collateral: ${parsed.error.issues[0]?.path.join('.')} is not a text`);
  const envelope = parsed.data;
  return {
    tcbInfo: signedText(envelope.tcb_info, envelope.tcb_info_signature, 'tcbInfo'),
    tcbInfoIssuerChain: parsePemChain(envelope.tcb_info_issuer_chain),
    qeIdentity: signedText(envelope.qe_identity, envelope.qe_identity_signature, 'enclaveIdentity'),
    qeIdentityIssuerChain: parsePemChain(envelope.qe_identity_issuer_chain),
    pckCrl: parseCrl(bytesOfHex(envelope.pck_crl, 'pck_crl')),
    pckCrlIssuerChain: parsePemChain(envelope.pck_crl_issuer_chain),
    rootCaCrl: parseCrl(bytesOfHex(envelope.root_ca_crl, 'root_ca_crl')),
  };
}

/** Parts of a collateral document as Intel's service answers them. */
export interface IntelCollateralParts {
  /** Response bodies, `{"tcbInfo":{…},"signature":"…"}` and `{"enclaveIdentity":{…},"signature":"…"}`. */
  readonly tcbInfo: string;
  readonly qeIdentity: string;
  /** PEM. */
  readonly tcbInfoIssuerChain: string;
  readonly qeIdentityIssuerChain: string;
  readonly pckCrlIssuerChain: string;
  /** DER. */
  readonly pckCrl: Uint8Array;
  readonly rootCaCrl: Uint8Array;
}

/** Writes what {@link parseIntelCollateral} reads; response bodies go in as they came. */
export function writeIntelCollateral(parts: IntelCollateralParts): string {
  return JSON.stringify({
    pck_crl_issuer_chain: parts.pckCrlIssuerChain,
    root_ca_crl: toHex(parts.rootCaCrl),
    pck_crl: toHex(parts.pckCrl),
    tcb_info_issuer_chain: parts.tcbInfoIssuerChain,
    tcb_info: parts.tcbInfo,
    qe_identity_issuer_chain: parts.qeIdentityIssuerChain,
    qe_identity: parts.qeIdentity,
  } satisfies Envelope);
}

/** The signed text itself with its signature beside it, or a response body from which the text is cut as it stands. */
function signedText(text: string, signature: string | undefined, member: 'tcbInfo' | 'enclaveIdentity'): SignedText {
  if (text.length > SIGNED_TEXT_CHARACTERS_MAX) refuse('parse/length', `${member} has ${text.length} characters`);
  if (signature !== undefined) return { text, signature: signatureOfHex(signature, member) };
  const limits = { what: member, charactersMax: SIGNED_TEXT_CHARACTERS_MAX };
  const { members, value } = parseJsonDocument(text, limits);
  const inner = members.get(member);
  const body = bodySchema.safeParse(value);
  if (inner === undefined || !body.success) refuse('collateral/missing', `${member} comes without its signature`);
  return { text: inner, signature: signatureOfHex(body.data.signature, member) };
}

const bodySchema = z.object({ signature: z.string() });

function signatureOfHex(text: string, member: string): Uint8Array {
  const signature = bytesOfHex(text, `signature of ${member}`);
  return signature.length === 64
    ? signature
    : refuse(
        SIGNATURE_REASONS[member] ?? 'parse/length',
        `signature of ${member} has ${signature.length} bytes, expected 64`,
      );
}

const SIGNATURE_REASONS: Readonly<Record<string, Reason>> = {
  tcbInfo: 'collateral/tcb-info-signature',
  enclaveIdentity: 'collateral/qe-identity-signature',
};

/** Either case: Intel mixes them. */
function bytesOfHex(text: string, what: string): Uint8Array {
  if (!/^(?:[0-9A-Fa-f]{2})*$/.test(text)) refuse('parse/json', `${what} is not hexadecimal`);
  return fromHex(text.toLowerCase(), 'CFN_EVIDENCE_MALFORMED');
}
