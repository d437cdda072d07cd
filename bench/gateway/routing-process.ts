import { createHash, randomBytes } from 'node:crypto';
import { fleet } from '../../gateway/routing/fleet.ts';
import { seededRandom } from '../../gateway/routing/random.ts';
import { router } from '../../gateway/router.ts';
import type { WorkerStatus } from '../../proto/grpc.ts';
import type { SignedManifest } from '../../proto/index.ts';

// A gateway's view of 10,000 workers (simulated: nothing is connected) and 100,000 functions, each on four of them; then decisions.
const WORKERS = 10_000;
const FUNCTIONS = 100_000;
const COPIES = 4;
const DECISIONS = 200_000;

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');
const workers = Array.from({ length: WORKERS }, (_, i) => digest(`worker ${i}`));
const versions = Array.from({ length: FUNCTIONS }, (_, i) => digest(`version ${i}`));
const tell = new Map<string, (status: WorkerStatus) => void>();
const monotonicMs = (): number => performance.now();

const view = fleet({
  registry: { get: (workerId) => ({ workerId }) as never },
  connection: (workerId) =>
    ({
      watch: (onStatus: (status: WorkerStatus) => void) => (tell.set(workerId, onStatus), { stop: () => {} }),
    }) as never,
  monotonicMs,
});
for (const worker of workers) view.joined(worker);
for (const [i, worker] of workers.entries()) {
  const held = Array.from({ length: (FUNCTIONS * COPIES) / WORKERS }, (_, k) => {
    const at = (i * 7919 + k * 104_729) % FUNCTIONS;
    return { version: versions[at] ?? '', inflight: 0 };
  });
  tell.get(worker)?.({ inflight: i % 50, capacity: 256, versions: held });
}
const routes = router({
  fleet: view,
  store: {} as never,
  random: seededRandom(new Uint8Array(randomBytes(16))),
  monotonicMs,
});
const signed = versions.map((version) => ({ version, jws: '', manifest: { models: [] } }) as unknown as SignedManifest);

async function decide(count: number): Promise<number> {
  const began = performance.now();
  for (let i = 0; i < count; i++) {
    const version = signed[(i * 7919) % FUNCTIONS];
    if (version !== undefined) (await routes.toAny(version)).release();
  }
  return ((performance.now() - began) * 1000) / count;
}
await decide(DECISIONS / 4);
const microseconds = [await decide(DECISIONS), await decide(DECISIONS), await decide(DECISIONS)];
process.stdout.write(`${JSON.stringify({ ready: true, microseconds, residentBytes: process.memoryUsage.rss() })}\n`);
process.exit(0);
