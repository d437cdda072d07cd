import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { calculateJwkThumbprint, type JWK } from 'jose';
import { startLocal, startService, type LocalSystem } from '../deploy/index.ts';

/**
 * Two owners with a KMS each, two tenants, one operator: grant, use, meter, revoke. Everything is a process of its own, and said with `cfn` as
 * a person would; the TEE is SIMULATED. `test/transcripts/marketplace.txt` is what it prints.
 */

const root = fileURLToPath(new URL('..', import.meta.url));
const models = join(root, 'node_modules/@ricky0123/vad-web/dist');
const stateDir = mkdtempSync(join(tmpdir(), 'cfn-marketplace-'));

/** Who speaks: a folder, and an environment with tokens of their own. */
interface Party {
  /** Runs `cfn`, tells of it, and gives what it printed. */
  readonly cfn: (...command: string[]) => Promise<string>;
  /** Runs it without a word, and gives all of it. */
  readonly quiet: (...command: string[]) => Promise<Said>;
}
interface Said {
  readonly answer: string;
  readonly errors: readonly string[];
  readonly code: number | null;
}

function party(name: string, env: Record<string, string>): Party {
  const cwd = join(stateDir, name);
  mkdirSync(cwd, { recursive: true });
  const all = { PATH: process.env['PATH'] ?? '', HOME: cwd, CFN_AUTHOR_KEY: join(cwd, 'author.jwk'), ...env };
  async function quiet(...command: string[]): Promise<Said> {
    const child = spawn(process.execPath, [join(root, 'cli/main.ts'), ...command], { cwd, env: all, stdio: 'pipe' });
    child.stdin.end();
    let [answer, noted] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => (answer += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (noted += text));
    const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
    return { answer, errors: noted.split('\n').filter((line) => line.startsWith('cfn:')), code }; // the rest is progress
  }
  return {
    quiet,
    async cfn(...command) {
      const { answer, errors, code } = await quiet(...command);
      say(`${name} $ cfn ${command.join(' ')}`);
      for (const line of answer.split('\n').slice(0, -1)) say(`  ${line}`);
      for (const line of errors) say(`! ${line}`);
      if (code !== 0) say(`? ${code}`);
      return answer;
    },
  };
}
const say = (text = ''): void => console.log(text);

async function main(): Promise<void> {
  say('SIMULATED: this machine has no TEE. The evidence is genuine in form, and proves nothing about hardware.');
  const local = await startLocal({ stateDir: join(stateDir, 'operator') });
  const zooKms = await startKms('zoo-kms', local.config.policy);
  try {
    await trade(local, zooKms);
  } finally {
    await zooKms.stop();
    await local.stop();
    rmSync(stateDir, { recursive: true, force: true });
  }
}

const startKms = (name: string, policy: string) =>
  startService<{ readonly url: string }>({
    name,
    entry: new URL('../kms/main.ts', import.meta.url),
    args: [`--state=${join(stateDir, name)}`, `--policy=${policy}`],
  });

