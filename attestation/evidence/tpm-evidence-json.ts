import { z } from 'zod';
import { fromBase64url, fromHex, type CfnError } from '../../proto/index.ts';
import { parsePublicKey, type PublicKey } from './algorithms.ts';
import { parseHclReport, type HclReport } from './azure-hcl.ts';
import { fromBase64 } from './base64.ts';
import { DER } from './der.ts';
import { parseJsonObject } from './json.ts';
import { refuse } from './reasons.ts';
import { parseTpmPublic, type TpmPublic } from './tpm-public.ts';
import { parseTpmQuote, parseTpmSignature, type SignedTpmQuote } from './tpm.ts';

/** Evidence of a vTPM, in the forms that the Confidential Containers attesters send. */
export type TpmEvidence =
  /** A quote alone: whose key signed it has to come from elsewhere. */
  | { readonly kind: 'tpm-quote'; readonly quote: SignedTpmQuote }
  /** `attestationKey` is the attester's own claim. */
  | { readonly kind: 'tpm'; readonly quote: SignedTpmQuote; readonly attestationKey: PublicKey | TpmPublic }
  /** `vcek`: the chip's certificate, DER. */
  | { readonly kind: 'azure-snp'; readonly quote: SignedTpmQuote; readonly hcl: HclReport; readonly vcek: Uint8Array }
  | {
      readonly kind: 'azure-tdx';
      readonly quote: SignedTpmQuote;
      readonly hcl: HclReport;
      readonly tdQuote: Uint8Array;
    };

const TEXT_CHARACTERS_MAX = 256 * 1024;
const PCRS = 24;

const bytes = (decode: (text: string) => Uint8Array, charactersMax: number) =>
  z
    .string()
    .min(1)
    .max(charactersMax)
    .transform((text, context) => {
      try {
        return decode(text);
      } catch (error) {
        context.addIssue((error as CfnError).message);
        return z.NEVER;
      }
    });
const hex = bytes((text) => fromHex(text.toLowerCase(), 'CFN_EVIDENCE_MALFORMED'), 8192);
/** The attesters pad it; others do not. */
const base64url = bytes((text) => {
  const padding = /={0,2}$/.exec(text)?.[0].length ?? 0;
  if (padding > 0 && text.length % 4 !== 0) refuse('parse/base64', 'base64url has padding of a wrong length');
  return fromBase64url(text.slice(0, text.length - padding), 'CFN_EVIDENCE_MALFORMED');
}, 96 * 1024);
const base64 = bytes(fromBase64, 8192);

/** Every SHA-256 register, by index. */
const pcrs = z
  .array(z.string().regex(/^[0-9A-Fa-f]{64}$/))
  .length(PCRS)
  .transform((values) => new Map(values.map((value, index) => [index, fromHex(value.toLowerCase())])));
const hexQuote = z.strictObject({ message: hex, signature: hex, pcrs });
const base64Quote = z.strictObject({ message: base64, signature: base64, pcrs });
type QuoteParts = z.infer<typeof hexQuote>;

const azureSnp = z.strictObject({ version: z.literal(1), tpm_quote: hexQuote, hcl_report: base64url, vcek: base64url });
const azureTdx = z.strictObject({
  version: z.literal(1),
  tpm_quote: hexQuote,
  hcl_report: base64url,
  td_quote: base64url,
});
const plain = z.strictObject({ ak_public: base64, tpm_quote: base64Quote });

/**
 * Parses TPM evidence, recognised by its members.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED`; reason `parse/unknown-input` for JSON that is no TPM evidence.
 */
export function parseTpmEvidence(text: string): TpmEvidence {
  const json = parseJsonObject(text, { what: 'TPM evidence', charactersMax: TEXT_CHARACTERS_MAX });
  const has = (key: string): boolean => Object.hasOwn(json, key);
  if (has('vcek')) {
    const { tpm_quote, hcl_report, vcek } = parseAs(azureSnp, json);
    return { kind: 'azure-snp', quote: parseQuote(tpm_quote), hcl: parseHcl(hcl_report, 'snp'), vcek };
  }
  if (has('td_quote')) {
    const { tpm_quote, hcl_report, td_quote } = parseAs(azureTdx, json);
    return { kind: 'azure-tdx', quote: parseQuote(tpm_quote), hcl: parseHcl(hcl_report, 'tdx'), tdQuote: td_quote };
  }
  if (has('ak_public')) {
    const { tpm_quote, ak_public } = parseAs(plain, json);
    return { kind: 'tpm', quote: parseQuote(tpm_quote), attestationKey: parseKey(ak_public) };
  }
  if (has('pcrs')) return { kind: 'tpm-quote', quote: parseQuote(parseAs(hexQuote, json)) };
  return refuse('parse/unknown-input', 'JSON is not TPM evidence');
}

function parseAs<T>(schema: z.ZodType<T>, json: unknown): T {
  const parsed = schema.safeParse(json);
  return parsed.success
    ? parsed.data
    : refuse('parse/json', `TPM evidence has another form: ${z.prettifyError(parsed.error).slice(0, 500)}`);
}

function parseQuote({ message, signature, pcrs: values }: QuoteParts): SignedTpmQuote {
  return {
    quote: parseTpmQuote(message),
    signature: parseTpmSignature(signature),
    pcrs: new Map([['SHA-256', values]]),
  };
}

/** SubjectPublicKeyInfo, which begins with a SEQUENCE, or a TPM's public area, which cannot. */
function parseKey(key: Uint8Array): PublicKey | TpmPublic {
  return key[0] === DER.sequence ? parsePublicKey(key) : parseTpmPublic(key);
}

function parseHcl(report: Uint8Array, kind: HclReport['hardware']['kind']): HclReport {
  const hcl = parseHclReport(report);
  if (hcl.hardware.kind !== kind)
    refuse('parse/unsupported-tee', `HCL report is over ${hcl.hardware.kind}, the evidence beside it is of ${kind}`);
  return hcl;
}
