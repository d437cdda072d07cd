import type { Context } from 'hono';
import type { z } from 'zod';
import { CfnError, concatBytes, fromUtf8, toProblem } from '../proto/index.ts';

/**
 * Reads a JSON body of at most `bytesMax` bytes into a typed value.
 *
 * @throws {CfnError} `CFN_BODY_TOO_LARGE`; `CFN_INPUT_INVALID` naming the first wrong field, `CFN_EVIDENCE_MALFORMED` when that
 *   is in `evidence`
 */
export async function readJson<T>(c: Context, schema: z.ZodType<T>, bytesMax: number): Promise<T> {
  const bytes = await readBody(c, bytesMax);
  let value: unknown;
  try {
    value = JSON.parse(fromUtf8(bytes));
  } catch (cause) {
    throw new CfnError('CFN_INPUT_INVALID', 'the body is not JSON', { cause });
  }
  return parseInput(schema, value, 'body');
}

/** @throws {CfnError} as {@link readJson} */
export function parseInput<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const code = issue?.path[0] === 'evidence' ? 'CFN_EVIDENCE_MALFORMED' : 'CFN_INPUT_INVALID';
  throw new CfnError(code, `${[what, ...(issue?.path ?? [])].join('.')}: ${issue?.message ?? 'invalid'}`.slice(0, 300));
}

async function readBody(c: Context, bytesMax: number): Promise<Uint8Array> {
  const tooLarge = (): CfnError => new CfnError('CFN_BODY_TOO_LARGE', `the body is over ${bytesMax} bytes`);
  if (Number(c.req.header('content-length') ?? 0) > bytesMax) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let length = 0;
  // Counted as it arrives: the length header is the sender's word.
  for await (const chunk of (c.req.raw.body ?? []) as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > bytesMax) throw tooLarge();
    chunks.push(chunk);
  }
  return concatBytes(...chunks);
}

export function problemResponse(error: CfnError): Response {
  return new Response(JSON.stringify(toProblem(error)), {
    status: error.status,
    headers: { 'content-type': 'application/problem+json' },
  });
}
