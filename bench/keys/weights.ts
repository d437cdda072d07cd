import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { openSegment, segmentSealer, type SegmentLayout } from '../../artifacts/stream.ts';
import { SEGMENT_BYTES } from '../../proto/index.ts';
import { median } from '../measure.ts';
import type { Row } from '../row.ts';

const ROUNDS = 5;
const SEGMENTS = 256;
const MODEL = 'bench/weights@1';

/** How fast weights are opened, beside what OpenSSL says of its own AES-256-GCM in the same run. */
export async function weights(): Promise<Row[]> {
  const dataKey = randomBytes(32);
  const layout: SegmentLayout = {
    path: 'model.onnx',
    bytes: SEGMENTS * SEGMENT_BYTES,
    segmentBytes: SEGMENT_BYTES,
    noncePrefix: '00112233445566',
  };
  const sealer = segmentSealer(dataKey, layout, MODEL);
  const sealed = [...sealer.push(new Uint8Array(layout.bytes)), sealer.end()];
  const [ours, reference]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    const began = performance.now();
    for (const [index, segment] of sealed.entries()) openSegment(dataKey, layout, MODEL, index, segment).fill(0);
    ours.push(layout.bytes / (performance.now() - began) / 1e6);
    reference.push(openSslSpeed(1));
  }
  const ratio = median(ours.map((speed, i) => speed / (reference[i] ?? Number.NaN)));
  return await Promise.resolve([
    {
      row: 'opening segments of 1 MiB, to `openssl speed` with as many threads',
      unit: 'GB/s',
      ours: median(ours),
      reference: median(reference),
      ratio,
      spread: [Math.min(...ours), Math.max(...ours)],
      goal: '≥ 1.5 GB/s and ≥ 0.8 of it',
      met: median(ours) >= 1.5 && ratio >= 0.8,
    },
  ]);
}

/** GB/s of the machine's own OpenSSL, which opens one buffer of a segment's size over and over. */
function openSslSpeed(threads: number): number {
  const size = String(SEGMENT_BYTES);
  const args = ['speed', '-mr', '-seconds', '1', '-bytes', size, '-decrypt', '-evp', 'aes-256-gcm'];
  const { stdout } = spawnSync('openssl', threads > 1 ? [...args, '-multi', String(threads)] : args, {
    encoding: 'utf8',
  });
  const speed = /\+F:\d+:[^:]+:([\d.]+)/.exec(stdout)?.[1];
  if (speed === undefined) throw new Error('openssl speed printed no figure');
  return Number(speed) / 1e9;
}
