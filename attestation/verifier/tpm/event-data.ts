import { ByteReader, CfnError, equalBytes, fromHex, toHex } from '../../../proto/index.ts';
import type { Hash } from '../../evidence/algorithms.ts';
import type { LogEvent } from '../../evidence/event-log.ts';

/** Part of an event's data that its digest is over. */
export interface AuthenticData {
  readonly bytes: Uint8Array;
  /** Whether that is all the data of the event. */
  readonly whole: boolean;
}

/** UEFI_VARIABLE_DATA. */
export interface UefiVariable {
  /** Vendor GUID, as stored: 16 bytes. */
  readonly vendor: Uint8Array;
  readonly name: string;
  readonly data: Uint8Array;
}

const EFI_GLOBAL_VARIABLE = fromHex('61dfe48bca93d211aa0d00e098032b8c');
const NAME_CHARACTERS_MAX = 256;
const DESCRIPTION_CHARACTERS_MAX = 120;
const VARIABLE_BYTES_SHOWN = 16;

/**
 * Finds what of an event's data its digest is over, by hashing it again: all of it; the content of a UEFI variable (boot entries);
 * or a text without its end and the label before it (GRUB's commands and kernel command line). `undefined` when the digest is of
 * something else, such as a file: then the data only describes, and may lie. The event's type and a text's label may lie always.
 */
export async function authenticData(event: LogEvent, hash: Hash): Promise<AuthenticData | undefined> {
  const digest = event.digests.get(hash);
  if (digest === undefined) return undefined;
  for (const bytes of [event.data, parseUefiVariable(event.data)?.data, ...texts(event.data)]) {
    if (bytes === undefined) continue;
    const again = await crypto.subtle.digest(hash, bytes as Uint8Array<ArrayBuffer>);
    if (equalBytes(new Uint8Array(again), digest)) return { bytes, whole: bytes === event.data };
  }
  return undefined;
}

/** UEFI_VARIABLE_DATA (PC Client Platform Firmware Profile §10.4.2.6); `undefined` for data of another form. */
export function parseUefiVariable(bytes: Uint8Array): UefiVariable | undefined {
  try {
    const reader = new ByteReader(bytes);
    const vendor = reader.take(16, 'vendor');
    const nameCharacters = reader.u64le('name length');
    const dataBytes = reader.u64le('data length');
    if (nameCharacters > NAME_CHARACTERS_MAX || dataBytes > bytes.length) return undefined;
    const name = String.fromCharCode(...Array.from({ length: Number(nameCharacters) }, () => reader.u16le('name')));
    const data = reader.take(Number(dataBytes), 'data');
    reader.finish('UEFI variable');
    return { vendor, name, data };
  } catch (error) {
    if (error instanceof CfnError) return undefined;
    throw error;
  }
}

export function isSecureBootVariable({ vendor, name }: UefiVariable): boolean {
  return name === 'SecureBoot' && equalBytes(vendor, EFI_GLOBAL_VARIABLE);
}

/** A line for people, printable ASCII: a variable and its first bytes, a text, or the first bytes. */
export function describeData(data: Uint8Array): string {
  const variable = parseUefiVariable(data);
  if (variable === undefined) return printable(data).slice(0, DESCRIPTION_CHARACTERS_MAX);
  const name = variable.name.slice(0, 40).replaceAll(/[^ -~]/g, '?');
  const more = variable.data.length > VARIABLE_BYTES_SHOWN ? '...' : '';
  return `variable ${name} = ${toHex(variable.data.subarray(0, VARIABLE_BYTES_SHOWN))}${more}`;
}

/** The data without the NUL that ends it, and what stands behind a label there. */
function texts(data: Uint8Array): Uint8Array[] {
  const isEnded = data.at(-1) === 0;
  const text = isEnded ? data.subarray(0, -1) : data;
  const colon = text.indexOf(0x3a);
  const isLabelled = colon >= 0 && text[colon + 1] === 0x20;
  return [...(isEnded ? [text] : []), ...(isLabelled ? [text.subarray(colon + 2)] : [])];
}

/** ASCII, also as UTF-16; other data in hexadecimal. */
function printable(data: Uint8Array): string {
  const head = data.subarray(0, 2 * DESCRIPTION_CHARACTERS_MAX);
  const text = [...head].filter((byte) => byte !== 0);
  if (text.length > 0 && text.every((byte) => byte >= 0x20 && byte < 0x7f)) return String.fromCharCode(...text);
  return toHex(head.subarray(0, DESCRIPTION_CHARACTERS_MAX / 2));
}
