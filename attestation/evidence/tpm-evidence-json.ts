import { z } from 'zod';
import { fromBase64url, fromHex, type CfnError } from '../../proto/index.ts';
import { parsePublicKey, type PublicKey } from './algorithms.ts';
import { parseHclReport, type HclReport } from './azure-hcl.ts';
import { fromBase64 } from './base64.ts';
import { DER } from './der.ts';
import { parseJsonObject } from './json.ts';
import { parsePem } from './pem.ts';
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
  | (AzureEvidence & { readonly kind: 'azure-snp'; readonly vcek: Uint8Array })
  | (AzureEvidence & { readonly kind: 'azure-tdx'; readonly tdQuote: Uint8Array });

interface AzureEvidence {
  /** From version 2 on the paravisor reports the nonce as user data, too. */
  readonly version: 0 | 1 | 2;
  readonly quote: SignedTpmQuote;
  readonly hcl: HclReport;
}

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

const version = z.union([z.literal(1), z.literal(2)]);
const azureSnp = z.strictObject({ version, tpm_quote: hexQuote, hcl_report: base64url, vcek: base64url });
const azureTdx = z.strictObject({ version, tpm_quote: hexQuote, hcl_report: base64url, td_quote: base64url });

/** Version 0 does not name itself, and spells bytes as lists of numbers. */
const list = (bytesMax: number) =>
  z
    .array(z.int().min(0).max(255))
    .max(bytesMax)
    .transform((numbers) => Uint8Array.from(numbers));
const listQuote = z.strictObject({
  message: list(4096),
  signature: list(4096),
  pcrs: z
    .array(list(32).refine(({ length }) => length === 32))
    .length(PCRS)
    .transform((values) => new Map(values.entries())),
});
const pem = bytes((text) => parsePem(text, 1)[0] ?? refuse('parse/pem', 'there is no certificate'), 8192);
const azureSnp0 = z
  .strictObject({ quote: listQuote, report: list(64 * 1024), vcek: pem })
  .transform(({ quote, report, vcek }) => ({ version: 0, tpm_quote: quote, hcl_report: report, vcek }) as const);
const azureTdx0 = z
  .strictObject({ tpm_quote: listQuote, hcl_report: list(64 * 1024), td_quote: list(64 * 1024) })
  .transform((evidence) => ({ version: 0, ...evidence }) as const);
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
    const { vcek, ...parts } = has('version') ? parseAs(azureSnp, json) : parseAs(azureSnp0, json);
    return { kind: 'azure-snp', ...parseAzure(parts, 'snp'), vcek };
  }
  if (has('td_quote')) {
    const { td_quote, ...parts } = has('version') ? parseAs(azureTdx, json) : parseAs(azureTdx0, json);
    return { kind: 'azure-tdx', ...parseAzure(parts, 'tdx'), tdQuote: td_quote };
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

interface AzureParts {
  readonly version: 0 | 1 | 2;
  readonly tpm_quote: QuoteParts;
  readonly hcl_report: Uint8Array;
}

function parseAzure(parts: AzureParts, kind: HclReport['hardware']['kind']): AzureEvidence {
  const hcl = parseHclReport(parts.hcl_report);
  if (hcl.hardware.kind !== kind)
    refuse('parse/unsupported-tee', `HCL report is over ${hcl.hardware.kind}, the evidence beside it is of ${kind}`);
  return { version: parts.version, quote: parseQuote(parts.tpm_quote), hcl };
}
