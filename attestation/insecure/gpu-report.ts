import { concatBytes, fromHex, sha384, utf8 } from '../../proto/index.ts';
import { OPAQUE } from '../evidence/nvidia.ts';
import { sign } from './certificates.ts';
import { simulatedFirmwareId, type SimulatedChain } from './pki.ts';

type Bytes = Uint8Array<ArrayBuffer>;

export const SIMULATED_DRIVER = 'SIMULATED';
/** Prints as 00.00.00.00.01. */
export const SIMULATED_VBIOS = '00.00.00.00.01';
const BLOCKS = 64;

/** Value of each of the 64 blocks, by RIM index. */
export function simulatedGpuMeasurements(): Promise<Bytes[]> {
  return Promise.all(
    Array.from({ length: BLOCKS }, (_, index) => sha384(utf8(`cfn SIMULATED GPU measurement ${index}`))),
  );
}

/** A Hopper report over a 32-byte nonce, signed by the leaf's key: SPDM 1.1 request ‖ response. */
export async function writeGpuReport(chain: SimulatedChain, nonce: Uint8Array): Promise<Bytes> {
  const values = await simulatedGpuMeasurements();
  const record = concatBytes(
    ...values.map((value, index) =>
      concatBytes(Uint8Array.of(index + 1, 1), u16(3 + value.length), Uint8Array.of(1), u16(value.length), value),
    ),
  );
  const opaque = await opaqueData();
  const signed = concatBytes(
    fromHex('11e001ff'),
    nonce,
    Uint8Array.of(0), // slot
    fromHex('11600000'),
    Uint8Array.of(BLOCKS, record.length & 0xff, (record.length >> 8) & 0xff, record.length >> 16),
    record,
    crypto.getRandomValues(new Uint8Array(32)),
    u16(opaque.length),
    opaque,
  );
  return concatBytes(signed, await sign(chain.leafKey, 'P-384', signed));
}

/** Fields in the order of real reports (driver 550). */
async function opaqueData(): Promise<Bytes> {
  const field = (type: number, value: Uint8Array): Bytes => concatBytes(u16(type), u16(value.length), value);
  return concatBytes(
    field(OPAQUE.vbiosVersion, fromHex('0000000001000000')),
    field(14, fromHex('00000000')),
    field(15, utf8('SIM\0\0\0\0\0\0')),
    field(16, utf8('0\0')),
    field(OPAQUE.project, utf8('SIMU\0')),
    field(OPAQUE.projectSku, utf8('0000\0')),
    field(OPAQUE.projectSkuModifier, utf8('\0\0')),
    field(OPAQUE.driverVersion, utf8(`${SIMULATED_DRIVER}\0`)),
    field(4, fromHex('0000000000000000')),
    field(12, new Uint8Array(256)),
    field(13, fromHex('00000000')),
    field(OPAQUE.nvdec0, fromHex('55')),
    field(OPAQUE.fwid, await simulatedFirmwareId()),
    field(OPAQUE.protectedPcie, fromHex('55')),
  );
}

function u16(value: number): Bytes {
  return Uint8Array.of(value & 0xff, value >> 8);
}
