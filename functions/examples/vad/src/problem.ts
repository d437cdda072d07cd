/** Why a request was not heard. Codes are API; details are not. */
const PROBLEMS = {
  EXAMPLE_METHOD: { status: 405, title: 'Send the recording with POST' },
  EXAMPLE_TOO_LARGE: { status: 413, title: 'The recording is too large' },
  EXAMPLE_NOT_A_WAV: { status: 415, title: 'The body is not a WAV file of 16-bit PCM at 8 or 16 kHz' },
} as const;

export type ProblemCode = keyof typeof PROBLEMS;

/** A refusal that the caller sees. The detail says what was expected and what came, never a sample of the recording. */
export class RecordingRefused extends Error {
  override readonly name = 'RecordingRefused';
  readonly code: ProblemCode;

  constructor(code: ProblemCode, detail: string) {
    super(detail);
    this.code = code;
  }
}

/** The refusal as problem details (RFC 9457) with a stable `code`. */
export function problemResponse({ code, message }: RecordingRefused): Response {
  const { status, title } = PROBLEMS[code];
  const problem = { type: `urn:cfn:example:${code}`, title, status, detail: message, code };
  const headers: Record<string, string> = { 'content-type': 'application/problem+json' };
  if (status === 405) headers['allow'] = 'POST';
  return new Response(JSON.stringify(problem), { status, headers });
}
