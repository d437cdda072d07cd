import { DER, type DerReader } from './der.ts';
import { refuse } from './reasons.ts';

/**
 * Reads a UTCTime or GeneralizedTime in the form of RFC 5280 §4.1.2.5: UTC, whole seconds. Gives ms since the epoch; years run
 * to 9999.
 *
 * @throws {Refusal} `parse/der`
 */
export function parseTime(reader: DerReader, field: string): number {
  const { tag, content } = reader.any(field);
  const general = tag === DER.generalizedTime;
  const digits = general ? 14 : 12;
  if ((!general && tag !== DER.utcTime) || content.length !== digits + 1 || content[digits] !== 0x5a)
    refuse('parse/der', `${field} is not a UTC time`);
  const pair = (at: number): number => {
    const tens = (content[at] ?? 0) - 0x30;
    const units = (content[at + 1] ?? 0) - 0x30;
    if (tens < 0 || tens > 9 || units < 0 || units > 9) refuse('parse/der', `${field} is not a UTC time`);
    return tens * 10 + units;
  };
  const from = digits - 10;
  const short = pair(from - 2);
  // Two digits mean 1950 to 2049.
  const year = general ? pair(0) * 100 + short : (short >= 50 ? 1900 : 2000) + short;
  const [month, day, hour, minute, second] = [
    pair(from),
    pair(from + 2),
    pair(from + 4),
    pair(from + 6),
    pair(from + 8),
  ];
  const time = new Date(Date.UTC(2000, month - 1, day, hour, minute, second));
  time.setUTCFullYear(year, month - 1, day); // Date.UTC takes years below 100 for 19xx
  if (time.getUTCMonth() !== month - 1 || time.getUTCDate() !== day || hour > 23 || minute > 59 || second > 59)
    refuse('parse/der', `${field} is not a date`);
  return time.getTime();
}
