import { createReadStream } from 'node:fs';
import { concatBytes } from './bytes.ts';
import { CfnError } from './errors.ts';

/**
 * Reads a whole file of at most so many bytes. The size that the file system names is no bound: devices and pipes have none.
 *
 * @throws {CfnError} `CFN_INPUT_INVALID` when it is longer, or cannot be read
 */
export async function readBoundedFile(path: string, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of createReadStream(path, { end: bytesMax }) as AsyncIterable<Uint8Array>) {
      chunks.push(chunk);
      size += chunk.length;
    }
  } catch (cause) {
    throw new CfnError('CFN_INPUT_INVALID', `${path} cannot be read`, { cause });
  }
  if (size > bytesMax) throw new CfnError('CFN_INPUT_INVALID', `${path} has more than ${bytesMax} bytes`);
  return concatBytes(...chunks);
}
