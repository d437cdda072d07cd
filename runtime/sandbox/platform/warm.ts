import { encodeRequest } from '../../../proto/bhttp.ts';
import type { Request } from './request.ts';
import { Response } from './response.ts';

/** A made-up request, for the warm-up: binary HTTP. */
export function warmRequest(): ArrayBuffer {
  const headers = [['content-type', 'text/plain'] as const];
  const head = { method: 'POST', scheme: 'https', authority: 'warm.invalid', path: '/up?a=b', headers };
  return encodeRequest({ ...head, body: new TextEncoder().encode('{"a":"\u00e9"}') }).buffer;
}

/** What most handlers do. */
export async function warmHandler(request: unknown): Promise<Response> {
  const { method, url, headers, ...rest } = request as Request;
  const copy = (request as Request).clone();
  const text = `${method} ${url} ${headers.get('content-type')} ${Object.keys(rest).length} ${await copy.text()}`;
  return Response.json([text, await (request as Request).json()], { status: 201, headers: { 'cfn-warm': '1' } });
}

/** The other ways to read a body. */
export async function warmBodies(): Promise<void> {
  await new Response('a').arrayBuffer();
  await new Response(new Uint8Array(1)).text();
}
