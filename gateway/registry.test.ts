import { expect, test } from 'vitest';
import { NO_ENDORSEMENTS } from '../proto/index.ts';
import { memoryRegistry, type AdmittedWorker } from './registry.ts';

const at = (seconds: number): Date => new Date(seconds * 1000);
const worker = (workerId: string, address: string, leaseEndsAt: Date): AdmittedWorker => ({
  workerId,
  address,
  tee: 'simulated',
  simulated: true,
  keys: {
    format: 'cfn/worker-keys/v1',
    tls: { spki: '0'.repeat(64) },
    ohttp: { config: 'AA' },
    receipt: { publicKey: 'A'.repeat(43) },
    notAfter: '2030-01-01T00:00:00Z',
  },
  evidence: {
    format: 'cfn/evidence/v1',
    tee: 'simulated',
    nonce: 'AA',
    workerKeys: 'AA',
    quote: 'AA',
    gpus: [],
    endorsements: NO_ENDORSEMENTS,
  },
  evidenceDigest: '0'.repeat(64),
  nonce: '00',
  result: 'a.b.c',
  admittedAt: at(0),
  leaseEndsAt,
  leaseEndsMs: leaseEndsAt.getTime(),
});

test('an expired lease is never given out', () => {
  let seconds = 0;
  const registry = memoryRegistry(() => seconds * 1000);
  registry.admit(worker('a', 'h:1', at(10)));
  registry.admit(worker('b', 'h:2', at(20)));
  expect(registry.live().map((it) => it.workerId)).toEqual(['a', 'b']);
  seconds = 10;
  expect(registry.get('a')).toBeUndefined();
  expect(registry.live().map((it) => it.workerId)).toEqual(['b']);
  registry.admit(worker('b', 'h:2', at(30)));
  seconds = 29;
  expect(registry.get('b')).toBeDefined();
});

test('a removed worker is out at once, and an address has one worker', () => {
  const registry = memoryRegistry(() => 0);
  registry.admit(worker('a', 'h:1', at(10)));
  registry.admit(worker('c', 'h:1', at(10)));
  expect(registry.live().map((it) => it.workerId)).toEqual(['c']);
  registry.remove('c');
  expect(registry.get('c')).toBeUndefined();
});
