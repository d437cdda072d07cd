import { concatBytes } from '../../proto/index.ts';

/**
 * The body of an answer from a service that a manifest names, which may be anybody's: it could be without end, or small and packed.
 *
 * @param bytesMax after unpacking
 * @param tooLong what is thrown beyond that; the rest is not read
 */
export async function readAnswer(
  response: Response,
  bytesMax: number,
  tooLong: (bytesMax: number) => Error,
): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of response.body ?? []) {
    length += piece.length;
    if (length > bytesMax) throw tooLong(bytesMax);
    pieces.push(piece);
  }
  return concatBytes(...pieces);
}
