import { link, lstat, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { CfnError, fromBase64url, sha256Hex, toBase64url } from '../../proto/index.ts';
import type { Curve } from '../evidence/algorithms.ts';
import { makeGpuChain, makePckChain, type SimulatedChain } from './pki.ts';

/** A machine that pretends: anybody who reads its folder can forge its evidence. */
export interface SimulatedPlatform {
  readonly pck: SimulatedChain;
  readonly gpu: SimulatedChain;
  /** SHA-256 of the roots' DER, hexadecimal: what a policy names. */
  readonly roots: { readonly pck: string; readonly gpu: string };
}

const FILE = 'simulated-platform.json';
const bytesSchema = z.string().transform((text) => fromBase64url(text, 'CFN_STORE_FAILED'));
const chainSchema = z.strictObject({ certificates: z.array(bytesSchema).min(2), leafKey: bytesSchema });
const fileSchema = z.strictObject({
  format: z.literal('cfn/simulated-platform/v1'),
  pck: chainSchema,
  gpu: chainSchema,
});

/**
 * Opens the simulated platform of a folder; makes it on first use (file mode 0600). Any number of processes may do so at once:
 * they get the same platform.
 *
 * @throws {CfnError} `CFN_STORE_FAILED` when the file is broken, `CFN_SECRET_EXPOSED` when others may read it.
 */
export async function openSimulatedPlatform(directory: string): Promise<SimulatedPlatform> {
  const file = join(directory, FILE);
  await mkdir(directory, { recursive: true, mode: 0o700 });
  if ((await lstat(file).catch(() => undefined)) === undefined) await create(file);
  const status = await lstat(file);
  if (!status.isFile() || (status.mode & 0o077) !== 0)
    throw new CfnError('CFN_SECRET_EXPOSED', `${FILE} must be a file of mode 0600`);
  const { pck, gpu } = await read(file);
  return {
    pck: await load(pck, 'P-256'),
    gpu: await load(gpu, 'P-384'),
    roots: { pck: await rootOf(pck), gpu: await rootOf(gpu) },
  };
}

async function create(file: string): Promise<void> {
  const content = {
    format: 'cfn/simulated-platform/v1',
    pck: await save(await makePckChain()),
    gpu: await save(await makeGpuChain()),
  };
  const temporary = `${file}.${crypto.randomUUID()}`;
  try {
    await writeFile(temporary, JSON.stringify(content), { mode: 0o600, flag: 'wx' });
    // A link fails when another process was first; then its platform is the one.
    await link(temporary, file).catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    });
  } catch (cause) {
    throw new CfnError('CFN_STORE_FAILED', `cannot write ${FILE}`, { cause });
  } finally {
    await rm(temporary, { force: true });
  }
}

async function read(file: string): Promise<z.output<typeof fileSchema>> {
  try {
    return fileSchema.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (cause) {
    throw new CfnError('CFN_STORE_FAILED', `${FILE} is not a simulated platform`, { cause });
  }
}

async function save({ certificates, leafKey }: SimulatedChain): Promise<z.input<typeof chainSchema>> {
  const key = new Uint8Array(await crypto.subtle.exportKey('pkcs8', leafKey));
  return { certificates: certificates.map(toBase64url), leafKey: toBase64url(key) };
}

async function load({ certificates, leafKey }: z.output<typeof chainSchema>, curve: Curve): Promise<SimulatedChain> {
  const key = await crypto.subtle.importKey('pkcs8', leafKey, { name: 'ECDSA', namedCurve: curve }, false, ['sign']);
  return { certificates, leafKey: key };
}

async function rootOf({ certificates }: z.output<typeof chainSchema>): Promise<string> {
  return sha256Hex(certificates.at(-1) ?? new Uint8Array());
}
