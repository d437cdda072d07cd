import { fromHex } from '../../../proto/index.ts';
import type { PublicKey } from '../../evidence/algorithms.ts';
import type { SnpReport } from '../../evidence/snp.ts';
import { verifyEcdsa } from '../pki/signatures.ts';

/** Order of P-384's group (FIPS 186-5, SP 800-186 §3.2.1.4). */
const ORDER = fromHex(
  'ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973',
);

/** Whether the key signed the report. Never throws: a key of another kind signed nothing. */
export async function isReportSigned(
  { signature, signedBytes }: Pick<SnpReport, 'signature' | 'signedBytes'>,
  key: PublicKey,
): Promise<boolean> {
  if (key.type !== 'ec' || key.curve !== 'P-384') return false;
  const scalars = [signature.subarray(0, ORDER.length), signature.subarray(ORDER.length)];
  return scalars.every(isScalar) && (await verifyEcdsa(key, 'SHA-384', signature, signedBytes));
}

/** Whether 1 ≤ value < order. */
function isScalar(value: Uint8Array): boolean {
  const different = value.findIndex((byte, index) => byte !== ORDER[index]);
  return value.some((byte) => byte !== 0) && different >= 0 && (value[different] ?? 0) < (ORDER[different] ?? 0);
}
