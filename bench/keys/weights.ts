import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { folderBlobStore, sealModel, segmentNonce, TAG_BYTES, type BlobStore } from '../../artifacts/index.ts';
import { segmentAad, segmentSealer, type SegmentLayout } from '../../artifacts/stream.ts';
import {
  generateSealingKeyPair,
  parseModelPackage,
  sealTo,
  SEGMENT_BYTES,
  utf8,
  wrappedKeyInfo,
} from '../../proto/index.ts';
import { startEngine, type EngineLoad } from '../../runtime/agent/engine-process.ts';
import { addModel } from '../../runtime/engine/engine.harness.ts';
import { arrived, newOpening } from '../../runtime/engine/opening.ts';
import type { SharedFile } from '../../runtime/engine/segment-cipher.ts';
import { makeJail, type Jail } from '../../runtime/jail/jail.ts';
import { median } from '../measure.ts';
import type { Row } from '../row.ts';

const ROUNDS = 5;
const SEGMENTS = 1024;
const THREADS = 2;
const MODEL = 'bench/weights@1';
const CHALLENGE = 'c'.repeat(43);

/** How fast weights are opened and loaded. */
export async function weights(): Promise<Row[]> {
  return [await opening(), await loading()];
}

/** 1 GiB that lies in memory, opened in place; beside what OpenSSL says of its own AES-256-GCM in the same run. */
async function opening(): Promise<Row> {
  const dataKey = new Uint8Array(new SharedArrayBuffer(32));
  crypto.getRandomValues(dataKey as unknown as Uint8Array<ArrayBuffer>);
  const layout: SegmentLayout = {
    path: 'model.onnx',
    bytes: SEGMENTS * SEGMENT_BYTES,
    segmentBytes: SEGMENT_BYTES,
    noncePrefix: '00112233445566',
  };
  const file: SharedFile = {
    segments: SEGMENTS,
    segmentBytes: SEGMENT_BYTES,
    bytes: new Uint8Array(new SharedArrayBuffer(layout.bytes)),
    tags: new Uint8Array(new SharedArrayBuffer(SEGMENTS * TAG_BYTES)),
    nonces: Buffer.concat(Array.from({ length: SEGMENTS }, (_, index) => segmentNonce(layout, index))),
    aad: segmentAad(layout, MODEL),
  };
  const sealer = segmentSealer(dataKey, layout, MODEL);
  const plaintext = randomBytes(SEGMENT_BYTES);
  const sealed: Uint8Array[] = [];
  for (let i = 0; i < SEGMENTS; i++) sealed.push(...sealer.push(plaintext));
  sealed.push(sealer.end());

  const [ours, reference]: [number[], number[]] = [[], []];
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, segment] of sealed.entries()) {
      file.bytes.set(segment.subarray(0, -TAG_BYTES), i * SEGMENT_BYTES);
      file.tags.set(segment.subarray(-TAG_BYTES), i * TAG_BYTES);
    }
    ours.push(layout.bytes / (await openOnThreads(dataKey, file)) / 1e6);
    reference.push(openSslSpeed());
  }
  if (Buffer.compare(file.bytes.subarray(-SEGMENT_BYTES), plaintext) !== 0) throw new Error('opened to other bytes');
  const ratio = median(ours.map((speed, i) => speed / (reference[i] ?? Number.NaN)));
  return {
    row: `opening 1 GiB of segments of 1 MiB on ${THREADS} threads, to \`openssl speed\` with as many`,
    unit: 'GB/s',
    ours: median(ours),
    reference: median(reference),
    ratio,
    spread: [Math.min(...ours), Math.max(...ours)],
    goal: '≥ 1.5 GB/s, ≥ 0.8 of it',
    met: median(ours) >= 1.5 && ratio >= 0.8,
  };
}

/** @returns ms from the moment that threads may begin to the end of the last one */
async function openOnThreads(dataKey: Uint8Array<SharedArrayBuffer>, file: SharedFile): Promise<number> {
  const opening = newOpening(dataKey, [file]);
  const threads = Array.from({ length: THREADS }, () => {
    const code = new URL('../../runtime/engine/opening-thread.ts', import.meta.url);
    const thread = new Worker(code, { workerData: { task: 'open', opening } });
    return new Promise<void>((done, failed) =>
      thread
        .once('message', ({ refused }: { refused?: object }) => (refused ? failed(new Error('refused')) : done()))
        .once('error', failed),
    );
  });
  await new Promise((resolve) => setTimeout(resolve, 500)); // they wait for their first segment by then
  const began = performance.now();
  arrived(opening, file.segments);
  await Promise.all(threads);
  return performance.now() - began;
}

