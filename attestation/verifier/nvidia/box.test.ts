import { describe, expect, test } from 'vitest';
import { box, h100, judge } from './nvidia.fixture.ts';

const NO_RIMS = { notChecked: 'no RIM of these versions is published' };
const PROTECTED = { modes: ['protected-pcie'], measurements: NO_RIMS } as const;
const NOW = new Date('2026-01-15T00:00:00Z');
const machine = (change: Partial<ReturnType<typeof box>> = {}) => h100({ rims: [], now: NOW, ...box(), ...change });

/** A capture of a real machine (NVIDIA/nvtrust): eight H100 and four switches that name each other. */
describe('a machine of eight GPUs behind four switches', () => {
  test('is accepted, its topology verified', async () => {
    const { findings, verification } = await judge(machine(), PROTECTED);
    expect(findings.failures).toEqual([]);
    expect(findings.list).toContainEqual({ check: 'GPU and switch topology', outcome: 'passed' });
    expect(verification.gpus).toHaveLength(8);
  });

  test('is refused where RIMs are demanded: all twelve devices lack theirs', async () => {
    const { findings, reasons } = await judge(machine(), { ...PROTECTED, measurements: 'rims' });
    expect(reasons).toEqual(['collateral/rim-missing']);
    expect(findings.failures).toHaveLength(20);
  });

  test('is refused without one of its switches, and without all', async () => {
    const { switches } = box();
    expect((await judge(machine({ switches: switches.slice(1) }), PROTECTED)).reasons).toEqual(['policy/gpu-topology']);
    expect((await judge(machine({ switches: [] }), PROTECTED)).reasons).toEqual(['policy/gpu-topology']);
    const whenSupplied = { ...PROTECTED, switches: { whenSupplied: 'the host sees to the fabric' } };
    expect((await judge(machine({ switches: [] }), whenSupplied)).reasons).toEqual([]);
  });

  test('is refused without one of its GPUs, or with one of another machine', async () => {
    const { gpus } = box();
    expect((await judge(machine({ gpus: gpus.slice(1) }), PROTECTED)).reasons).toEqual(['policy/gpu-topology']);
    const [stranger] = h100().gpus;
    if (stranger === undefined) throw new RangeError('the fixture has a GPU');
    const mixed = [...gpus.slice(1), stranger];
    expect((await judge(machine({ gpus: mixed }), PROTECTED)).reasons).toEqual([
      'binding/nonce-mismatch',
      'policy/gpu-mode',
      'policy/gpu-topology',
    ]);
  });

  test('is refused with one GPU or switch shown twice', async () => {
    const { gpus, switches } = box();
    const twice = gpus.map((gpu, i) => ({ ...(i === 1 ? (gpus[0] ?? gpu) : gpu), name: gpu.name }));
    expect((await judge(machine({ gpus: twice }), PROTECTED)).reasons).toEqual([
      'policy/gpu-duplicate',
      'policy/gpu-topology',
    ]);
    const doubled = switches.map((item, i) => ({ ...(i === 1 ? (switches[0] ?? item) : item), name: item.name }));
    expect((await judge(machine({ switches: doubled }), PROTECTED)).reasons).toEqual([
      'policy/gpu-duplicate',
      'policy/gpu-topology',
    ]);
  });

  test('is refused with the report of one GPU under the chain of another', async () => {
    const { gpus } = box();
    const [first, second] = gpus;
    if (first === undefined || second === undefined) throw new RangeError('the fixture has eight GPUs');
    const swapped = [{ ...first, chain: second.chain }, { ...second, chain: first.chain }, ...gpus.slice(2)];
    expect((await judge(machine({ gpus: swapped }), PROTECTED)).reasons).toEqual(['evidence/gpu-report-signature']);
  });

  test('is refused with the report of a switch under the chain of another', async () => {
    const { switches } = box();
    const [first, second] = switches;
    if (first === undefined || second === undefined) throw new RangeError('the fixture has four switches');
    const swapped = [{ ...first, chain: second.chain }, { ...second, chain: first.chain }, ...switches.slice(2)];
    expect((await judge(machine({ switches: swapped }), PROTECTED)).reasons).toEqual([
      'certificate/wrong-product',
      'evidence/gpu-report-signature',
    ]);
  });

  test('is refused by a policy for single GPUs, or for fewer', async () => {
    const { reasons } = await judge(machine(), { measurements: NO_RIMS, countMax: 4 });
    expect(reasons).toEqual(['policy/gpu-count', 'policy/gpu-mode']);
  });
});
