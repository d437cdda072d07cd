import { readFile } from 'node:fs/promises';
import { endorsementsSchema, type Endorsements } from '../../proto/index.ts';
import { refuse } from '../evidence/reasons.ts';
import type { SuppliedEndorsements } from './attester.ts';

/** Both, each once. The first one's come first: where the schema's limits cut, the platform's own stay. */
export function mergeEndorsements(first: Endorsements, second: Endorsements): Endorsements {
  return {
    intel: [...first.intel, ...second.intel].slice(0, 2),
    amd: {
      certificates: union(first.amd.certificates, second.amd.certificates, 8),
      crls: union(first.amd.crls, second.amd.crls, 4),
    },
    nvidia: {
      rims: union(first.nvidia.rims, second.nvidia.rims, 32),
      ocsp: union(first.nvidia.ocsp, second.nvidia.ocsp, 128),
      crls: union(first.nvidia.crls, second.nvidia.crls, 16),
    },
  };
}

function union(first: readonly string[], second: readonly string[], max: number): string[] {
  return [...new Set([...first, ...second])].slice(0, max);
}

/**
 * Endorsements from a JSON file in the form of evidence's own member `endorsements`. It is read each time, because collateral lives
 * for hours to weeks and whoever fetches it replaces the file.
 *
 * @throws {Refusal} `collect/endorsements`
 */
export function endorsementsFile(path: string): SuppliedEndorsements {
  return async () => {
    try {
      return endorsementsSchema.parse(JSON.parse(await readFile(path, 'utf8')));
    } catch (cause) {
      return refuse('collect/endorsements', `${path} holds no endorsements in the form of evidence's own`, { cause });
    }
  };
}
