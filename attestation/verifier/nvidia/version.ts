/**
 * Compares versions part by part; the shorter one is filled with zeros. `undefined` when one is no version.
 *
 * @param base of the parts: 10 for drivers (`550.90.07`), 16 for VBIOSes (`96.00.9F.00.01`)
 */
export function compareVersions(a: string, b: string, base: 10 | 16): number | undefined {
  const left = parts(a, base);
  const right = parts(b, base);
  if (left === undefined || right === undefined) return undefined;
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function parts(version: string, base: 10 | 16): number[] | undefined {
  const pattern = base === 10 ? /^\d{1,6}(?:\.\d{1,6}){0,7}$/ : /^[0-9A-Fa-f]{1,4}(?:\.[0-9A-Fa-f]{1,4}){0,7}$/;
  return pattern.test(version) ? version.split('.').map((part) => Number.parseInt(part, base)) : undefined;
}
