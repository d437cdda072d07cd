import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { serve } from '@hono/node-server';
import { endorseEvidence, vendorServices } from '../attestation/collateral/index.ts';
import { appraise, appraiseClient } from '../attestation/verifier/index.ts';
import { CfnError, EXIT_CODES, toCfnError } from '../proto/index.ts';
import { readPolicyFile } from '../proto/node.ts';
import { createKms } from './app.ts';
import { backUp, restore } from './backup.ts';
import { openChallenges } from './challenges.ts';
import { readCredential } from './credential.ts';
import { CONNECTIONS_MAX, OWNERS_RATED_MAX, REQUEST_ARRIVES_MS_MAX } from './limits.ts';
import { openSessions } from './kbs/sessions.ts';
import { openLeaseFeed } from './lease-feed.ts';
import { openKeyring } from './open-keyring.ts';
import { openManifests } from './known-manifests.ts';
import { openPolicies, parsePolicy } from './policies.ts';
import { openRates } from './rates.ts';
import { openRefusals } from './refusals.ts';
import { openAdminToken } from './tokens.ts';

// The key management service: kms/main.ts --state DIR --listen HOST:PORT --policy FILE --root-key URI --root-key-credential FILE
// --pccs URL --kds URL --rim URL --ocsp URL;
// and its keyring: kms/main.ts backup --state DIR --to FILE, kms/main.ts restore --state DIR --from FILE --root-key URI

const KEYRING = 'keyring.sqlite';
/** The root key, and a file with the PIN of its HSM or the token of its transit service. */
const ROOT_KEY_FLAGS = { 'root-key': { type: 'string' }, 'root-key-credential': { type: 'string' } } as const;

/** Endorsements for clients of the key broker protocol, which bring none. */
const VENDOR_FLAGS = {
  pccs: { type: 'string' },
  kds: { type: 'string' },
  rim: { type: 'string' },
  ocsp: { type: 'string' },
} as const;
/** Time for one answer of a vendor's service, in ms; clients wait meanwhile. */
const VENDOR_MS_MAX = 5_000;

const now = (): Date => new Date();
const log = (entry: object): void =>
  void process.stderr.write(`${JSON.stringify({ time: now().toISOString(), service: 'kms', ...entry })}\n`);

try {
  await main(process.argv.slice(2));
} catch (cause) {
  const error = toCfnError(cause);
  log({ event: 'refused to start', code: error.code, message: error.message, remedy: error.remedy });
  process.exitCode = error.code === 'CFN_INTERNAL' ? 1 : EXIT_CODES[error.fault];
}

async function main([command = '', ...rest]: readonly string[]): Promise<void> {
  process.umask(0o077); // SQLite's files, too, are nobody else's to read
  if (command === 'backup') await runBackup(rest);
  else if (command === 'restore') await runRestore(rest);
  else await start([command, ...rest].filter((flag) => flag !== ''));
}

async function runBackup(argv: readonly string[]): Promise<void> {
  const { state, to } = parseValues(argv, { state: { type: 'string' }, to: { type: 'string' } });
  if (state === undefined || to === undefined) throw new CfnError('CFN_USAGE', 'expected --state DIR and --to FILE');
  backUp(join(state, KEYRING), to);
  process.stdout.write(`${JSON.stringify({ backup: to })}\n`);
}

async function runRestore(argv: readonly string[]): Promise<void> {
  const { state, from, ...root } = parseValues(argv, {
    state: { type: 'string' },
    from: { type: 'string' },
    ...ROOT_KEY_FLAGS,
  });
  if (state === undefined || from === undefined)
    throw new CfnError('CFN_USAGE', 'expected --state DIR and --from FILE');
  makeFolder(state);
  const leasesEnded = await restore(from, join(state, KEYRING), rootKeyUri(state, root), { ...rootKeyDeps(root), now });
  process.stdout.write(`${JSON.stringify({ restored: state, leasesEnded })}\n`);
}

