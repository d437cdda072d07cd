import type { AttestationResult } from './policy.ts';

type Claims = AttestationResult['claims'];

/** What an appraisal means, for people. SIMULATED is said first and in capitals, as it then proves nothing about hardware. */
export function trustLines({ tee, simulated, workerId, claims, checks, skipped }: AttestationResult): string[] {
  return [
    `worker ${workerId}`,
    simulated
      ? '  SIMULATED: a root made on one machine vouches for it, no hardware does. Whoever runs that machine can read everything.'
      : `  ${tee.toUpperCase()}: hardware vouches for it`,
    `  measurement ${claims.mrtd}`,
    ...claims.gpus.map((gpu) => `  GPU ${describeGpu(gpu)}`),
    ...checks.map(({ name }) => `  checked: ${name}`),
    ...skipped.map(({ name, reason }) => `  NOT checked: ${name}: ${reason}`),
  ];
}

/** The same for programs. */
export function trustJson({
  tee,
  simulated,
  workerId,
  evidenceDigest,
  workerKeys,
  claims,
  checks,
  skipped,
}: AttestationResult): object {
  return {
    workerId,
    tee,
    simulated,
    evidence: evidenceDigest,
    keysNotAfter: workerKeys.notAfter,
    claims,
    checks,
    skipped,
  };
}

function describeGpu({ arch, device, driverVersion, vbiosVersion }: Claims['gpus'][number]): string {
  return [arch, device, driverVersion && `driver ${driverVersion}`, vbiosVersion && `VBIOS ${vbiosVersion}`]
    .filter(Boolean)
    .join(', ');
}
