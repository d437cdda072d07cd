import { concatBytes, fromHex, sha384, utf8 } from '../../proto/index.ts';
import { DER } from '../evidence/der.ts';
import { FIRMWARE_ID_EXTENSION } from '../evidence/gpu-certificate.ts';
import { SGX_EXTENSION } from '../evidence/pck.ts';
import { issueCertificate, type CertificateRequest, type Issued } from './certificates.ts';
import { bitString, der, integer, octetString, oid, sequence } from '../evidence/der-writer.ts';

/** Same bounds as Intel's root, so that no clock is needed. */
const VALIDITY = { notBefore: '2018-05-21T00:00:00Z', notAfter: '2049-12-31T23:59:59Z' };
/** NVIDIA's certificates never end. */
const ENDLESS = { notBefore: '2018-05-21T00:00:00Z', notAfter: '9999-12-31T23:59:59Z' };

/** Leaf first. Only the leaf's key stays in use. */
export interface SimulatedChain {
  readonly certificates: readonly Uint8Array[];
  readonly leafKey: CryptoKey;
}

/** PCK leaf, platform CA, root: P-256, with Intel's SGX extension in the leaf. */
export async function makePckChain(): Promise<SimulatedChain> {
  const base = { curve: 'P-256', ...VALIDITY } as const;
  const root = await issueCertificate({ ...base, commonName: 'SIMULATED SGX Root CA', isCa: true, pathLength: 1 });
  const platform = await issueCertificate(
    { ...base, commonName: 'SIMULATED SGX PCK Platform CA', isCa: true, pathLength: 0 },
    root,
  );
  const leaf = await issueCertificate(
    {
      ...base,
      commonName: 'SIMULATED SGX PCK Certificate',
      isCa: false,
      extensions: { [SGX_EXTENSION]: sgxExtension() },
    },
    platform,
  );
  return toChain([leaf, platform, root]);
}

/** Five certificates as NVIDIA has them: P-384, with the firmware id in the leaf. */
export async function makeGpuChain(): Promise<SimulatedChain> {
  const base = { curve: 'P-384', isCa: true, ...ENDLESS } as const;
  const names: CertificateRequest[] = [
    { ...base, commonName: 'SIMULATED Device Identity CA' },
    { ...base, commonName: 'SIMULATED GH100 Identity' },
    { ...base, commonName: 'SIMULATED GH100 Provisioner ICA 1' },
    { ...base, commonName: 'SIMULATED GH100 A01 GSP BROM' },
    {
      ...base,
      commonName: 'SIMULATED GH100 A01 GSP FMC LF',
      isCa: false,
      extensions: { [FIRMWARE_ID_EXTENSION]: await compositeDeviceId() },
    },
  ];
  const chain: Issued[] = [];
  for (const request of names) chain.unshift(await issueCertificate(request, chain[0]));
  return toChain(chain);
}

export function simulatedFirmwareId(): Promise<Uint8Array<ArrayBuffer>> {
  return sha384(utf8('cfn SIMULATED GPU firmware'));
}

/** As in Hopper's leaf certificates; the device id is a key that nobody has. */
async function compositeDeviceId(): Promise<Uint8Array> {
  const deviceId = sequence(sequence(oid('1.2.840.10045.2.1'), oid('1.3.132.0.34')), bitString(new Uint8Array(97)));
  const sha384Oid = oid('2.16.840.1.101.3.4.2.2');
  return sequence(integer(1), deviceId, sequence(sha384Oid, octetString(await simulatedFirmwareId())));
}

function toChain(chain: readonly Issued[]): SimulatedChain {
  const [leaf] = chain;
  if (leaf === undefined) throw new RangeError('a chain has a leaf');
  return { certificates: chain.map((issued) => issued.der), leafKey: leaf.keys.privateKey };
}

/** Plausible values; FMSPC zero belongs to no processor. */
function sgxExtension(): Uint8Array {
  const item = (suffix: string, value: Uint8Array): Uint8Array => sequence(oid(`${SGX_EXTENSION}.${suffix}`), value);
  const cpuSvn = Uint8Array.of(8, 8, 2, 2, 4, 1, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0);
  const tcb = [...cpuSvn].map((svn, index) => item(`2.${index + 1}`, integer(svn)));
  return sequence(
    item('1', octetString(new Uint8Array(16))),
    item('2', sequence(concatBytes(...tcb, item('2.17', integer(11)), item('2.18', octetString(cpuSvn))))),
    item('3', octetString(fromHex('0000'))),
    item('4', octetString(fromHex('000000000000'))),
    item('5', der(DER.enumerated, Uint8Array.of(1))),
  );
}
