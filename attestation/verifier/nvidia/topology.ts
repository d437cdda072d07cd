import { refuse } from '../../evidence/reasons.ts';
import type { Findings } from '../findings.ts';
import type { GpuDemands } from './demands.ts';
import type { NvidiaVerification } from './verify.ts';

/**
 * Checks that GPUs and switches are of one machine: each GPU names just these switches on its links, and each switch just these
 * GPUs. Both name devices by the id in their certificates, so that neither can be swapped for one of another machine.
 */
export async function appraiseTopology(
  { gpus, switches }: NvidiaVerification,
  demand: GpuDemands['switches'],
  findings: Findings,
): Promise<void> {
  const behind = gpus.filter(({ report }) => (report.switchPdis?.length ?? 0) > 0 || report.protectedPcie === 'on');
  const check = 'GPU and switch topology';
  if (switches.length === 0) {
    if (behind.length === 0) return findings.skip(check, 'no GPU reports a switch');
    if (demand !== 'required') return findings.skip(check, demand.whenSupplied);
    await findings.check(check, () =>
      refuse('policy/gpu-topology', `${behind.length} GPUs are behind switches, of which there is no report`),
    );
    return;
  }
  await findings.check(check, () => requireTopology({ gpus, switches }));
}

function requireTopology({ gpus, switches }: NvidiaVerification): void {
  const gpuIds = idsOf(gpus);
  const switchIds = idsOf(switches);
  for (const { name, report } of gpus) requireSame(report.switchPdis, switchIds, `${name} is linked to the switches`);
  for (const { name, report } of switches) requireSame(report.gpuPdis, gpuIds, `${name} is linked to the GPUs`);
  const positions = switches.map(({ report }) => report.position);
  if (new Set(positions).size !== positions.length)
    refuse('policy/gpu-topology', `switches are at the positions ${positions.join(', ')}`);
}

function idsOf(devices: NvidiaVerification['gpus'] | NvidiaVerification['switches']): string[] {
  return devices.map(({ device, name }) => device?.pdi ?? `unknown ${name}`).sort();
}

function requireSame(reported: readonly string[] | undefined, expected: readonly string[], what: string): void {
  const list = reported?.join(', ') ?? 'that it does not report';
  if (list !== expected.join(', '))
    refuse('policy/gpu-topology', `${what} ${list}; reports are there of ${expected.join(', ')}`);
}
