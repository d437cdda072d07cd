import { existsSync } from 'node:fs';
import { mkdir, open, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { exportJWK, generateKeyPair, importJWK, type CryptoKey, type JWK } from 'jose';
import { z } from 'zod';
import { openResultSigner, type ResultSigner } from '../attestation/verifier/index.ts';
import { CfnError } from '../proto/index.ts';
import type { BatchSigner } from './batches.ts';
import { isPair, makeClientCertificate, type ClientCertificate } from './client-certificate.ts';
import { TOKEN_SECONDS_MAX } from './limits.ts';
import { tokens, type Tokens } from './tokens.ts';

export interface GatewayState {
  readonly tokens: Tokens;
  /** Signs attestation results. */
  readonly resultSigner: ResultSigner;
  /** Signs batches of receipts, and nothing else. */
  readonly batchSigner: BatchSigner;
  readonly clientCertificate: ClientCertificate;
  readonly databasePath: string;
  readonly blobFolder: string;
}

export interface StateDependencies {
  readonly now: () => Date;
  readonly randomBytes: (length: number) => Uint8Array;
}

/**
 * The state folder. On the first start it makes `token.secret`, `operator.token`, `worker.token`, `results.jwk`,
 * `batches.jwk`, `client.key` and `client.crt`; later it reads them.
 *
 * @throws {CfnError} `CFN_STORE_FAILED` when a secret file can be read by others, or is broken.
 */
export async function openState(folder: string, { now, randomBytes }: StateDependencies): Promise<GatewayState> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const at = (name: string): string => join(folder, name);

  const secretText = await secretFile(at('token.secret'), async () =>
    Buffer.from(randomBytes(32)).toString('base64url'),
  );
  const secret = Buffer.from(secretText, 'base64url');
  if (secret.length !== 32) throw new CfnError('CFN_STORE_FAILED', 'token.secret does not hold 32 bytes');
  const issuer = tokens(secret, now);
  await secretFile(at('operator.token'), () => issuer.issue({ role: 'operator', sub: 'operator' }, TOKEN_SECONDS_MAX));
  await secretFile(at('worker.token'), () => issuer.issue({ role: 'worker', sub: 'worker' }, TOKEN_SECONDS_MAX));

  const resultKey = await secretFile(at('results.jwk'), newSigningKey);
  const batchKey = parseJwk('batches.jwk', await secretFile(at('batches.jwk'), newSigningKey));
  return {
    tokens: issuer,
    resultSigner: await openResultSigner(parseJwk('results.jwk', resultKey)),
    batchSigner: { key: await importSigningKey('batches.jwk', batchKey), publicJwk: publicOf(batchKey) },
    clientCertificate: await clientCertificate(at, { now, randomBytes }),
    databasePath: at('gateway.sqlite'),
    blobFolder: at('blobs'),
  };
}

async function newSigningKey(): Promise<string> {
  const { privateKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
  return JSON.stringify(await exportJWK(privateKey));
}

function parseJwk(name: string, text: string): JWK {
  try {
    return z.record(z.string(), z.unknown()).parse(JSON.parse(text));
  } catch {
    throw new CfnError('CFN_STORE_FAILED', `${name} holds no key`); // without the cause, which could quote it
  }
}

const publicOf = ({ kty, crv, x }: JWK): JWK => ({ kty, crv, x }) as JWK;

async function importSigningKey(name: string, jwk: JWK): Promise<CryptoKey> {
  const key = await importJWK(jwk, 'EdDSA').catch(() => undefined); // without the cause, which could quote the key
  if (key === undefined || !('type' in key) || key.type !== 'private')
    throw new CfnError('CFN_STORE_FAILED', `${name} holds no Ed25519 private key`);
  return key;
}

async function clientCertificate(at: (name: string) => string, deps: StateDependencies): Promise<ClientCertificate> {
  // Key first: a start that broke off in between is seen as a pair that does not match, or a missing certificate.
  if (!existsSync(at('client.crt'))) {
    const serial = deps.randomBytes(16);
    serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40; // a positive integer of full length (RFC 5280 §4.1.2.2)
    const made = await makeClientCertificate(deps.now(), serial);
    await writeNew(at('client.key'), made.privateKeyPem, 0o600, 'w');
    await writeNew(at('client.crt'), made.certificatePem, 0o644, 'wx');
  }
  const privateKeyPem = await secretFile(at('client.key'), () =>
    Promise.reject(new CfnError('CFN_STORE_FAILED', 'client.key is missing')),
  );
  const pair = { certificatePem: await readFile(at('client.crt'), 'utf8'), privateKeyPem };
  if (!isPair(pair)) throw new CfnError('CFN_STORE_FAILED', 'client.key and client.crt do not belong together');
  return pair;
}

/** Reads a secret file, or makes it with mode 0600. Refuses one that group or others may read. */
async function secretFile(path: string, make: () => Promise<string>): Promise<string> {
  if (!existsSync(path)) await writeNew(path, await make(), 0o600, 'wx');
  const { mode } = await stat(path);
  if ((mode & 0o077) !== 0) {
    throw new CfnError('CFN_STORE_FAILED', `${path} has mode ${(mode & 0o777).toString(8)}, expected 600`);
  }
  return (await readFile(path, 'utf8')).trim();
}

async function writeNew(path: string, text: string, mode: number, flags: 'w' | 'wx'): Promise<void> {
  const file = await open(path, flags, mode);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}
