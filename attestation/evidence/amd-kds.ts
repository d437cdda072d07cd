import { toHex } from '../../proto/index.ts';
import { readTcb, type AmdProduct, type TcbComponent } from './amd-product.ts';
import type { SnpReport } from './snp.ts';

/** AMD's key distribution service (AMD 57230). */
export const AMD_KDS = 'https://kdsintf.amd.com';

/** Name of each patch level in a query, in the service's order. */
const QUERY_NAMES: readonly (readonly [TcbComponent, string])[] = [
  ['fmc', 'fmcSPL'],
  ['bootloader', 'blSPL'],
  ['tee', 'teeSPL'],
  ['snp', 'snpSPL'],
  ['microcode', 'ucodeSPL'],
];
const TURIN_CHIP_ID_BYTES = 8;

type Subject = Pick<SnpReport, 'signer' | 'chipId' | 'reportedTcb'>;

/**
 * Where the certificate of a report's signing key is. VLEK certificates are given only to the provider who holds the key.
 * `undefined` when nobody signed, or the chip's id is masked, so that nothing names its key.
 *
 * @throws {Refusal} `parse/reserved` when REPORTED_TCB is not of that product
 */
export function kdsLeafUrl(report: Subject, product: AmdProduct, base = AMD_KDS): string | undefined {
  if (report.signer === 'none') return undefined;
  const tcb = readTcb(report.reportedTcb, product, 'REPORTED_TCB');
  const query = QUERY_NAMES.flatMap(([component, name]) => {
    const level = tcb[component];
    return level === undefined ? [] : [`${name}=${level}`];
  }).join('&');
  if (report.signer === 'VLEK') return `${base}/vlek/v1/${product}/cert?${query}`;
  if (isMasked(report)) return undefined;
  const id = product === 'Turin' ? report.chipId.subarray(0, TURIN_CHIP_ID_BYTES) : report.chipId;
  return `${base}/vcek/v1/${product}/${toHex(id)}?${query}`;
}

/** Where ASK (or ASVK) and ARK are, in this order, PEM. */
export function kdsChainUrl(kind: 'VCEK' | 'VLEK', product: AmdProduct, base = AMD_KDS): string {
  return `${base}/${kind.toLowerCase()}/v1/${product}/cert_chain`;
}

/** Where the ARK's revocation list is, DER. */
export function kdsCrlUrl(kind: 'VCEK' | 'VLEK', product: AmdProduct, base = AMD_KDS): string {
  return `${base}/${kind.toLowerCase()}/v1/${product}/crl`;
}

/** Whether the platform hides the chip's id: it reports zeros. */
export function isMasked({ chipId }: Pick<SnpReport, 'chipId'>): boolean {
  return chipId.every((byte) => byte === 0);
}
