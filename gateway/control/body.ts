import type { z } from 'zod';
import { CfnError, fromUtf8 } from '../../proto/index.ts';
import type { AppContext } from '../context.ts';

/** The whole body. @throws {CfnError} `CFN_BODY_TOO_LARGE` as soon as it is over the limit */
export async function bodyBytes(c: AppContext, bytesMax: number): Promise<Uint8Array<ArrayBuffer>> {
  const tooLarge = new CfnError('CFN_BODY_TOO_LARGE', `this call takes at most ${bytesMax} bytes`);
  if (Number(c.req.header('content-length')) > bytesMax) throw tooLarge;
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of uploaded(c)) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw tooLarge;
    chunks.push(chunk);
  }
  return new Uint8Array(Buffer.concat(chunks, bytes));
}

/** The body as it comes. A refusal half way leaves the connection whole, so that the caller gets to read it. */
export function uploaded(c: AppContext): AsyncIterable<Buffer> {
  return c.env.incoming.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
}

/** The body as JSON of a schema. @throws {CfnError} `CFN_INPUT_INVALID` with the field that is wrong */
export async function jsonBody<T>(c: AppContext, schema: z.ZodType<T>, bytesMax: number): Promise<T> {
  const bytes = await bodyBytes(c, bytesMax);
  let value: unknown;
  try {
    value = JSON.parse(fromUtf8(bytes));
  } catch (cause) {
    throw new CfnError('CFN_INPUT_INVALID', 'the body is not JSON', { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw new CfnError('CFN_INPUT_INVALID', `${issue?.path.join('.') || 'body'}: ${issue?.message ?? 'invalid'}`);
}
