import type { Reason } from '../../evidence/reasons.ts';
import type { RimNeed } from './rim-id.ts';
import type { SuppliedRim } from './rim.ts';

/** A RIM that is needed and not there, and what was there instead. */
export interface RimGap {
  readonly kind: RimNeed['kind'];
  readonly id: string | undefined;
  readonly reason: Reason;
  readonly detail: string;
}

/**
 * Finds the RIMs that a device needs by their content; file names and ids are anybody's. There can be several of one version, as
 * NVIDIA reissues them, and boards that share a VBIOS version have RIMs of their own.
 */
export function chooseRims(need: RimNeed, supplied: readonly SuppliedRim[]): SuppliedRim[] {
  const { kind, product, version } = need;
  return supplied.filter(({ rim }) => rim.kind === kind && rim.product === product && isVersion(rim.version, version));
}

/** Why {@link chooseRims} finds nothing: another version or product is there, or none at all. */
export function explainGap(need: RimNeed, supplied: readonly SuppliedRim[]): RimGap {
  const { kind, product, version, id } = need;
  const gap = (reason: Reason, detail: string): RimGap => ({
    kind,
    id,
    reason,
    detail: `${id ?? `${kind} RIM`}: ${detail}`,
  });
  if (version === undefined) return gap('collateral/rim-missing', `the report does not say its ${kind} version`);
  const same = supplied.filter(({ rim }) => rim.kind === kind).map(({ rim }) => rim);
  const otherProduct = same.find((rim) => isVersion(rim.version, version));
  if (otherProduct !== undefined)
    return gap(
      'collateral/rim-product',
      `the RIM of ${version} is for ${otherProduct.product}, the device is ${product}`,
    );
  const otherVersion = same.find((rim) => rim.product === product);
  if (otherVersion !== undefined)
    return gap('collateral/rim-version', `the RIM is of version ${otherVersion.version}, the report of ${version}`);
  return gap('collateral/rim-missing', 'the RIM is missing');
}

function isVersion(version: string, reported: string | undefined): boolean {
  return version.toLowerCase() === reported?.toLowerCase();
}
