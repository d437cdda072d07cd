import { CfnError, fromProblem } from '../proto/index.ts';
import { blobNotFound, checkDigest, verifyDigest, type BlobStore } from './blob-store.ts';

/** How long the store may take to begin its answer to a question without a body, in ms. */
const ANSWER_MS_MAX = 30_000;
/** How often an upload is begun that the store wants begun elsewhere. */
const PUT_ATTEMPTS_MAX = 3;
/** Largest problem document that is read of a refusal, in bytes. */
const PROBLEM_BYTES_MAX = 64 * 1024;

/**
 * Blobs behind HTTP: `HEAD`, `GET`, `PUT` and `PATCH {url}/{digest}` with a bearer token, as the gateway serves them. Uploads that go on where
 * they broke off use the fields of draft-ietf-httpbis-resumable-upload: `Upload-Offset` in the answer to HEAD and in PATCH.
 *
 * @param options.url for example `https://host/v1/blobs`
 */
export function httpBlobStore(options: {
  readonly url: string;
  readonly token: string;
  readonly fetch: typeof globalThis.fetch;
}): BlobStore {
  const base = options.url.replace(/\/+$/, '');
  const ask = async (
    digest: string,
    init: Omit<RequestInit, 'headers'> & { duplex?: 'half'; headers?: Readonly<Record<string, string>> },
    signal?: AbortSignal,
  ): Promise<Response> => {
    const headers = {
      ...init.headers,
      authorization: `Bearer ${options.token}`,
      ...(init.body ? { 'content-type': 'application/octet-stream' } : {}),
    };
    try {
      // A redirect would carry the token elsewhere.
      return await options.fetch(`${base}/${checkDigest(digest)}`, {
        ...init,
        headers,
        redirect: 'error',
        ...(signal ? { signal } : {}),
      });
    } catch (cause) {
      throw cause instanceof CfnError ? cause : unreachable(base, cause);
    }
  };
  const send = async (
    digest: string,
    bytes: AsyncIterable<Uint8Array>,
    init: { method: string; headers?: Readonly<Record<string, string>> },
  ): Promise<void> => {
    // What goes wrong while reading the source is the source's error, not the network's.
    let sourceError: unknown;
    const source = bytes[Symbol.asyncIterator]();
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        try {
          const next = await source.next();
          if (next.done === true) controller.close();
          else controller.enqueue(next.value);
        } catch (error) {
          sourceError = error;
          controller.error(error);
        }
      },
      cancel: async () => void (await source.return?.()),
    });
    let response: Response;
    try {
      response = await ask(digest, { ...init, body, duplex: 'half' });
    } catch (error) {
      throw sourceError instanceof Error ? sourceError : error;
    }
    if (!response.ok) throw await refusalOf(response, digest);
    await response.body?.cancel();
  };
  const getUnverified = async (digest: string): Promise<AsyncIterable<Uint8Array>> => {
    const response = await ask(digest, { method: 'GET' });
    if (!response.ok || response.body === null) throw await refusalOf(response, digest);
    return readBody(response.body, base);
  };
  return {
    async has(digest) {
      const response = await ask(digest, { method: 'HEAD' }, AbortSignal.timeout(ANSWER_MS_MAX));
      if (response.status === 404) return false;
      if (!response.ok) throw await refusalOf(response, digest);
      return true;
    },
    put: (digest, bytes) => send(digest, verifyDigest(digest, bytes), { method: 'PUT' }),
    async putFrom(digest, from) {
      for (let attempt = 1; ; attempt++) {
        const there = await ask(digest, { method: 'HEAD' }, AbortSignal.timeout(ANSWER_MS_MAX));
        if (there.ok) return;
        if (there.status !== 404) throw await refusalOf(there, digest);
        const given = Number(there.headers.get('upload-offset') ?? 0);
        const offset = Number.isSafeInteger(given) && given > 0 ? given : 0;
        try {
          await send(digest, from(offset), { method: 'PATCH', headers: { 'upload-offset': String(offset) } });
          return;
        } catch (error) {
          // The upload that broke off was still being written, or what the store had of it was something else and is given up.
          const code = error instanceof CfnError ? error.code : undefined;
          const again = code === 'CFN_CONFLICT' || (code === 'CFN_ARTIFACT_ALTERED' && offset > 0);
          if (!again || attempt === PUT_ATTEMPTS_MAX) throw error;
        }
      }
    },
    get: async (digest) => verifyDigest(digest, await getUnverified(digest)),
    getUnverified,
  };
}

async function* readBody(body: ReadableStream<Uint8Array>, base: string): AsyncGenerator<Uint8Array> {
  const reader = body.getReader();
  try {
    for (;;) {
      let next: Awaited<ReturnType<typeof reader.read>>;
      try {
        next = await reader.read();
      } catch (cause) {
        throw unreachable(base, cause);
      }
      if (next.done) return;
      yield next.value;
    }
  } finally {
    // A reader that stops early must not leave the connection open; after the end this does nothing.
    await reader.cancel().catch(() => undefined);
  }
}

async function refusalOf(response: Response, digest: string): Promise<CfnError> {
  const text = response.body === null ? '' : await readText(response.body).catch(() => '');
  try {
    const problem = fromProblem(JSON.parse(text));
    if (problem !== undefined) return problem;
  } catch {
    // Not a problem document: the status alone decides.
  }
  if (response.status === 404) return blobNotFound(digest);
  if (response.status === 401) return new CfnError('CFN_TOKEN_INVALID', 'the blob store refuses the token');
  if (response.status === 403)
    return new CfnError('CFN_TOKEN_SCOPE', 'the blob store does not allow this with the token');
  return new CfnError('CFN_BLOB_UNREACHABLE', `the blob store answered ${response.status}`);
}

async function readText(body: ReadableStream<Uint8Array>): Promise<string> {
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of body) {
    text += decoder.decode(chunk, { stream: true });
    if (text.length > PROBLEM_BYTES_MAX) return '';
  }
  return text + decoder.decode();
}

function unreachable(base: string, cause: unknown): CfnError {
  return new CfnError('CFN_BLOB_UNREACHABLE', `no whole answer from the blob store at ${new URL(base).origin}`, {
    cause,
  });
}
