/**
 * RFC 4180: CRLF after each record, quotes where they are needed. A text that a spreadsheet would run as a formula is given an apostrophe
 * in front (OWASP, CSV injection); numbers are left as they are.
 */
export function csv(records: readonly (readonly (string | number)[])[]): string {
  return records.map((fields) => `${fields.map(field).join(',')}\r\n`).join('');
}

function field(value: string | number): string {
  if (typeof value === 'number') return String(value);
  const text = /^[=+\-@\t\r\n|%＝＋－＠]/.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
