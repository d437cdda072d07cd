import { endorsementsSchema, EVIDENCE_BYTES_MAX, fromUtf8, type Endorsements } from '../../proto/index.ts';
import { readBoundedFile } from '../../proto/node.ts';
import { refuse } from '../evidence/reasons.ts';

/**
 * Endorsements from a JSON file in the form of evidence's own member `endorsements`. It is read each time, because collateral lives
 * for hours to weeks and whoever fetches it replaces the file.
 *
 * @throws {Refusal} `collect/endorsements`
 */
export function endorsementsFile(path: string): () => Promise<Endorsements> {
  return async () => {
    try {
      return endorsementsSchema.parse(JSON.parse(fromUtf8(await readBoundedFile(path, EVIDENCE_BYTES_MAX))));
    } catch (cause) {
      return refuse('collect/endorsements', `${path} holds no endorsements in the form of evidence's own`, { cause });
    }
  };
}
