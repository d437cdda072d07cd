import { utf8 } from './bytes.ts';
import { sha256Hex } from './hash.ts';

/** Versions that one function has deployed at a time: the one that serves, and the one that is being rolled out. */
export const SPLIT_VERSIONS_MAX = 2;
/** Longest `cfn-version-key`, in characters. */
export const VERSION_KEY_CHARS_MAX = 256;

/** A version, and how many of a hundred requests it gets. */
export interface VersionShare {
  readonly version: string;
  /** 0 to 100, whole; those of one deployment make 100. */
  readonly percent: number;
}

/**
 * The version that has this point of [0, 100). Versions have their places by digest, whatever order they are given in, so that while one's
 * percentage grows, no point goes from it to another.
 */
export function versionAt<T extends VersionShare>(split: readonly T[], point: number): T | undefined {
  let end = 0;
  const placed = split.toSorted((a, b) => (a.version < b.version ? -1 : 1));
  for (const share of placed) {
    end += share.percent;
    if (point < end) return share;
  }
  return placed.findLast(({ percent }) => percent > 0);
}

/** Where callers with this key are, in [0, 100): always at the same point of one function. */
export async function stickyPoint(functionName: string, key: string): Promise<number> {
  const digest = await sha256Hex(utf8(`cfn/version-key/v1\n${functionName}\n${key}`));
  return (Number.parseInt(digest.slice(0, 12), 16) / 2 ** 48) * 100;
}
