import type { AttestationResult } from './policy.ts';

type Claims = AttestationResult['claims'];

/** What an appraisal means, for people. SIMULATED is said first and in capitals, as it then proves nothing about hardware. */
export function trustLines({ tee, simulated, workerId, claims, binding, findings }: AttestationResult): string[] {
  return [
    `worker ${workerId}`,
    simulated
      ? '  SIMULATED: a root made on one machine vouches for it, no hardware does. Whoever runs that machine can read everything.'
      : `  ${tee.toUpperCase()}: hardware vouches for it`,
    `  measurement ${claims.tdx?.mrtd ?? claims.snp?.measurement ?? ''}`,
    ...(claims.tdx?.tcb == null ? [] : [`  TCB ${claims.tdx.tcb.status}`]),
    ...claims.gpus.map((gpu) => `  GPU ${describeGpu(gpu)}`),
    ...(claims.gpus.length === 0 ? [] : [`  CPU and GPU bound by ${binding}`]),
    ...findings.flatMap((finding) => (finding.outcome === 'passed' ? [`  checked: ${finding.check}`] : [])),
    ...findings.flatMap((finding) =>
      finding.outcome === 'skipped' ? [`  NOT checked: ${finding.check}: ${finding.detail}`] : [],
    ),
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
  binding,
  findings,
}: AttestationResult): object {
  return {
    workerId,
    tee,
    simulated,
    evidence: evidenceDigest,
    keysNotAfter: workerKeys.notAfter,
    claims,
    binding,
    findings,
  };
}

function describeGpu({ family, device, driver, vbios }: Claims['gpus'][number]): string {
  return [family, device, driver && `driver ${driver}`, vbios && `VBIOS ${vbios}`].filter(Boolean).join(', ');
}
