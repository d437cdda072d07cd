import { CfnError, stickyPoint, versionAt } from '../proto/index.ts';
import type { OfferedVersion } from './attestation.ts';

/**
 * The version that one request is sealed for. Whoever seals chooses, because nobody else sees what is inside: by chance, as the gateway
 * says that requests are split, or always the same one for a key. Only versions that a worker of `holding` can serve are chosen.
 *
 * @param functionName `tenant/name`
 * @param holding ids of workers that hold under the caller's policy
 * @throws {CfnError} `CFN_WORKER_UNAVAILABLE`
 */
export async function chooseVersion(
  offered: readonly OfferedVersion[],
  functionName: string,
  key: string | undefined,
  holding: Iterable<string>,
): Promise<OfferedVersion> {
  const ids = [...holding];
  const possible = offered.filter(({ workers }) => ids.some((id) => workers.has(id)));
  const [only] = possible;
  if (only === undefined)
    throw new CfnError('CFN_WORKER_UNAVAILABLE', 'no worker that holds serves a version of the function');
  if (possible.length === 1) return only;
  const shares = possible.map((it) => ({ version: it.manifest.version, percent: it.percent, it }));
  const [random = 0] = crypto.getRandomValues(new Uint32Array(1));
  const point = key === undefined ? (random / 2 ** 32) * 100 : await stickyPoint(functionName, key);
  return versionAt(shares, point)?.it ?? only;
}
