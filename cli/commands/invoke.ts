import { readFile, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { confidentialFetch, type Confidentiality } from '../../client/index.ts';
import {
  CfnError,
  concatBytes,
  fromProblem,
  fromUtf8,
  REQUEST_BYTES_MAX,
  RESPONSE_BYTES_MAX,
  toBase64url,
} from '../../proto/index.ts';
import { nodeHasher, nodeSuite } from '../../proto/node.ts';
import type { Cli } from '../context.ts';
import { parseFunctionName } from '../function-name.ts';
import { readPolicy } from '../policy.ts';
import { writeResultFile } from '../result-file.ts';
import { need, resolveSettings, settingOptions, type Settings } from '../settings.ts';
import { trustJson } from '../trust-report.ts';

export function register(program: Command, cli: Cli): void {
  const command = program
    .command('invoke')
    .description(
      'Call a function. The request is sealed to a worker that holds under your policy; --open lets the gateway see it',
    )
    .argument('<tenant/function>', 'the function')
    .argument('[path]', 'path and query that the function sees', '/')
    .option('-d, --data <text|@file|->', 'request body: text, a file, or - for stdin')
    .option('-X, --method <method>', 'GET without a body, POST with one')
    .addOption(
      new Option('-H, --header <name: value>', 'header field, any number of times').argParser(
        (value: string, all: string[] | undefined) => [...(all ?? []), value],
      ),
    )
    .option('--open', 'send it to the gateway in the open, where the function allows that')
    .option('--receipt-out <file>', 'write the receipt here, for `cfn receipt verify`')
    .option('--pin <version>', 'refuse any other version of the function')
    .option('--relay <url>', 'go through this OHTTP relay: the gateway then does not see your address')
    .action((name: string, path: string, options: InvokeOptions) => invoke(name, path, options, cli));
  settingOptions(command, 'gateway', 'policy', 'token');
}

interface InvokeOptions {
  readonly data?: string;
  readonly method?: string;
  readonly header?: readonly string[];
  readonly open?: boolean;
  readonly receiptOut?: string;
  readonly pin?: string;
  readonly relay?: string;
}

/** An answer, however it came. */
interface Answer {
  readonly response: Response;
  /** Resolves after the body was read. `outcome` is what a verified receipt says. */
  readonly receipt: () => Promise<{ readonly jws: string; readonly outcome?: string } | undefined>;
  readonly trust: object;
  readonly summary: readonly string[];
}

async function invoke(name: string, path: string, options: InvokeOptions, cli: Cli): Promise<void> {
  const { context, output } = cli;
  parseFunctionName(name);
  const settings = await resolveSettings({ ...options }, context);
  const body = await readBody(options.data, cli);
  const init: RequestInit = {
    method: options.method ?? (body === undefined ? 'GET' : 'POST'),
    headers: parseHeaders(options.header ?? []),
    ...(body === undefined ? {} : { body }),
    signal: context.ended,
  };
  const call = options.open === true ? callOpen : callSealed;
  const { response, receipt, trust, summary } = await call(name, path.startsWith('/') ? path : `/${path}`, init, {
    options,
    settings,
    cli,
  });

  const bytes = await readAnswer(response, output.json ? undefined : (chunk) => void context.stdout.write(chunk));
  const { jws, outcome } = (await receipt()) ?? {};
  if (options.receiptOut !== undefined && jws !== undefined)
    await writeResultFile({ cwd: context.cwd, file: options.receiptOut }, `${jws}\n`);
  if (output.json)
    output.result(
      { status: response.status, headers: [...response.headers], ...bodyJson(bytes), receipt: jws ?? null, trust },
      [],
    );
  if (!output.json && context.stdout.isTTY === true && bytes.at(-1) !== 0x0a) context.stdout.write('\n');
  for (const line of [`status ${response.status}`, ...summary]) output.note(line);

  // The function's own status is its answer; a refusal of gateway or worker is our error. Under seal the receipt tells the two
  // apart, as a function could write a problem that looks like ours.
  const isProblem = response.headers.get('content-type')?.startsWith('application/problem+json') === true;
  const problem = isProblem && outcome !== 'ok' ? problemOf(bytes) : undefined;
  if (problem !== undefined) throw problem;
}

interface Call {
  readonly options: InvokeOptions;
  readonly settings: Settings;
  readonly cli: Cli;
}

async function callSealed(
  name: string,
  path: string,
  init: RequestInit,
  { options, settings, cli: { context, output } }: Call,
): Promise<Answer> {
  const endpoint = need(settings, 'gateway');
  const policy = await readPolicy(need(settings, 'policy'));
  const step = output.step('verifying a worker and sealing the request to it');
  const call = await confidentialFetch({
    endpoint,
    function: name,
    policy,
    fetch: context.fetch,
    now: context.now,
    suite: nodeSuite,
    hasher: nodeHasher,
    ...(options.pin === undefined ? {} : { version: options.pin }),
    ...(options.relay === undefined ? {} : { relay: options.relay }),
    ...(settings.token === undefined ? {} : { token: settings.token }),
  });
  const response = await call(path, init);
  step.done();
  const { worker, receipt, keyExchange } = response.confidentiality;
  return {
    response,
    receipt: async () => {
      const { jws, receipt: claims } = await receipt;
      return { jws, outcome: claims.outcome };
    },
    trust: { confidentiality: 'sealed', keyExchange, ...trustJson(worker) },
    summary: sealedSummary(response.confidentiality),
  };
}

function sealedSummary({ worker, keyExchange }: Confidentiality): string[] {
  const { simulated, tee, workerId, findings } = worker;
  const passed = findings.filter(({ outcome }) => outcome === 'passed').length;
  return [
    simulated
      ? `SIMULATED worker ${workerId.slice(0, 16)}…: no hardware vouches for it`
      : `${tee.toUpperCase()} worker ${workerId.slice(0, 16)}…, vouched for by hardware`,
    `sealed end to end with ${keyExchange}; ${passed} checks passed, ${findings.length - passed} not made (\`cfn verify\` lists them); receipt verified`,
  ];
}

/** The gateway verifies, seals and reads: the user said so. Its word is all there is, so no check is claimed. */
async function callOpen(
  name: string,
  path: string,
  init: RequestInit,
  { options, settings, cli: { context } }: Call,
): Promise<Answer> {
  if (options.pin !== undefined)
    throw new CfnError('CFN_USAGE', '--pin needs a sealed request: in the open, nothing proves the version');
  if (options.relay !== undefined)
    throw new CfnError('CFN_USAGE', '--relay needs a sealed request: a relay forwards nothing in the open');
  const endpoint = need(settings, 'gateway');
  // Not in `authorization`, which a function that demands no token would get to read.
  const headers = new Headers(init.headers);
  if (settings.token !== undefined) headers.set('cfn-authorization', `Bearer ${settings.token}`);
  let response: Response;
  try {
    response = await context.fetch(new URL(`/f/${name}${path}`, endpoint), { ...init, headers, redirect: 'manual' });
  } catch (cause) {
    if (context.ended.aborted) throw new CfnError('CFN_ABORTED', 'ended by the user', { cause });
    throw new CfnError('CFN_GATEWAY_UNREACHABLE', `${endpoint}: no answer`, { cause });
  }
  const id = response.headers.get('cfn-request-id') ?? '';
  const tee = response.headers.get('cfn-tee') ?? 'unknown';
  return {
    response,
    receipt: () => fetchReceipt(endpoint, id, context),
    trust: {
      confidentiality: response.headers.get('cfn-confidentiality'),
      tee,
      simulated: tee === 'simulated',
      requestId: id,
    },
    summary: [
      `OPEN: the gateway saw request and answer; TEE as the gateway says: ${tee === 'simulated' ? 'SIMULATED' : tee}`,
      ...(id === '' ? [] : [`request id ${id}`]),
    ],
  };
}

/** A receipt is kept once the request is done; when the gateway has none, there is none to write. */
async function fetchReceipt(
  endpoint: string,
  id: string,
  { fetch }: Cli['context'],
): Promise<{ jws: string } | undefined> {
  if (!/^[0-9a-f]{32}$/.test(id)) return undefined;
  const response = await fetch(new URL(`/.well-known/cfn/receipts/${id}`, endpoint)).catch(() => undefined);
  return response?.ok === true ? { jws: (await response.text()).trim() } : undefined;
}

async function readBody(
  data: string | undefined,
  { context }: Cli,
): Promise<Uint8Array<ArrayBuffer> | string | undefined> {
  const tooLarge = (): CfnError => new CfnError('CFN_BODY_TOO_LARGE', `the body is over ${REQUEST_BYTES_MAX} bytes`);
  if (data === '-') {
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    for await (const piece of context.stdin) {
      bytes += piece.length;
      if (bytes > REQUEST_BYTES_MAX) throw tooLarge();
      pieces.push(piece);
    }
    return concatBytes(...pieces);
  }
  if (data?.startsWith('@') !== true) return data;
  const file = resolve(context.cwd, data.slice(1));
  try {
    if ((await stat(file)).size > REQUEST_BYTES_MAX) throw tooLarge();
    return new Uint8Array(await readFile(file));
  } catch (cause) {
    if (cause instanceof CfnError) throw cause;
    throw new CfnError(
      'CFN_USAGE',
      `--data: cannot read ${file}: ${(cause as NodeJS.ErrnoException).code ?? 'unknown'}`,
      { cause },
    );
  }
}

function parseHeaders(lines: readonly string[]): Headers {
  const headers = new Headers();
  for (const line of lines) {
    const colon = line.indexOf(':');
    try {
      if (colon < 1) throw new Error('no colon');
      headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
    } catch {
      throw new CfnError('CFN_USAGE', '-H: expected "name: value"'); // without the line: it may hold a credential
    }
  }
  return headers;
}

async function readAnswer(response: Response, onChunk?: (chunk: Uint8Array) => void): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  for await (const piece of response.body ?? []) {
    bytes += piece.length;
    if (bytes > RESPONSE_BYTES_MAX)
      throw new CfnError('CFN_LIMIT_RESPONSE', `the answer is over ${RESPONSE_BYTES_MAX} bytes`);
    pieces.push(piece);
    onChunk?.(piece);
  }
  return concatBytes(...pieces);
}

/** `body` when it is text, `bodyBase64url` when not. */
function bodyJson(bytes: Uint8Array): object {
  try {
    return { body: fromUtf8(bytes) };
  } catch {
    return { bodyBase64url: toBase64url(bytes) };
  }
}

function problemOf(bytes: Uint8Array): CfnError | undefined {
  try {
    return fromProblem(JSON.parse(fromUtf8(bytes)));
  } catch {
    return undefined; // An answer of the function that only looks like one.
  }
}
