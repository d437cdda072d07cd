import { existsSync, readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { bundleExamplePage, serveExamplePage } from '../scripts/example-page.ts';
import { startTestSystem, type TestSystem } from './local-system.ts';

const CHROMIUM = '/usr/bin/chromium';
// With CI set, a machine without Chromium is an error: scripts/setup-debian.sh installs it.
const missing = !existsSync(CHROMIUM) && process.env['CI'] === undefined;

const ECHO = `export default { async fetch(request) {
  return new Response('you sent: ' + (await request.text()) + ' to ' + new URL(request.url).pathname);
} }`;

test('the SDK in a page is at most 300 KB, and takes nothing of Node', async () => {
  const bundle = await bundleExamplePage();
  const { length } = gzipSync(bundle);
  expect(length).toBeGreaterThan(50_000);
  expect(length).toBeLessThanOrEqual(300 * 1024);
  expect(new TextDecoder().decode(bundle)).not.toMatch(/(?:import|from|require\()\s*["']node:/);
});

describe.skipIf(missing)(
  `the example page in Chromium${missing ? ' (skipped: there is no /usr/bin/chromium; run scripts/setup-debian.sh)' : ''}`,
  () => {
    let system: TestSystem;
    let served: Awaited<ReturnType<typeof serveExamplePage>>;
    let browser: Browser;
    let page: Page;
    const requests: { url: string; method: string; body: string }[] = [];
    beforeAll(async () => {
      system = await startTestSystem();
      await system.deploy('echo', ECHO, { caller: { plaintext: false, logs: 'none' } });
      served = await serveExamplePage({
        endpoint: system.local.gatewayUrl,
        function: 'demo/echo',
        policy: readFileSync(system.local.config.policy, 'utf8'),
        path: '/private',
      });
      browser = await chromium.launch({ executablePath: CHROMIUM, args: ['--no-sandbox', '--disable-gpu'] });
      page = await browser.newPage();
      page.on('request', (request) => {
        const body = request.postDataBuffer()?.toString('latin1') ?? '';
        requests.push({ url: request.url(), method: request.method(), body });
      });
      await page.goto(served.url);
      await page.waitForFunction(() => document.querySelector<HTMLInputElement>('[name=function]')?.value !== '');
    });
    afterAll(async () => {
      await browser?.close();
      await served?.close();
      await system?.stop();
    });
    const text = (selector: string): Promise<string> => page.locator(selector).innerText();
    const send = async (): Promise<void> => {
      await page.click('button');
      await page.waitForFunction(() => !document.querySelector('button')?.disabled, undefined, { timeout: 60_000 });
    };

    test('attests, seals, shows the answer and what stands behind it, and says SIMULATED', async () => {
      await page.fill('[name=body]', 'a secret of the page');
      await send();
      expect(await text('#status')).toBe('The answer is whole, and its receipt holds.');
      expect(await text('#answer')).toBe('you sent: a secret of the page to /private');
      expect(await text('#simulated')).toMatch(/^SIMULATED\./);
      const facts = await text('#facts');
      expect(facts).toContain('MLKEM768-X25519');
      expect(facts).toMatch(/Worker\s+[0-9a-f]{64}/);
      expect(facts).toMatch(/Receipt\s+[0-9a-f]{32}, ok/);
      expect(await page.locator('#skipped li').count()).toBeGreaterThan(0);
      const screenshot = process.env['CFN_SCREENSHOT'];
      for (const colorScheme of screenshot === undefined ? [] : (['light', 'dark'] as const)) {
        await page.emulateMedia({ colorScheme });
        await page.screenshot({ path: `${screenshot}-${colorScheme}.png`, fullPage: true });
      }
    });

    test('what left the page for the gateway was sealed', () => {
      const sent = requests.filter(({ url }) => url.startsWith(system.local.gatewayUrl));
      expect(sent.filter(({ method }) => method === 'POST')).toHaveLength(1);
      for (const { url, body } of sent) {
        expect(url).not.toContain('private');
        expect(body).not.toContain('secret');
      }
    });

    test('a policy that the workers do not meet: nothing is sent', async () => {
      const count = requests.filter(({ method }) => method === 'POST').length;
      const policy = JSON.parse(await page.inputValue('[name=policy]')) as { tee: { mrtd: string[] } };
      policy.tee.mrtd = ['0'.repeat(96)];
      await page.locator('details').first().click();
      await page.fill('[name=policy]', JSON.stringify(policy));
      await send();
      expect(await text('#status')).toMatch(/^CFN_MEASUREMENT_UNKNOWN: /);
      expect(await page.locator('#outcome').isHidden()).toBe(true);
      expect(requests.filter(({ method }) => method === 'POST')).toHaveLength(count);
    });
  },
);
