import { parseMimeType } from './mime-type.ts';

const NAMES: ReadonlySet<string> = new Set(['accept', 'accept-language', 'content-language', 'content-type']);
const ESSENCES: ReadonlySet<string> = new Set([
  'application/x-www-form-urlencoded',
  'multipart/form-data',
  'text/plain',
]);
/** Fetch Standard §2.2.2, in bytes. */
const VALUE_BYTES_MAX = 128;
// oxlint-disable-next-line no-control-regex
const UNSAFE = /[\x00-\x08\x0a-\x1f"():<>?@[\\\]{}\x7f]/;

/** Whether a request with mode `no-cors` may have this header (Fetch Standard, "no-CORS-safelisted request-header"). */
export function isSafelisted(name: string, value: string | null): boolean {
  if (!NAMES.has(name)) return false;
  if (value === null) return true;
  if (value.length > VALUE_BYTES_MAX) return false;
  if (name === 'accept') return !UNSAFE.test(value);
  if (name !== 'content-type') return /^[0-9A-Za-z *,\-.;=]*$/.test(value);
  const type = parseMimeType(value);
  return !UNSAFE.test(value) && type !== undefined && ESSENCES.has(type.essence);
}
