import { randomBytes } from 'node:crypto';
import { median } from '../measure.ts';
import type { Row } from '../row.ts';
import { httpLoad } from './http-load.ts';
import { openRelay } from './relay-system.ts';

const ROUNDS = 5;
const ROUND_MS = 3_000;
const KiB = 1024;
const MB = 1_000_000;

/** What the gateway itself can carry: sealed requests to a worker that does nothing, per second of the gateway's processor time. */
export async function relay(): Promise<Row[]> {
  await using system = await openRelay();
  const url = new URL('/f/acme/echo/', system.url);
  const headers = { 'content-type': 'message/ohttp-chunked-req', 'cfn-worker': system.workerId };
  const measure = async (bytes: number, connections: number): Promise<number[]> => {
    const request = { headers, body: randomBytes(bytes) };
    await httpLoad(url, request, { connections, ms: ROUND_MS });
    const perSecond: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const before = system.gatewaySeconds();
      const answers = await httpLoad(url, request, { connections, ms: ROUND_MS });
      perSecond.push(answers / (system.gatewaySeconds() - before));
    }
    return perSecond;
  };
  const small = await measure(KiB, 32);
  const large = (await measure(MB, 4)).map((requests) => 2 * requests); // in and out again
  return [
    {
      row: 'relay, sealed, 1 KB in and out: per second of processor time',
      unit: 'requests/s',
      ours: median(small),
      spread: [Math.min(...small), Math.max(...small)],
      goal: '≥ 3,000',
      met: median(small) >= 3_000,
    },
    {
      row: 'relay, sealed, 1 MB in and out: per second of processor time',
      unit: 'MB/s',
      ours: median(large),
      spread: [Math.min(...large), Math.max(...large)],
      goal: '≥ 400',
      met: median(large) >= 400,
    },
  ];
}
