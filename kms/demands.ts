import type { Grant, Reference } from '../proto/index.ts';
import type { AttestationResult } from '../attestation/verifier/index.ts';

/** What of an appraisal decides. */
interface Shown {
  readonly tee: AttestationResult['tee'];
  readonly claims: {
    readonly tdx: Pick<TdxClaims, 'mrtd' | 'rtmrs'> | undefined;
    readonly snp: Pick<SnpClaims, 'measurement'> | undefined;
    readonly gpus: readonly { readonly family: string }[];
  };
}
type TdxClaims = NonNullable<AttestationResult['claims']['tdx']>;
type SnpClaims = NonNullable<AttestationResult['claims']['snp']>;

/**
 * What a grant demands of a worker beyond the appraisal policy, and is not so; in words. All of it is decided on what verified evidence
 * says: a demand of which it says nothing is not met.
 */
export function unmetDemands(
  { tee, gpu, reference }: Pick<Grant, 'tee' | 'gpu' | 'reference'>,
  worker: Shown,
): string[] {
  const { gpus } = worker.claims;
  const unmet: string[] = [];
  if (tee !== undefined && !tee.includes(worker.tee)) unmet.push(`a TEE of kind ${tee.join(' or ')}`);
  if (gpu !== undefined && !(gpus.length > 0 && gpus.every(({ family }) => gpu.some((kind) => kind === family))))
    unmet.push(`GPUs of architecture ${gpu.join(' or ')}`);
  if (reference !== undefined && !matches(reference, worker)) unmet.push('an image with other measurements');
  return unmet;
}

function matches(reference: Reference, { claims: { tdx, snp } }: Shown): boolean {
  const [rtmr0, rtmr1, rtmr2, rtmr3] = tdx?.rtmrs ?? [];
  const shown: Readonly<Record<keyof Reference, string | undefined>> = {
    mrtd: tdx?.mrtd,
    rtmr0,
    rtmr1,
    rtmr2,
    rtmr3,
    measurement: snp?.measurement,
  };
  const demanded = Object.entries(reference) as [keyof Reference, string[] | undefined][];
  // Values of the other TEE kind are passed over: one reference file can be for images of both.
  const ofKind = demanded.filter(([name]) => (name === 'measurement') === (tdx === undefined));
  return ofKind.length > 0 && ofKind.every(([name, values]) => values?.includes(shown[name] ?? '') ?? false);
}