async function start(argv: readonly string[]): Promise<void> {
  const { state, listen, policyFile, root, vendorUrls } = parseFlags(argv);
  const own = await parsePolicy(await readPolicyFile(policyFile));
  makeFolder(state);
  const adminTokenDigest = openAdminToken(join(state, 'admin.token'), randomBytes);
  const vendors = vendorServices({ urls: vendorUrls, fetch, timeoutMs: VENDOR_MS_MAX, now });
  const keyring = await openKeyring(join(state, KEYRING), rootKeyUri(state, root), rootKeyDeps(root));
  const { store, rootKey, sealingKey, auditKey } = keyring;
  const refusals = openRefusals(store, now, OWNERS_RATED_MAX);
  const feed = openLeaseFeed(now);
  store.watchEnds((lease) => feed.tell(lease));
  const app = createKms({
    now,
    randomBytes,
    store,
    rootKey,
    sealingKey,
    auditKey: auditKey.publicKey,
    challenges: openChallenges({ now, randomBytes }),
    appraise,
    manifests: openManifests(),
    kbs: {
      sessions: openSessions({ now, randomBytes }),
      appraiseClient,
      endorse: (evidence, brought) => endorseEvidence(evidence, vendors, brought),
    },
    policies: openPolicies(own, store),
    rates: openRates(now, OWNERS_RATED_MAX),
    refusals,
    feed,
    adminTokenDigest,
    log: (entry) => log({ event: 'call', ...entry }),
  });
  const close = async (): Promise<void> => {
    clearInterval(everyMinute);
    await refusals.flush();
    store.close();
    await rootKey.close();
  };
  // Whoever keeps the logs elsewhere can tell later that an audit log was cut together with its checkpoints.
  const logHeads = async (): Promise<void> => {
    await refusals.flush();
    for (const checkpoint of await store.heads()) log({ event: 'audit checkpoint', checkpoint });
  };
  const everyMinute = setInterval(() => {
    logHeads().catch((error: unknown) => log({ event: 'audit checkpoint', code: toCfnError(error).code }));
  }, 60_000);

  const serverOptions = { requestTimeout: REQUEST_ARRIVES_MS_MAX, headersTimeout: REQUEST_ARRIVES_MS_MAX };
  const server = serve({ fetch: app.fetch, hostname: listen.host, port: listen.port, serverOptions }, (address) => {
    const url = `http://${listen.host.includes(':') ? `[${listen.host}]` : listen.host}:${address.port}`;
    process.stdout.write(`${JSON.stringify({ ready: true, url, publicKey: sealingKey.publicKey })}\n`);
  }) as Server;
  server.maxConnections = CONNECTIONS_MAX;
  server.on('error', (error: NodeJS.ErrnoException) => {
    log({ event: 'cannot listen', code: 'CFN_USAGE', message: String(error.code) });
    void close();
    process.exitCode = EXIT_CODES.caller;
  });
  const stop = (): void => {
    server.close(() => void close()); // calls under way finish first
    feed.close();
    server.closeIdleConnections();
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
}

interface Flags {
  readonly state: string;
  readonly listen: { readonly host: string; readonly port: number };
  readonly policyFile: string;
  readonly root: RootKeyValues;
  readonly vendorUrls: VendorUrls;
}

function parseFlags(argv: readonly string[]): Flags {
  const {
    state,
    listen = '127.0.0.1:0',
    policy,
    pccs,
    kds,
    rim,
    ocsp,
    ...root
  } = parseValues(argv, {
    state: { type: 'string' },
    listen: { type: 'string' },
    policy: { type: 'string' },
    ...VENDOR_FLAGS,
    ...ROOT_KEY_FLAGS,
  });
  if (state === undefined || policy === undefined)
    throw new CfnError('CFN_USAGE', 'expected --state DIR and --policy FILE');
  const [, host = '', port = ''] = /^\[?([^\]]+)\]?:(\d{1,5})$/.exec(listen) ?? [];
  if (host === '' || Number(port) > 65_535)
    throw new CfnError('CFN_USAGE', `--listen is ${listen}, expected HOST:PORT`);
  return {
    state,
    listen: { host, port: Number(port) },
    policyFile: policy,
    root,
    vendorUrls: { pccs, kds, rim, ocsp },
  };
}

function parseValues<Name extends string>(
  argv: readonly string[],
  options: Record<Name, { readonly type: 'string' }>,
): { readonly [K in Name]?: string } {
  try {
    return parseArgs({ args: [...argv], options }).values as { [K in Name]?: string };
  } catch (cause) {
    throw new CfnError('CFN_USAGE', (cause as Error).message, { cause });
  }
}

type VendorUrls = { readonly [K in keyof typeof VENDOR_FLAGS]: string | undefined };
type RootKeyValues = { readonly [K in keyof typeof ROOT_KEY_FLAGS]?: string };

/** Where no root key is named, it is a file in the state folder. */
function rootKeyUri(state: string, root: RootKeyValues): string {
  return root['root-key'] ?? `file:${join(state, 'root.key')}`;
}
function rootKeyDeps(root: RootKeyValues): Parameters<typeof openKeyring>[2] {
  return { randomBytes, fetch, credential: () => readCredential(root['root-key-credential'], process.env) };
}

function makeFolder(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new CfnError('CFN_STORE_FAILED', `cannot make the state folder ${path}`, { cause });
  }
}
