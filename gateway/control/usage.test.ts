import { expect, test } from 'vitest';
import { openHouse, signedFunction, type House } from '../testkit.ts';

const HOUR_MS = 3_600_000;

test('what is used while the clock is behind what was sealed is seen', async () => {
  const first = await openHouse();
  const worker = await first.worker();
  await first.deploy(await first.tenant('acme'), await signedFunction());
  await first.call('POST', '/v1/workers', { token: first.operator, body: { address: worker.address } });
  expect((await first.call('POST', '/f/acme/echo/')).status).toBe(200);
  const { stateFolder, policy } = first;
  await first.gateway.stop();

  const ahead = await openHouse({ stateFolder, policy, now: () => new Date(Date.now() + 2 * HOUR_MS) });
  await expect.poll(() => ahead.logs.some((line) => line.includes('receipts.sealed')), { timeout: 15_000 }).toBe(true);
  await ahead.gateway.stop();

  const behind = await openHouse({ stateFolder, policy });
  await expect.poll(async () => (await behind.call('POST', '/f/acme/echo/')).status, { timeout: 15_000 }).toBe(200);
  expect(await used(behind)).toBe(2);
  worker.kill();
  await behind.gateway.stop();
}, 60_000);

async function used(house: House): Promise<number | undefined> {
  const answer = await house.call('GET', '/v1/usage', { token: house.operator });
  return ((await answer.json()) as { usage: { requests: number }[] }).usage[0]?.requests;
}
