import { mkdtempSync, readFileSync } from 'node:fs';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { utf8 } from '../../proto/index.ts';
import { kernelFiles, type KernelFiles } from './files.ts';

/** A system call's failure, as Node shows it. */
export function errno(code: string): Error {
  return Object.assign(new Error(code), { code });
}

const vector = (name: string): Uint8Array =>
  new Uint8Array(readFileSync(new URL(`../vectors/${name}`, import.meta.url)));

function patched(bytes: Uint8Array, at: number, value: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  copy.set(value, at);
  return copy;
}

/** Real quotes with the report data replaced, so that they parse; their signatures hold no more. */
export const recorded = {
  /** 8000 bytes, of which Linux padded 3065. */
  tdx: (reportData: Uint8Array) => patched(vector('tdx-v4-gcp.bin'), 48 + 520, reportData),
  snp: (reportData: Uint8Array) => patched(vector('snp/reports/milan-v5-gcp-x25519.bin'), 0x50, reportData),
};

/** A certificate table with one VCEK, as a host hands it over. */
export function certificateTable(vcek: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(48 + vcek.length);
  bytes.set(Buffer.from('63da758de6644564adc5f4b93be8accd', 'hex'));
  new DataView(bytes.buffer).setUint32(16, 48, true);
  new DataView(bytes.buffer).setUint32(20, vcek.length, true);
  bytes.set(vcek, 48);
  return bytes;
}

export interface FakePlatform {
  provider?: string;
  /** What the platform answers; may throw an errno, or never answer. */
  quote?: (reportData: Uint8Array, privilegeLevel: number) => Uint8Array | Promise<Uint8Array>;
  auxblob?: Uint8Array;
  /** SNP only: the attribute is there when this is. */
  privilegeFloor?: number;
  /** Called before each operation; may throw an errno, or write into the entry as another process would. */
  before?: (operation: 'make' | 'write' | 'read' | 'remove', path: string) => void | Promise<void>;
}

export interface FakeTsm {
  readonly directory: string;
  readonly files: KernelFiles;
  /** Every request that reached the platform. */
  readonly requests: { readonly reportData: Uint8Array; readonly privilegeLevel: number }[];
  /** Writes by somebody else into the one entry there is. */
  intrude(bytes: Uint8Array): Promise<void>;
  entries(): Promise<string[]>;
  delete(): Promise<void>;
}

/**
 * A directory that behaves as configfs-tsm does (Linux `drivers/virt/coco/guest/report.c`), with real files and real writes: making an
 * entry brings its attributes, each write raises `generation`, reading `outblob` asks the platform unless it did since the last write,
 * `outblob` without `inblob` is EINVAL, what is not 64 bytes is EINVAL, and removing an entry takes its attributes along.
 */
export function fakeTsm(platform: FakePlatform = {}): FakeTsm {
  const directory = mkdtempSync(join(tmpdir(), 'cfn-tsm-'));
  const requests: FakeTsm['requests'] = [];
  const answered = new Map<string, bigint>();
  const provider = (): string => platform.provider ?? 'tdx_guest';
  const generation = async (entry: string): Promise<bigint> =>
    BigInt((await readFile(join(entry, 'generation'), 'utf8')).trim());
  const before = async (operation: 'make' | 'write' | 'read' | 'remove', path: string): Promise<void> => {
    await platform.before?.(operation, path);
  };

  async function make(entry: string): Promise<void> {
    await before('make', entry);
    await kernelFiles.make(entry);
    const attributes: Record<string, string> = {
      provider: `${provider()}\n`,
      generation: '0\n',
      inblob: '',
      outblob: '',
    };
    if (provider() === 'sev_guest') {
      attributes['privlevel'] = '';
      if (platform.privilegeFloor !== undefined) attributes['privlevel_floor'] = `${platform.privilegeFloor}\n`;
      if (platform.auxblob !== undefined) attributes['auxblob'] = '';
    }
    for (const [name, content] of Object.entries(attributes)) await writeFile(join(entry, name), content);
  }

  async function write(file: string, bytes: Uint8Array): Promise<void> {
    await before('write', file);
    await kernelFiles.write(file, bytes);
    const entry = join(file, '..');
    await writeFile(join(entry, 'generation'), `${(await generation(entry)) + 1n}\n`);
  }

  async function read(file: string, bytesMax: number): Promise<Uint8Array | undefined> {
    await before('read', file);
    if (/\/(outblob|auxblob)$/.test(file)) await answer(join(file, '..'));
    return kernelFiles.read(file, bytesMax);
  }

  async function answer(entry: string): Promise<void> {
    const now = await generation(entry);
    if (answered.get(entry) === now) return;
    const reportData = new Uint8Array(await readFile(join(entry, 'inblob')));
    if (reportData.length !== 64) throw errno('EINVAL');
    const snp = provider() === 'sev_guest';
    const privilegeLevel = snp ? Number(await readFile(join(entry, 'privlevel'), 'utf8')) : 0;
    if (privilegeLevel < (platform.privilegeFloor ?? 0)) throw errno('EINVAL');
    requests.push({ reportData, privilegeLevel });
    const quote = platform.quote ?? (snp ? recorded.snp : recorded.tdx);
    await writeFile(join(entry, 'outblob'), await quote(reportData, privilegeLevel));
    if (platform.auxblob !== undefined && snp) await writeFile(join(entry, 'auxblob'), platform.auxblob);
    answered.set(entry, now);
  }

  return {
    directory,
    files: {
      list: (path) => kernelFiles.list(path),
      make,
      write,
      read,
      async remove(entry) {
        await before('remove', entry);
        await rm(entry, { recursive: true });
      },
    },
    requests,
    async intrude(bytes) {
      const [entry = ''] = await readdir(directory);
      await write(join(directory, entry, 'inblob'), bytes);
    },
    entries: () => readdir(directory),
    delete: () => rm(directory, { recursive: true, force: true }),
  };
}

/** 64 bytes that tell requests apart. */
export function reportDataOf(text: string): Uint8Array {
  return patched(new Uint8Array(64), 0, utf8(text));
}
