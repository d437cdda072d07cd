import { CfnError } from './errors.ts';

/**
 * JSON in the one form of RFC 8785 (JCS): members sorted by UTF-16 code units, numbers and strings as ECMAScript writes them, no white
 * space. For values as `JSON.parse` gives them.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID` for what has no such form, such as half of a surrogate pair
 */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1));
    return `{${members.map(([name, member]) => `${canonicalJson(name)}:${canonicalJson(member)}`).join(',')}}`;
  }
  const isWritable = typeof value === 'string' ? value.isWellFormed() : typeof value !== 'number' || isFinite(value);
  const text = isWritable ? (JSON.stringify(value) as string | undefined) : undefined;
  if (text === undefined) throw new CfnError('CFN_INPUT_INVALID', 'the value has no canonical JSON');
  return text;
}