/** GB/s of the machine's own OpenSSL, which opens one buffer of a segment's size over and over. */
function openSslSpeed(): number {
  const size = String(SEGMENT_BYTES);
  const what = ['-bytes', size, '-decrypt', '-evp', 'aes-256-gcm', '-multi', String(THREADS)];
  const { stdout } = spawnSync('openssl', ['speed', '-mr', '-seconds', '1', ...what], { encoding: 'utf8' });
  const speed = /^\+F:\d+:[^:]+:([\d.]+)/m.exec(stdout)?.[1];
  if (speed === undefined) throw new Error('openssl speed printed no figure');
  return Number(speed) / 1e9;
}

/** A model of 1 GB from a folder of blobs into an engine that answers: encrypted, and the same bytes as they are. */
async function loading(): Promise<Row> {
  const dir = await mkdtemp(join(tmpdir(), 'cfn-bench-weights-'));
  try {
    const length = 250_000_000;
    await writeFile(join(dir, 'graph'), addModel(length, [['location', 'w.bin']]));
    const data = await open(join(dir, 'w.bin'), 'w');
    const piece = new Float32Array(1_000_000).map((_, i) => i / 7);
    for (let i = 0; i < length / piece.length; i++) await data.write(new Uint8Array(piece.buffer));
    await data.close();
    const files = [
      { path: 'model.onnx', source: join(dir, 'graph') },
      { path: 'w.bin', source: join(dir, 'w.bin') },
    ];
    const store = folderBlobStore(join(dir, 'blobs'));
    const kms = { url: 'http://127.0.0.1:9000', publicKey: (await generateSealingKeyPair()).publicKey };
    const { manifestBytes, digest, dataKey } = await sealModel({ model: MODEL, files, kms, store });
    const sealed = await parseModelPackage(manifestBytes);
    // The same bytes as they are. Their digest is checked by the store, as the engine checks it where they come encrypted.
    for (const [i, { plaintextDigest }] of sealed.files.entries())
      await store.put(plaintextDigest, createReadStream(files[i]?.source ?? ''));
    const plain = { ...sealed, files: sealed.files.map((f) => ({ ...f, ciphertextDigest: f.plaintextDigest })) };

    const time = async (
      jail: Jail,
      blobs: BlobStore,
      load: (wrappingKey: string) => Promise<EngineLoad>,
    ): Promise<number> => {
      const socketDir = await mkdtemp(join(dir, 's-'));
      const engine = await startEngine({ jail, socketDir, stderr: 'inherit' });
      const options = await load(engine.wrappingKey);
      const began = performance.now();
      await engine.load(options, blobs);
      const took = performance.now() - began;
      engine.kill();
      await engine.ended;
      return took;
    };
    const lease = { digest, challenge: CHALLENGE, leaseMs: 600_000 };
    const encrypted = (): Promise<number> =>
      time(makeJail({ bubblewrap: undefined, architecture: undefined, cgroups: undefined }), store, async (key) => ({
        ...lease,
        package: sealed,
        packageBytes: manifestBytes,
        wrappedKey: await sealTo(key, dataKey, wrappedKeyInfo(digest, CHALLENGE)),
      }));
    const asTheyAre = (): Promise<number> =>
      time(plainJail, { ...store, getUnverified: (blob) => store.get(blob) }, async () => ({
        ...lease,
        package: plain,
        packageBytes: utf8(JSON.stringify(plain, (name, value: unknown) => (name === 'digest' ? undefined : value))),
        wrappedKey: { enc: '', ciphertext: '' },
      }));
    const [ours, reference]: [number[], number[]] = [[], []];
    await encrypted();
    await asTheyAre();
    for (let round = 0; round < ROUNDS; round++) {
      ours.push((await encrypted()) / 1000);
      reference.push((await asTheyAre()) / 1000);
    }
    const ratio = median(ours.map((s, i) => s / (reference[i] ?? Number.NaN)));
    return {
      row: 'load of a 1 GB model, to the same bytes unencrypted',
      unit: 's',
      ours: median(ours),
      reference: median(reference),
      ratio,
      spread: [Math.min(...ours), Math.max(...ours)],
      goal: '≤ 1.15 of it',
      met: ratio <= 1.15,
    };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Starts the engine that knows no cryptography. */
const plainJail: Jail = {
  layers: [],
  start: (_, { env, stdio }) =>
    spawn(process.execPath, [fileURLToPath(new URL('plain-engine.ts', import.meta.url))], { env, stdio }),
};
