import { utf8 } from '../../proto/index.ts';
import { refuse } from '../evidence/reasons.ts';
import { errorCode, type KernelFiles } from './files.ts';

export type TsmProvider = 'tdx_guest' | 'sev_guest';

export interface TsmRequest {
  /** Exactly 64 bytes: both providers refuse less. */
  readonly reportData: Uint8Array;
  readonly provider: TsmProvider;
  /** SNP: the VMPL to ask for, 0 to 3. Left out: the lowest that the guest may ask for. */
  readonly privilegeLevel?: number;
}

export interface TsmReport {
  /** TDX: a quote, padded by Linux. SNP: the report. */
  readonly outblob: Uint8Array;
  /** SNP: the certificate table that the host supplies. Empty without one, and on TDX. */
  readonly auxblob: Uint8Array;
}

/** What the kernel itself passes on, 32 KiB; newer ones up to 16 MiB, which no quote or certificate table here needs. */
const BLOB_BYTES_MAX = 32 * 1024;
const TEXT_BYTES_MAX = 4096;

/** @throws {Refusal} `collect/wrong-tee` for one that is neither TDX nor SEV-SNP. */
export async function readProvider(entry: string, files: KernelFiles): Promise<TsmProvider> {
  const provider = await readText(`${entry}/provider`, files);
  if (provider !== 'tdx_guest' && provider !== 'sev_guest')
    refuse('collect/wrong-tee', `the platform offers ${provider}, expected tdx_guest or sev_guest`);
  return provider;
}

/**
 * One report from a fresh entry. Reading `outblob` makes the kernel ask the platform. `generation` counts the writes into the entry:
 * when it counts others than ours, somebody shares the entry, and the report may hold their data.
 */
export async function requestReport(entry: string, request: TsmRequest, files: KernelFiles): Promise<TsmReport> {
  const provider = await readProvider(entry, files);
  if (provider !== request.provider)
    refuse('collect/wrong-tee', `the platform offers ${provider}, expected ${request.provider}`);

  const before = await readGeneration(entry, files);
  let writes = 1n;
  const level = provider === 'sev_guest' ? await privilegeLevel(entry, request, files) : 0;
  if (level > 0) {
    await files.write(`${entry}/privlevel`, utf8(String(level)));
    writes += 1n;
  }
  await files.write(`${entry}/inblob`, request.reportData);
  const outblob = await readBlob(`${entry}/outblob`, files);
  const auxblob = provider === 'sev_guest' ? await readOptional(`${entry}/auxblob`, files) : new Uint8Array();
  const after = await readGeneration(entry, files);
  if (before !== 0n || after !== writes)
    refuse('collect/contended', `generation went from ${before} to ${after} over ${writes} writes of ours`);
  if (outblob.length === 0) refuse('collect/quote-empty', 'the platform returned an empty quote');
  return { outblob, auxblob };
}

/** A guest below VMPL 0 (one that runs on an SVSM) may not ask for 0, the kernel's default. */
async function privilegeLevel(entry: string, request: TsmRequest, files: KernelFiles): Promise<number> {
  const floorText = new TextDecoder().decode(await readOptional(`${entry}/privlevel_floor`, files)).trim();
  if (!/^[0-3]?$/.test(floorText)) refuse('collect/quote-failed', `privlevel_floor is ${floorText}, expected 0 to 3`);
  const floor = Number(floorText);
  const level = request.privilegeLevel ?? floor;
  if (!Number.isInteger(level) || level < floor || level > 3)
    refuse('collect/privilege-level', `privilege level ${level} is asked for, expected ${floor} to 3`);
  return level;
}

async function readGeneration(entry: string, files: KernelFiles): Promise<bigint> {
  const text = await readText(`${entry}/generation`, files);
  if (!/^\d{1,20}$/.test(text)) refuse('collect/quote-failed', 'generation is not a number');
  return BigInt(text);
}

async function readText(file: string, files: KernelFiles): Promise<string> {
  const bytes = await files.read(file, TEXT_BYTES_MAX);
  if (bytes === undefined) return refuse('collect/quote-failed', `${file} is over ${TEXT_BYTES_MAX} bytes`);
  return new TextDecoder().decode(bytes).trim();
}

async function readBlob(file: string, files: KernelFiles): Promise<Uint8Array> {
  return (
    (await files.read(file, BLOB_BYTES_MAX)) ??
    refuse('collect/quote-too-large', `${file} is over ${BLOB_BYTES_MAX} bytes`)
  );
}

/** Attributes that a provider does not have are not in the entry. */
async function readOptional(file: string, files: KernelFiles): Promise<Uint8Array> {
  try {
    return await readBlob(file, files);
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return new Uint8Array();
    throw cause;
  }
}
