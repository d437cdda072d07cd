import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { serve } from '@hono/node-server';
import { appraise, parseWorkerPolicy, policyDigest } from '../attestation/verifier/index.ts';
import { CfnError, EXIT_CODES, toCfnError } from '../proto/index.ts';
import { readPolicyFile } from '../proto/node.ts';
import { createKms } from './app.ts';
import { openChallenges } from './challenges.ts';
import { openKeyring } from './keyring.ts';
import { CONNECTIONS_MAX, REQUEST_ARRIVES_MS_MAX } from './limits.ts';
import { openRootKey } from './root-key.ts';
import { openSealingKey } from './sealing-key.ts';
import { sqliteStore } from './sqlite-store.ts';
import { openAdminToken } from './tokens.ts';

// The key management service: kms/main.ts --state DIR --listen HOST:PORT --policy FILE

const now = (): Date => new Date();
const log = (entry: object): void =>
  void process.stderr.write(`${JSON.stringify({ time: now().toISOString(), service: 'kms', ...entry })}\n`);

try {
  await start(process.argv.slice(2));
} catch (cause) {
  const error = toCfnError(cause);
  log({ event: 'refused to start', code: error.code, message: error.message, remedy: error.remedy });
  process.exitCode = error.code === 'CFN_INTERNAL' ? 1 : EXIT_CODES[error.fault];
}

async function start(argv: readonly string[]): Promise<void> {
  const { state, listen, policyFile } = parseFlags(argv);
  const policy = parseWorkerPolicy(await readPolicyFile(policyFile));
  process.umask(0o077); // SQLite's files, too, are nobody else's to read
  makeFolder(state);
  const keyringFile = join(state, 'keyring.sqlite');
  const rootKey = openRootKey(join(state, 'root.key'), { keyringExists: existsSync(keyringFile), randomBytes });
  const adminTokenDigest = openAdminToken(join(state, 'admin.token'), randomBytes);
  const store = sqliteStore(keyringFile);
  const keyring = openKeyring(rootKey, randomBytes);
  const sealingKey = await openSealingKey(store, keyring);
  const challenges = openChallenges({ now, randomBytes });
  const app = createKms({
    now,
    randomBytes,
    store,
    keyring,
    sealingKey,
    challenges,
    appraise,
    policy,
    adminTokenDigest,
    policyDigest: await policyDigest(policy),
    log: (entry) => log({ event: 'call', ...entry }),
  });

  const serverOptions = { requestTimeout: REQUEST_ARRIVES_MS_MAX, headersTimeout: REQUEST_ARRIVES_MS_MAX };
  const server = serve({ fetch: app.fetch, hostname: listen.host, port: listen.port, serverOptions }, (address) => {
    const url = `http://${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${address.port}`;
    process.stdout.write(`${JSON.stringify({ ready: true, url, publicKey: sealingKey.publicKey })}\n`);
  }) as Server;
  server.maxConnections = CONNECTIONS_MAX;
  server.on('error', (error: NodeJS.ErrnoException) => {
    log({ event: 'cannot listen', code: 'CFN_USAGE', message: String(error.code) });
    store.close();
    process.exitCode = EXIT_CODES.caller;
  });
  const stop = (): void => {
    server.close(() => store.close()); // calls under way finish first
    server.closeIdleConnections();
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}

interface Flags {
  readonly state: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly policyFile: string;
}

function parseFlags(argv: readonly string[]): Flags {
  const options = {
    state: { type: 'string' },
    listen: { type: 'string', default: '127.0.0.1:0' },
    policy: { type: 'string' },
  } as const;
  let values: { state?: string; listen: string; policy?: string };
  try {
    values = parseArgs({ args: [...argv], options }).values;
  } catch (cause) {
    throw new CfnError('CFN_USAGE', (cause as Error).message, { cause });
  }
  const { state, listen, policy } = values;
  if (state === undefined || policy === undefined)
    throw new CfnError('CFN_USAGE', 'expected --state DIR and --policy FILE');
  const [, host = '', port = ''] = /^\[?([^\]]+)\]?:(\d{1,5})$/.exec(listen) ?? [];
  if (host === '' || Number(port) > 65_535)
    throw new CfnError('CFN_USAGE', `--listen is ${listen}, expected HOST:PORT`);
  return { state, listen: { host, port: Number(port) }, policyFile: policy };
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new CfnError('CFN_STORE_FAILED', `cannot make the state folder ${path}`, { cause });
  }
}
