import { fileURLToPath } from 'node:url';
import { measureFolders } from '../attestation/insecure/index.ts';

const folder = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url));

/** SIMULATED MRTD: a digest over the sources that run in the worker, so that another worker has another measurement. 48 bytes. */
export function measureWorker(): Promise<Uint8Array> {
  return measureFolders(['proto', 'attestation', 'artifacts', 'runtime'].map(folder));
}
