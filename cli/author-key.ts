import { link, mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type CryptoKey, type JWK } from 'jose';
import { z } from 'zod';
import { CfnError } from '../proto/index.ts';
import type { Context } from './context.ts';

const key32 = z.string().regex(/^[A-Za-z0-9_-]{43}$/);
const privateKeySchema = z.strictObject({ kty: z.literal('OKP'), crv: z.literal('Ed25519'), x: key32, d: key32 });

export interface AuthorKey {
  readonly key: CryptoKey;
  readonly publicJwk: JWK;
  /** RFC 7638, by which grants name the author. */
  readonly thumbprint: string;
  readonly file: string;
  /** True when there was none and it was made just now. */
  readonly made: boolean;
}

/**
 * Opens the author's Ed25519 key, or makes it on first use (mode 0600).
 *
 * @throws {CfnError} `CFN_SECRET_EXPOSED` when others could read it; `CFN_INPUT_INVALID` when it is none
 */
export async function openAuthorKey({ env }: Pick<Context, 'env'>): Promise<AuthorKey> {
  const file =
    env['CFN_AUTHOR_KEY'] ||
    join(env['XDG_CONFIG_HOME'] || join(env['HOME'] || homedir(), '.config'), 'cfn', 'author.jwk');
  const { jwk, made } = await openPrivateJwk(file);
  const { d: _, ...publicJwk } = jwk;
  const key = await importJWK(jwk, 'EdDSA').catch((cause: unknown) => {
    throw new CfnError('CFN_INPUT_INVALID', `${file} is not an Ed25519 key pair`, { cause });
  });
  if (key instanceof Uint8Array) throw new CfnError('CFN_INPUT_INVALID', `${file} is not an Ed25519 key pair`);
  return { key, publicJwk, thumbprint: await calculateJwkThumbprint(publicJwk), file, made };
}

/**
 * Reads an Ed25519 private key, or makes it on first use (mode 0600).
 *
 * @throws {CfnError} `CFN_SECRET_EXPOSED` when others could read it; `CFN_INPUT_INVALID` when it is none
 */
export async function openPrivateJwk(
  file: string,
): Promise<{ readonly jwk: z.infer<typeof privateKeySchema>; readonly made: boolean }> {
  const made = await makeKeyFile(file);
  const { mode } = await stat(file);
  if ((mode & 0o077) !== 0) {
    throw new CfnError(
      'CFN_SECRET_EXPOSED',
      `${file} has mode ${(mode & 0o777).toString(8).padStart(4, '0')}, expected 0600`,
    );
  }
  try {
    return { jwk: privateKeySchema.parse(JSON.parse(await readFile(file, 'utf8'))), made };
  } catch (error) {
    // Without the cause: its message could quote the key.
    throw new CfnError(
      'CFN_INPUT_INVALID',
      `${file} is not an Ed25519 private key in JWK form (${(error as Error).name})`,
    );
  }
}

/** @returns whether it was made; false when it is there */
async function makeKeyFile(file: string): Promise<boolean> {
  if ((await stat(file).catch(() => undefined)) !== undefined) return false;
  const { privateKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
  const { kty, crv, x, d } = await exportJWK(privateKey);
  const whole = `${file}.${crypto.randomUUID()}`;
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    await writeFile(whole, JSON.stringify({ kty, crv, x, d }), { flag: 'wx', mode: 0o600 });
    // A link fails when the name is taken: a second `cfn` at this moment sees no key or a whole one, and replaces none.
    await link(whole, file);
    return true;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    throw new CfnError('CFN_INPUT_INVALID', `cannot write the key ${file}: ${code ?? 'unknown'}`, { cause });
  } finally {
    await rm(whole, { force: true });
  }
}
