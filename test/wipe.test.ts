import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { processTree, searchMemory } from '../deploy/index.ts';
import { startTestSystem, VAD_MODEL, type TestSystem } from './local-system.ts';

/** Echoes the request, and runs the model on its first bytes, so that they pass through all three kinds of process. */
const SOURCE = `export default { async fetch(request, env) {
  const bytes = new Uint8Array(await request.arrayBuffer());
  const samples = new Float32Array(512);
  for (let i = 0; i < 512; i++) samples[i] = bytes[i % bytes.length] / 255;
  await env.VAD.run({
    input: new Tensor('float32', samples, [1, 512]),
    state: new Tensor('float32', new Float32Array(256), [2, 1, 128]),
    sr: new Tensor('int64', BigInt64Array.of(16000n), []),
  });
  if (request.headers.get('x-mode') === 'throw') throw new Error(request.headers.get('x-marker'));
  return new Response(bytes, { headers: { 'x-marker': request.headers.get('x-marker') } });
} }`;

let system: TestSystem;
beforeAll(async () => {
  system = await startTestSystem();
  const digest = await system.push('demo/vad@5', VAD_MODEL);
  await system.grant(digest, 'demo/echo');
  await system.deploy('echo', SOURCE, { models: [{ binding: 'VAD', model: 'demo/vad@5', digest }] });
});
afterAll(() => system.stop());

describe('INV-11 nothing of the request or the answer is left in the memory of the worker', () => {
  test.each([
    ['an answer', 'answer', 200],
    ['an exception', 'throw', 500],
  ])(
    'after %s',
    async (_what, mode, status) => {
      const markers: string[] = [];
      for (const repeat of [40, 4_000]) {
        const marker = randomBytes(16).toString('hex');
        markers.push(marker);
        const response = await system.call('echo', {
          method: 'POST',
          body: marker.repeat(repeat),
          headers: { 'x-marker': marker, 'x-mode': mode },
        });
        expect(response.status).toBe(status);
        if (status === 200) expect(await response.text()).toBe(marker.repeat(repeat));
        else await response.text();
      }
      const patterns = Object.fromEntries(
        markers.flatMap((marker) => {
          const floats = Float32Array.from(Buffer.from(marker), (byte) => byte / 255);
          return [
            [`${marker}, UTF-8`, Buffer.from(marker)],
            [`${marker}, UTF-16`, Buffer.from(marker, 'utf16le')],
            [`${marker}, float32`, new Uint8Array(floats.buffer)],
          ];
        }),
      );
      // V8 gives the pages of a disposed isolate back to the system with a delay of its own, some seconds at the most.
      let hits: string[] = [];
      for (let attempt = 0; attempt < 24; attempt++) {
        await new Promise((resolve) => setTimeout(resolve, 500));
        const found = searchMemory(processTree(system.local.worker().pid), patterns);
        expect(found.bytesSearched).toBeGreaterThan(50e6);
        hits = found.hits.map(
          ({ pid, pattern, address }) => `${pattern} at ${address} of ${describeProcess(pid, address)}`,
        );
        if (hits.length === 0) break;
      }
      expect(hits).toEqual([]);
      expect(system.logs.join('\n')).not.toContain(markers[0]);
    },
    120_000,
  );

  test('the search does find a marker that is there', () => {
    const marker = randomBytes(24);
    expect(searchMemory([process.pid], { marker }).hits.length).toBeGreaterThan(0);
  });
});

/** The program, and the line of its memory map, for a failure that says where to look. */
function describeProcess(pid: number, address: string): string {
  const at = BigInt(`0x${address}`);
  const program = readFileSync(`/proc/${pid}/cmdline`, 'utf8')
    .split('\0')
    .find((part) => part.endsWith('.ts'));
  const mapping = readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .find((line) => {
      const [, from = '0', to = '0'] = /^([0-9a-f]+)-([0-9a-f]+)/.exec(line) ?? [];
      return BigInt(`0x${from}`) <= at && at < BigInt(`0x${to}`);
    });
  return `${program ?? pid}, ${mapping ?? 'unmapped'}`;
}
