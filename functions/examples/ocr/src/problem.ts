/** Why a request was not read. Codes are API; details are not. */
const PROBLEMS = {
  EXAMPLE_METHOD: { status: 405, title: 'Send the image with POST' },
  EXAMPLE_TOO_LARGE: { status: 413, title: 'The image is too large' },
  EXAMPLE_NOT_AN_IMAGE: { status: 415, title: 'The body is not a JPEG or PNG image' },
} as const;

export type ProblemCode = keyof typeof PROBLEMS;

/** A refusal that the caller sees. The detail says what was expected and what came, never a byte of the image. */
export class ImageRefused extends Error {
  override readonly name = 'ImageRefused';
  readonly code: ProblemCode;

  constructor(code: ProblemCode, detail: string, options?: ErrorOptions) {
    super(detail, options);
    this.code = code;
  }
}

/** The refusal as problem details (RFC 9457) with a stable `code`. */
export function problemResponse({ code, message }: ImageRefused): Response {
  const { status, title } = PROBLEMS[code];
  const problem = { type: `urn:cfn:example:${code}`, title, status, detail: message, code };
  const headers: Record<string, string> = { 'content-type': 'application/problem+json' };
  if (status === 405) headers['allow'] = 'POST';
  return new Response(JSON.stringify(problem), { status, headers });
}
