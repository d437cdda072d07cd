import { CfnError } from './errors.ts';

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** `90s`, `10m`, `1.5h`, `500ms` in ms. @throws {CfnError} `CFN_USAGE` */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)$/.exec(text);
  const unit = UNIT_MS[match?.[2] ?? ''];
  if (match === null || unit === undefined)
    throw new CfnError('CFN_USAGE', `expected a duration such as 90s, 10m or 1h, have ${text.slice(0, 50)}`);
  return Math.round(Number(match[1]) * unit);
}
