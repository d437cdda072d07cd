import { existsSync, readFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { build } from 'esbuild';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { gather } from '../attestation/verifier/index.ts';
import type * as Verifier from '../attestation/verifier/index.ts';
import { defaultPolicy } from '../cli/conformance/policies.ts';

/** The verifier, bundled as a page would have it, on real evidence. */

interface Case {
  /** Below attestation/vectors/. */
  readonly files: readonly string[];
  readonly now: string;
}
const TDX: Case = {
  files: ['tdx/quotes/v4-phala-b0c06f.bin', 'tdx/collateral/b0c06f-2025-06.json'],
  now: '2025-06-25T00:00:00Z',
};
const SNP: Case = {
  files: [
    'snp/reports/milan-v5-gcp-x25519.bin',
    'snp/certs/milan-v5-gcp-x25519.vcek.der',
    'snp/chains/ask_ark_milan.pem',
    'snp/crls/milan.crl.der',
  ],
  now: '2026-01-15T00:00:00Z',
};
const GPU: Case = {
  files: [
    'nvidia/reports/h100-550.90.07.bin',
    'nvidia/chains/h100-550.90.07.pem',
    'nvidia/rims/NV_GPU_DRIVER_GH100_550.90.07.xml',
    'nvidia/rims/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml',
    'nvidia/ocsp/gpu_driver_rim_l4.der',
  ],
  now: '2025-10-24T12:00:00Z',
};

const BUNDLE_GZIP_BYTES_MAX = 300 * 1024;
const CHROMIUM = '/usr/bin/chromium';
const PAGE = `<!doctype html><script type="module">
import * as verifier from '/verifier.js';
globalThis.verifier = verifier;
</script>`;

let bundle: Uint8Array;
beforeAll(async () => {
  const { outputFiles } = await build({
    entryPoints: [new URL('../attestation/verifier/index.ts', import.meta.url).pathname],
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    write: false,
  });
  bundle = outputFiles[0]?.contents ?? new Uint8Array();
});

test('the verifier is at most 300 KB for a browser, and takes nothing of Node', () => {
  const { length } = gzipSync(bundle);
  expect(length).toBeGreaterThan(10_000);
  expect(length).toBeLessThanOrEqual(BUNDLE_GZIP_BYTES_MAX);
  // `proto/native.ts` asks for Node's crypto where there is a Node, by a call that may be missing; nothing is imported.
  expect(new TextDecoder().decode(bundle)).not.toMatch(/(?:import|from|require\()\s*["']node:/);
});

// With CI set, a machine without Chromium is an error: scripts/setup-debian.sh installs it.
const missing = !existsSync(CHROMIUM) && process.env['CI'] === undefined;

describe.skipIf(missing)(
  `in Chromium${missing ? ' (skipped: there is no /usr/bin/chromium; run scripts/setup-debian.sh)' : ''}`,
  () => {
    let server: Server;
    let browser: Browser;
    let page: Page;
    beforeAll(async () => {
      server = createServer((request, response) => {
        const script = request.url === '/verifier.js';
        response.setHeader('content-type', script ? 'text/javascript' : 'text/html');
        response.end(script ? bundle : PAGE);
      });
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
      page = await browser.newPage();
      await page.goto(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`); // loopback counts as secure: WebCrypto is there
      await page.waitForFunction(() => 'verifier' in globalThis);
    });
    afterAll(async () => {
      await browser?.close();
      await new Promise((resolve) => server?.close(resolve));
    });

    /** Appraises in the page; `change` alters the input at a place first. */
    async function appraise(
      { files, now }: Case,
      change?: { readonly input: number; readonly at: number },
    ): Promise<{ accepted: boolean; failures: string[] }> {
      const inputs = files.map((file, index) => {
        const bytes = new Uint8Array(readFileSync(new URL(`../attestation/vectors/${file}`, import.meta.url)));
        if (change?.input === index) bytes[change.at] = (bytes[change.at] ?? 0) ^ 1;
        return bytes;
      });
      const policy = defaultPolicy(gather(inputs));
      return page.evaluate(
        async ({ texts, time, demands }) => {
          const { appraiseInputs, parsePolicy } = (globalThis as unknown as { verifier: typeof Verifier }).verifier;
          const bytes = texts.map((text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0)));
          try {
            const result = await appraiseInputs(bytes, { policy: parsePolicy(demands), now: new Date(time) });
            const failures = result.findings.flatMap((finding) =>
              finding.outcome === 'failed' ? [finding.reason] : [],
            );
            return { accepted: result.accepted, failures };
          } catch (error) {
            return { accepted: false, failures: [String((error as { reason?: unknown }).reason)] };
          }
        },
        {
          texts: inputs.map((bytes) => Buffer.from(bytes).toString('base64')),
          time: now,
          demands: policy,
        },
      );
    }

    test.each([
      ['a TDX quote with its collateral', TDX],
      ['a SEV-SNP report with its chain and CRL', SNP],
      ['a GPU report with its RIMs and an OCSP answer', GPU],
    ])('verifies %s', async (_, subject) => {
      expect(await appraise(subject)).toEqual({ accepted: true, failures: [] });
    });

    test.each([
      ['a TDX quote', TDX, { input: 0, at: 48 + 136 }, 'evidence/quote-signature'],
      ['the TCB info', TDX, { input: 1, at: 8600 }, undefined],
      ['a SEV-SNP report', SNP, { input: 0, at: 0x90 }, 'evidence/report-signature'],
      ['a VCEK', SNP, { input: 1, at: 200 }, undefined],
      ['a GPU report', GPU, { input: 0, at: 37 + 8 + 7 }, 'evidence/gpu-report-signature'],
      ['a RIM', GPU, { input: 2, at: 3000 }, undefined],
    ])('refuses %s with one bit off', async (_, subject, change, reason) => {
      const { accepted, failures } = await appraise(subject, change);
      expect(accepted).toBe(false);
      expect(failures.length).toBeGreaterThan(0);
      if (reason !== undefined) expect(failures).toContain(reason);
    });

    test('refuses out of time', async () => {
      const later = await appraise({ ...TDX, now: '2025-08-01T00:00:00Z' });
      expect(later).toMatchObject({ accepted: false });
      expect(later.failures).toContain('collateral/expired');
    });
  },
);
