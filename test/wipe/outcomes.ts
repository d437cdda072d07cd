import { processTree } from '../../deploy/index.ts';
import { problemCode, type TestSystem } from '../local-system.ts';
import { program } from './search.ts';

/** Ways in which an invocation can end. */
export const OUTCOMES = ['success', 'exception', 'timeout', 'cpu', 'abort', 'memory', 'engine failure'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** Uses the marker as functions do: text, JSON, bytes, upper case, base64, and tensors, so that it passes through all kinds of process. */
export const SOURCE = `export default { async fetch(request, env) {
  const outcome = request.headers.get('x-outcome');
  const marker = request.headers.get('x-marker');
  const bytes = new Uint8Array(await request.arrayBuffer());
  const text = new TextDecoder().decode(bytes);
  globalThis.kept = [text.toUpperCase(), btoa(text), ' ' + JSON.stringify({ marker, url: request.url })].map((item) => item + marker);
  const samples = new Float32Array(512);
  for (let i = 0; i < 512; i++) samples[i] = bytes[i % bytes.length] / 255;
  const run = () => env.VAD.run({
    input: new Tensor('float32', samples, [1, 512]),
    state: new Tensor('float32', new Float32Array(256), [2, 1, 128]),
    sr: new Tensor('int64', BigInt64Array.of(16000n), []),
  });
  await run();
  if (outcome === 'exception') throw new Error(marker + text);
  if (outcome === 'timeout' || outcome === 'abort') await new Promise(() => setTimeout(() => { throw new Error(marker); }, 60_000));
  if (outcome === 'cpu') for (;;) globalThis.kept.push(text.slice(0, 100) + globalThis.kept.length), globalThis.kept.length > 1000 && globalThis.kept.splice(0);
  if (outcome === 'memory') for (;;) globalThis.kept.push((text + globalThis.kept.length).toUpperCase());
  if (outcome === 'engine failure') for (;;) await run();
  return new Response(bytes, { headers: { 'x-marker': marker } });
} }`;

const CODES: Readonly<Record<Outcome, readonly string[]>> = {
  success: [],
  exception: ['CFN_FUNCTION_THREW'],
  timeout: ['CFN_LIMIT_WALL'],
  cpu: ['CFN_LIMIT_CPU'],
  abort: [],
  memory: ['CFN_LIMIT_MEMORY', 'CFN_SANDBOX_LOST', 'CFN_LIMIT_CPU'],
  'engine failure': ['CFN_ENGINE_LOST', 'CFN_SANDBOX_LOST'], // a function whose engine is lost is started anew
};
const ABORT_MS = 150;
/**
 * A worker whose process has just ended, or that was stopped for a search when the gateway asked for evidence, says to try again. On a busy
 * machine an engine may be killed too late for its call to see it.
 */
const ATTEMPTS = 8;

/** Sends the marker `repeat` times in the body, and in a header and the URL, until the outcome is the one wanted. */
export async function invoke(system: TestSystem, outcome: Outcome, marker: string, repeat: number): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const got = await attemptOnce(system, outcome, marker, repeat);
    if (got === outcome) return;
    if (typeof got === 'string' || (got.status !== 503 && got.code !== 'CFN_LIMIT_WALL') || attempt === ATTEMPTS)
      throw new Error(`${outcome} was answered with ${JSON.stringify(got)}`);
    await new Promise((resolve) => setTimeout(resolve, 200 * attempt));
  }
}

async function attemptOnce(
  system: TestSystem,
  outcome: Outcome,
  marker: string,
  repeat: number,
): Promise<Outcome | { readonly status: number; readonly code: string }> {
  const { gatewayUrl, config } = system.local;
  const body = marker.repeat(repeat);
  const call = fetch(`${gatewayUrl}/f/${config.tenant}/wiped/${marker}?q=${marker}`, {
    method: 'POST',
    body,
    headers: { 'x-marker': marker, 'x-outcome': outcome },
    ...(outcome === 'abort' && { signal: AbortSignal.timeout(ABORT_MS) }),
  });
  const kill = outcome === 'engine failure' ? setTimeout(() => killEngines(system), ABORT_MS) : undefined;
  try {
    const response = await call;
    if (response.status === 200)
      return (await response.text()) === body ? 'success' : { status: 200, code: 'another text' };
    const code = await problemCode(response);
    return CODES[outcome].includes(code) ? outcome : { status: response.status, code };
  } catch (error) {
    if (outcome === 'abort' && error instanceof Error && error.name === 'TimeoutError') return 'abort';
    throw error;
  } finally {
    clearTimeout(kill);
  }
}

function killEngines(system: TestSystem): void {
  for (const pid of processTree(system.local.worker().pid)) {
    try {
      if (program(pid) === 'runtime/engine/main.ts') process.kill(pid, 'SIGKILL');
    } catch {
      continue; // its jail has ended, and it with that
    }
  }
}
