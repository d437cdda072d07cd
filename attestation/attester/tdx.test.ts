import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fromBase64url, reportData, toHex } from '../../proto/index.ts';
import { parseTdxQuote } from '../evidence/tdx.ts';
import { tsmDefaults, type TsmFiles } from './configfs-tsm.ts';
import { tdxAttester, type TdxAttesterOptions } from './index.ts';

const padded = new Uint8Array(readFileSync(new URL('../vectors/tdx-v4-gcp.bin', import.meta.url)));
const nonce = new Uint8Array(32).fill(5);
const keys = new Uint8Array(10).fill(6);
const collectGpus = () => Promise.resolve([]);

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cfn-tsm-'));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

interface Kernel {
  provider?: string;
  outblob?: Uint8Array;
  generation?: string;
}

/** A folder that behaves like configfs: an entry comes with its files, and goes with them. */
function fakeFiles(
  { provider = 'tdx_guest\n', outblob = padded, generation = '1\n' }: Kernel,
  written: string[] = [],
): TsmFiles {
  const { files } = tsmDefaults;
  return {
    ...files,
    make: async (entry) => {
      await files.make(entry);
      const contents = { provider, outblob, generation, inblob: '' };
      for (const [name, content] of Object.entries(contents)) await writeFile(join(entry, name), content);
    },
    remove: async (entry) => {
      written.push(toHex(await readFile(join(entry, 'inblob'))));
      await rm(entry, { recursive: true });
    },
  };
}

const attester = (options: Partial<TdxAttesterOptions> = {}) =>
  tdxAttester({ directory, collectGpus, sleep: () => Promise.resolve(), files: fakeFiles({}), ...options });

describe('tdxAttester', () => {
  test('writes the report data once, and returns the quote without its padding', async () => {
    const written: string[] = [];
    const evidence = await attester({ files: fakeFiles({}, written) }).collect(nonce, keys);
    expect(evidence).toMatchObject({ tee: 'tdx', gpus: [] });
    expect(fromBase64url(evidence.quote)).toEqual(padded.slice(0, parseTdxQuote(padded).quoteBytes));
    expect(written).toEqual([toHex(await reportData(nonce, keys, []))]);
    expect(await readdir(directory)).toEqual([]);
  });

  test('says that there is no TEE', async () => {
    await expect(attester({ directory: join(directory, 'none') }).collect(nonce, keys)).rejects.toMatchObject({
      code: 'CFN_TEE_ABSENT',
    });
    const files = fakeFiles({ provider: 'sev_guest\n' });
    await expect(attester({ files }).collect(nonce, keys)).rejects.toMatchObject({ code: 'CFN_TEE_ABSENT' });
  });

  test('refuses an empty quote, a shared entry, and what is no quote', async () => {
    const code = (kernel: Kernel, expected: string) =>
      expect(attester({ files: fakeFiles(kernel) }).collect(nonce, keys)).rejects.toMatchObject({ code: expected });
    await code({ outblob: new Uint8Array() }, 'CFN_QUOTE_UNAVAILABLE');
    await code({ generation: '2\n' }, 'CFN_QUOTE_UNAVAILABLE');
    await code({ outblob: padded.slice(0, 1000) }, 'CFN_EVIDENCE_MALFORMED');
    expect(await readdir(directory)).toEqual([]);
  });

  test('tries again while the platform is busy, and gives up', async () => {
    const files = fakeFiles({});
    const pauses: number[] = [];
    const busyFor = (times: number): Partial<TdxAttesterOptions> => ({
      sleep: async (ms) => void pauses.push(ms),
      files: {
        ...files,
        read: async (file) => {
          if (file.endsWith('outblob') && times-- > 0) throw Object.assign(new Error('busy'), { code: 'EBUSY' });
          return files.read(file);
        },
      },
    });
    await attester(busyFor(2)).collect(nonce, keys);
    expect(pauses).toEqual([50, 100]);
    await expect(attester(busyFor(99)).collect(nonce, keys)).rejects.toMatchObject({ code: 'CFN_QUOTE_UNAVAILABLE' });
    expect(pauses).toHaveLength(2 + 3);
  });

  test('does not try again after an error that will stay', async () => {
    let reads = 0;
    const read = () => Promise.reject(Object.assign(new Error(`read ${++reads}`), { code: 'EIO' }));
    await expect(attester({ files: { ...fakeFiles({}), read } }).collect(nonce, keys)).rejects.toMatchObject({
      code: 'CFN_QUOTE_UNAVAILABLE',
    });
    expect(reads).toBe(1);
  });

  test('does not wait for ever', async () => {
    const files = { ...fakeFiles({}), read: () => new Promise<Uint8Array>(() => {}) };
    await expect(attester({ files, timeoutMs: 20 }).collect(nonce, keys)).rejects.toMatchObject({
      code: 'CFN_QUOTE_UNAVAILABLE',
    });
  });

  test('asks for one quote at a time, and goes on after a failure', async () => {
    const files = fakeFiles({});
    let open = 0;
    let most = 0;
    let calls = 0;
    const counting: TsmFiles = {
      ...files,
      make: async (entry) => {
        most = Math.max(most, ++open);
        await files.make(entry);
      },
      read: (file) => (calls++ === 0 ? Promise.reject(new Error('broken')) : files.read(file)),
      remove: async (entry) => {
        open--;
        await files.remove(entry);
      },
    };
    const one = attester({ files: counting });
    const results = await Promise.allSettled([
      one.collect(nonce, keys),
      one.collect(nonce, keys),
      one.collect(nonce, keys),
    ]);
    expect(results.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'fulfilled', 'rejected']);
    expect(most).toBe(1);
  });

  test('hands the derived nonce to the GPUs, and a GPU that fails stops the evidence', async () => {
    const gpuFailure = new Error('no GPU');
    await expect(attester({ collectGpus: () => Promise.reject(gpuFailure) }).collect(nonce, keys)).rejects.toBe(
      gpuFailure,
    );
    let asked: Uint8Array | undefined;
    const recording = (gpuNonce: Uint8Array) => ((asked = gpuNonce), Promise.resolve([]));
    await attester({ collectGpus: recording }).collect(nonce, keys);
    expect(asked).toHaveLength(32);
    expect(asked).not.toEqual(nonce);
  });
});
