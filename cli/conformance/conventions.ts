import { fromHex, fromUtf8, utf8 } from '../../proto/index.ts';
import type { Case, InputFile } from './cases.ts';

/**
 * What a case says in words only (docs/conformance.md lists the rules). They are read from `id`, `reason` and `note`; words ask for a
 * change only where the case expects a refusal, so that no rule can turn a refusal into a pass of an `accept` case.
 */
export interface Preparation {
  readonly inputs: readonly InputFile[];
  /** What the relying party expects; undefined: it does not say. */
  readonly nonce: Uint8Array | undefined;
}

const OTHER_NONCE =
  /\bnonce\b[^;]{0,40}\b(?:differs|mismatch(?:es)?|is not the expected)\b|\b(?:any other|another|(?:a )?(?:wrong|different)) (?:\S+-byte )?nonce\b|\b(?:wrong|other|bad)-nonce\b|\bnonce-mismatch\b/i;
const CHANGE_PCR = /\b(?:change|alter|modify|flip)\b[^.;]{0,30}\bPCR\b/i;
const CHANGE_BIT = /\b(?:change|alter|modify|flip)\b (?:any|one|a|some) (?:bit|byte)\b/i;
const STATED_NONCE = /\bnonce\b[^()]{0,80}\(((?:[0-9a-f]{2}){1,64})\)/;

export function prepare(subject: Case, inputs: readonly InputFile[]): Preparation {
  const words = [subject.id, subject.reason, subject.note].filter((text) => text != null).join('; ');
  const refused = subject.expect !== 'accept';
  let changed = inputs;
  if (refused && CHANGE_PCR.test(words)) changed = inputs.map(changePcr);
  else if (refused && CHANGE_BIT.test(words)) changed = inputs.map((input, i) => (i === 0 ? flipMiddle(input) : input));
  return { inputs: changed, nonce: expectedNonce(subject, words, refused) };
}

function expectedNonce(subject: Case, words: string, refused: boolean): Uint8Array | undefined {
  if (subject.nonce != null) return fromHex(subject.nonce.toLowerCase());
  if (refused && OTHER_NONCE.test(words)) return new Uint8Array(32);
  const stated = subject.fields?.['nonce'] ?? subject.fields?.['eat_nonce'] ?? STATED_NONCE.exec(words)?.[1];
  return typeof stated === 'string' && /^(?:[0-9a-f]{2})+$/i.test(stated) ? fromHex(stated.toLowerCase()) : undefined;
}

/** The first PCR value of a JSON input, one bit off. */
function changePcr(input: InputFile): InputFile {
  let text: string;
  try {
    text = fromUtf8(input.bytes);
  } catch {
    return input;
  }
  const changed = text.replace(
    /("pcrs"\s*:\s*[[{][^0-9a-f]*)([0-9a-f])/,
    (_, before: string, digit: string) => before + (Number.parseInt(digit, 16) ^ 1).toString(16),
  );
  return { ...input, bytes: utf8(changed) };
}

function flipMiddle(input: InputFile): InputFile {
  const bytes = input.bytes.slice();
  const at = bytes.length >> 1;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  return { ...input, bytes };
}
