import {
  bitString,
  context,
  der,
  ecdsaSignature,
  integer,
  octetString,
  oid,
  sequence,
  time,
} from '../evidence/der-writer.ts';
import { DER } from '../evidence/der.ts';
import { parseCertificate } from '../evidence/x509.ts';
import { sign, type Issued } from '../insecure/certificates.ts';

export interface CrlRequest {
  /** RFC 3339, UTC, whole seconds. */
  readonly thisUpdate: string;
  /** `null` leaves it out. */
  readonly nextUpdate: string | null;
  readonly revoked?: readonly {
    readonly serial: Uint8Array;
    readonly reason?: number;
    readonly extensions?: Uint8Array;
  }[];
  /** Extensions beside the CRL number, as DER. */
  readonly extensions?: readonly Uint8Array[];
  readonly version?: number;
}

/** Makes a CRL signed by `issuer` (P-256). `signer` forges: the issuer's name with another key. */
export async function issueCrl(issuer: Issued, request: CrlRequest, signer: Issued = issuer): Promise<Uint8Array> {
  const algorithm = sequence(oid('1.2.840.10045.4.3.2'));
  const revoked = (request.revoked ?? []).map(({ serial, reason, extensions }) =>
    sequence(
      der(DER.integer, serial),
      time(request.thisUpdate),
      ...(reason === undefined ? [] : [sequence(extension('2.5.29.21', der(DER.enumerated, Uint8Array.of(reason))))]),
      ...(extensions === undefined ? [] : [sequence(extensions)]),
    ),
  );
  const tbs = sequence(
    integer(request.version ?? 1),
    algorithm,
    parseCertificate(issuer.der).subject,
    time(request.thisUpdate),
    ...(request.nextUpdate === null ? [] : [time(request.nextUpdate)]),
    ...(revoked.length === 0 ? [] : [sequence(...revoked)]),
    context(0, sequence(extension('2.5.29.20', integer(1)), ...(request.extensions ?? []))),
  );
  const signature = await sign(signer.keys.privateKey, 'P-256', tbs);
  return sequence(tbs, algorithm, bitString(ecdsaSignature(signature)));
}

export function extension(id: string, value: Uint8Array, isCritical = false): Uint8Array {
  return sequence(oid(id), ...(isCritical ? [der(DER.boolean, Uint8Array.of(0xff))] : []), octetString(value));
}
