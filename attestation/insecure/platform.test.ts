import { X509Certificate } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { fromBase64url, toHex } from '../../proto/index.ts';
import { parseTdxQuote } from '../evidence/tdx.ts';
import { parsePemChain } from '../evidence/x509.ts';
import { measureFolders, openSimulatedPlatform, simulatedAttester } from './index.ts';

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cfn-simulated-'));
});
afterEach(() => rm(directory, { recursive: true }));

describe('openSimulatedPlatform', () => {
  test('makes one file of mode 0600, and opens the same platform again', async () => {
    const first = await openSimulatedPlatform(join(directory, 'p'));
    const [file = '', ...others] = await readdir(join(directory, 'p'));
    expect(others).toEqual([]);
    expect((await stat(join(directory, 'p', file))).mode & 0o777).toBe(0o600);
    expect((await openSimulatedPlatform(join(directory, 'p'))).roots).toEqual(first.roots);
    expect((await openSimulatedPlatform(join(directory, 'q'))).roots).not.toEqual(first.roots);
  });

  test('gives processes that start together the same platform', async () => {
    const platforms = await Promise.all([1, 2, 3].map(() => openSimulatedPlatform(directory)));
    expect(new Set(platforms.map(({ roots }) => roots.pck + roots.gpu)).size).toBe(1);
    expect(await readdir(directory)).toHaveLength(1);
  });

  test('refuses a file that others may read, or that is broken', async () => {
    await openSimulatedPlatform(directory);
    const file = join(directory, 'simulated-platform.json');
    await chmod(file, 0o644);
    await expect(openSimulatedPlatform(directory)).rejects.toMatchObject({ code: 'CFN_SECRET_EXPOSED' });
    await chmod(file, 0o600);
    await writeFile(file, '{}');
    await expect(openSimulatedPlatform(directory)).rejects.toMatchObject({ code: 'CFN_STORE_FAILED' });
  });

  test('its certificates say SIMULATED, and Node reads them as we do', async () => {
    const attester = simulatedAttester(await openSimulatedPlatform(directory), { mrtd: new Uint8Array(48) });
    const { quote, gpus } = await attester.collect(new Uint8Array(32), new Uint8Array(8));
    const { pckChain } = parseTdxQuote(fromBase64url(quote));
    const gpuChain = parsePemChain(gpus[0]?.certificates ?? '');
    expect([pckChain.length, gpuChain.length]).toEqual([3, 5]);
    for (const chain of [pckChain, gpuChain]) {
      for (const [depth, certificate] of chain.entries()) {
        const theirs = new X509Certificate(certificate.der);
        const issuer = new X509Certificate((chain[depth + 1] ?? certificate).der);
        expect(certificate.subjectCommonName).toMatch(/^SIMULATED /);
        expect(theirs.subject).toContain(`CN=${certificate.subjectCommonName}`);
        expect(theirs.ca).toBe(certificate.isCa);
        expect(theirs.serialNumber.toLowerCase()).toBe(toHex(certificate.serial).replace(/^00/, ''));
        expect(theirs.checkIssued(issuer)).toBe(true);
        expect(theirs.verify(issuer.publicKey)).toBe(true);
        expect(theirs.publicKey.export({ type: 'spki', format: 'der' })).toEqual(
          Buffer.from(certificate.publicKey.spki),
        );
      }
    }
  });
});

describe('measureFolders', () => {
  beforeEach(async () => {
    await mkdir(join(directory, 'src/deep'), { recursive: true });
    await writeFile(join(directory, 'src/a.ts'), 'a');
    await writeFile(join(directory, 'src/deep/b.ts'), 'b');
  });
  const measure = async (): Promise<string> => toHex(await measureFolders([join(directory, 'src')]));

  test('follows path and content of sources, and nothing else', async () => {
    const before = await measure();
    expect(before).toHaveLength(96);
    await writeFile(join(directory, 'src/a.test.ts'), 'test');
    await mkdir(join(directory, 'src/node_modules'));
    await writeFile(join(directory, 'src/node_modules/c.ts'), 'c');
    expect(await measure()).toBe(before);
    await writeFile(join(directory, 'src/deep/b.ts'), 'B');
    const changed = await measure();
    expect(changed).not.toBe(before);
    await rm(join(directory, 'src/deep/b.ts'));
    await writeFile(join(directory, 'src/deep/c.ts'), 'B');
    expect(await measure()).not.toBe(changed);
  });

  test('refuses links, missing folders, and folders without sources', async () => {
    await mkdir(join(directory, 'empty'));
    await expect(measureFolders([join(directory, 'empty')])).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
    await expect(measureFolders([join(directory, 'none')])).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
    await symlink(join(directory, 'src/a.ts'), join(directory, 'src/link.ts'));
    await expect(measure()).rejects.toMatchObject({ code: 'CFN_INPUT_INVALID' });
  });
});