async function trade(local: LocalSystem, zooKms: { readonly ready: { readonly url: string } }): Promise<void> {
  const { gateway, policy } = local.config;
  const common = { CFN_GATEWAY: gateway, CFN_POLICY: policy };
  const tokenOf = async (tenant: string): Promise<string> => {
    await post(`${gateway}/v1/tenants`, local.operatorToken, { name: tenant });
    const body = { tenant, role: 'tenant', ttlSeconds: 3600 };
    return String((await post(`${gateway}/v1/tokens`, local.operatorToken, body))['token']);
  };
  const adminOf = (folder: string): string => readFileSync(join(stateDir, folder, 'admin.token'), 'utf8').trim();

  say(
    '\n# The operator has a gateway and a worker. Two owners of models have a KMS each; they trust nobody with their keys but it.',
  );
  const operator = party('operator', { ...common, CFN_TOKEN: local.operatorToken });
  const kmsOf = { acme: local.kmsUrl, zoo: zooKms.ready.url };
  const ownerOf = async (name: 'acme' | 'zoo', folder: string): Promise<Party> => {
    const admin = party(`${name}-admin`, { CFN_KMS: kmsOf[name], CFN_KMS_TOKEN: adminOf(folder) });
    const kmsToken = (await admin.cfn('kms', 'owner', 'add', name)).trim();
    return party(name, { ...common, CFN_TOKEN: await tokenOf(name), CFN_KMS: kmsOf[name], CFN_KMS_TOKEN: kmsToken });
  };
  const acme = await ownerOf('acme', 'operator/kms');
  const zoo = await ownerOf('zoo', 'zoo-kms');

  say('\n# Each encrypts a model at home. The operator gets ciphertext.');
  await acme.cfn('model', 'push', join(models, 'silero_vad_v5.onnx'), '--name', 'acme/vad@5');
  await zoo.cfn('model', 'push', join(models, 'silero_vad_v6.onnx'), '--name', 'zoo/vad@6');

  say('\n# Two tenants write functions on them. Nothing is granted yet: the missing consent is the owner’s.');
  const north = party('north', { ...common, CFN_TOKEN: await tokenOf('north') });
  const south = party('south', { ...common, CFN_TOKEN: await tokenOf('south') });
  writeProject('north', 'listen', [['VAD', 'acme/vad@5']]);
  writeProject('south', 'compare', [
    ['VAD', 'acme/vad@5'],
    ['OTHER', 'zoo/vad@6'],
  ]);
  await north.cfn('deploy');
  await south.cfn('deploy');

  say('\n# Grant: to a function by name and by its author’s key, on what hardware, how often.');
  const authors = { north: await thumbprint('north'), south: await thumbprint('south') };
  const terms = ['--tee', 'simulated', '--lease', '10m'];
  const toNorth = ['--to', 'north/listen', '--author', authors.north, '--max-invocations', '2'];
  await acme.cfn('model', 'grant', 'acme/vad@5', ...toNorth, ...terms);
  await acme.cfn('model', 'grant', 'acme/vad@5', '--to', 'south/compare', '--author', authors.south, ...terms);
  await north.cfn('deploy');
  await south.cfn('deploy');

  say('\n# Two models need two consents.');
  await zoo.cfn('model', 'grant', 'zoo/vad@6', '--to', 'south/compare', '--author', authors.south, ...terms);
  await south.cfn('deploy');

  say('\n# Use.');
  await north.cfn('invoke', 'north/listen');
  await south.cfn('invoke', 'south/compare');
  await north.cfn('invoke', 'north/listen');

  say('\n# Meter: a third one is over what acme granted to north; to south it granted more.');
  await north.cfn('invoke', 'north/listen');
  await south.cfn('invoke', 'south/compare');
  await until(acme, ['model', 'show', 'acme/vad@5'], /used 2 of 2 times, 0 with workers/);
  await acme.cfn('model', 'show', 'acme/vad@5');
  say('# What the operator counted, from signed receipts:');
  const { usage } = (await get(`${gateway}/v1/usage`, local.operatorToken)) as { usage: Usage[] };
  for (const { subject, requests, failed } of usage)
    say(`  ${subject}: ${requests} requests, ${failed} of them failed`);

  say('\n# The caller consents, too: this one takes real hardware only, and nothing is sent.');
  const strict = join(root, 'attestation/policies/cpu-only.toml');
  await south.cfn('invoke', 'south/compare', '--policy', strict);

  say('\n# The operator need not serve everything.');
  await operator.cfn('gateway', 'dismiss', 'south/compare');
  await south.cfn('invoke', 'south/compare');
  await operator.cfn('gateway', 'admit', 'south/compare');

  say(
    '\n# Revoke: within seconds the running worker has no weights of it any more. North is none the wiser, nor is acme.',
  );
  const { answer } = await zoo.quiet('model', 'show', 'zoo/vad@6', '--json');
  const shown = JSON.parse(answer) as { grants: { id: string }[] };
  await zoo.cfn('model', 'revoke', 'zoo/vad@6', '--grant', shown.grants[0]?.id ?? '');
  await until(south, ['invoke', 'south/compare'], /CFN_GRANT_MISSING/);
  await south.cfn('invoke', 'south/compare');

  say('\n# Every decision is in a log that its owner verifies.');
  await acme.cfn('kms', 'audit', 'verify');
  await zoo.cfn('kms', 'audit', 'verify');
}

interface Usage {
  readonly subject: string;
  readonly requests: number;
  readonly failed: number;
}

function writeProject(tenant: string, name: string, bound: readonly (readonly [string, string])[]): void {
  const folder = join(stateDir, tenant);
  mkdirSync(join(folder, 'src'), { recursive: true });
  const bindings = bound.map(([binding, model]) => `[[models]]\nbinding = "${binding}"\nmodel = "${model}"\n`);
  writeFileSync(
    join(folder, 'wrangler-style.toml'),
    `name = "${name}"\nmain = "src/index.ts"\ncompatibility_date = "2026-11-01"\n${bindings.join('')}`,
  );
  writeFileSync(
    join(folder, 'src/index.ts'),
    `const silence = () => ({
       input: new Tensor('float32', new Float32Array(576), [1, 576]),
       state: new Tensor('float32', new Float32Array(256), [2, 1, 128]),
       sr: new Tensor('int64', BigInt64Array.of(16000n), []),
     });
     export default {
       async fetch(_request, env) {
         const said = [];
         for (const name of ${JSON.stringify(bound.map(([binding]) => binding))}) {
           const { output } = await env[name].run(silence());
           said.push(name + ' hears ' + (output.data[0] > 0.5 ? 'speech' : 'silence'));
         }
         return new Response(said.join(', ') + '\\n');
       },
     };`,
  );
}

/** What workers state, and what reaches them, takes a moment. */
async function until(who: Party, command: readonly string[], wanted: RegExp): Promise<void> {
  for (let attempt = 0; attempt < 40; attempt++) {
    const { answer, errors } = await who.quiet(...command);
    if (wanted.test(answer) || errors.some((line) => wanted.test(line))) return;
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

/** By which grants name an author; the tenants tell the owners. */
async function thumbprint(tenant: string): Promise<string> {
  const { kty, crv, x } = JSON.parse(readFileSync(join(stateDir, tenant, 'author.jwk'), 'utf8')) as JWK;
  return calculateJwkThumbprint({ kty, crv, x } as JWK);
}

async function call(url: string, token: string, init: RequestInit): Promise<Record<string, unknown>> {
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` };
  const response = await fetch(url, { ...init, headers });
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  return (await response.json()) as Record<string, unknown>;
}
const post = (url: string, token: string, body: object): Promise<Record<string, unknown>> =>
  call(url, token, { method: 'POST', body: JSON.stringify(body) });
const get = (url: string, token: string): Promise<Record<string, unknown>> => call(url, token, {});

await main();
