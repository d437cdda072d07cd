import { CfnError, SPLIT_VERSIONS_MAX, type VersionShare } from '../proto/index.ts';

const SPEC = /^([0-9a-f]{6,64})(?:@(\d{1,3})%?)?$/;

/**
 * `VERSION@PERCENT`, as `wrangler versions deploy` has it: versions may be shortened, and what has no percentage shares what is left.
 *
 * @param known versions of the function
 * @throws {CfnError} `CFN_USAGE`
 */
export function parseVersionSpecs(specs: readonly string[], known: readonly string[]): VersionShare[] {
  if (specs.length === 0 || specs.length > SPLIT_VERSIONS_MAX)
    throw new CfnError('CFN_USAGE', `expected 1 to ${SPLIT_VERSIONS_MAX} versions as VERSION@PERCENT`);
  const parsed = specs.map((spec) => {
    const match = SPEC.exec(spec);
    if (match?.[1] === undefined)
      throw new CfnError(
        'CFN_USAGE',
        `expected VERSION@PERCENT with at least 6 digits of the version, have ${spec.slice(0, 80)}`,
      );
    return {
      version: fullVersion(match[1], known),
      percent: match[2] === undefined ? undefined : Number(match[2]),
    };
  });
  const open = parsed.filter(({ percent }) => percent === undefined).length;
  const left = 100 - parsed.reduce((sum, { percent = 0 }) => sum + percent, 0);
  if (left < 0 || (open === 0 && left !== 0))
    throw new CfnError('CFN_USAGE', `the percentages make ${100 - left}, expected 100`);
  let first = true;
  return parsed.map(({ version, percent }) => {
    if (percent !== undefined) return { version, percent };
    const share = Math.floor(left / open) + (first ? left % open : 0);
    first = false;
    return { version, percent: share };
  });
}

/** The one version that begins so. @throws {CfnError} `CFN_USAGE` */
export function fullVersion(start: string, known: readonly string[]): string {
  const found = known.filter((version) => version.startsWith(start));
  const [only] = found;
  if (only !== undefined && found.length === 1) return only;
  const what = found.length === 0 ? 'no version begins' : `${found.length} versions begin`;
  throw new CfnError('CFN_USAGE', `${what} with ${start.slice(0, 64)}; see \`cfn versions list\``);
}
