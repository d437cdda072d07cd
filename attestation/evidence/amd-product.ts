import { refuse } from './reasons.ts';

/** AMD's product lines, each with its own root key. Genoa stands for Bergamo and Siena too, which share its keys. */
export const AMD_PRODUCTS = ['Milan', 'Genoa', 'Turin'] as const;
export type AmdProduct = (typeof AMD_PRODUCTS)[number];

/** Parts of a TCB version; `fmc` (the first loader in the chip) is Turin's alone. Each is a patch level, 0 to 255. */
export const TCB_COMPONENTS = ['fmc', 'bootloader', 'tee', 'snp', 'microcode'] as const;
export type TcbComponent = (typeof TCB_COMPONENTS)[number];
export type Tcb = Readonly<Partial<Record<TcbComponent, number>>>;

/** Where the parts stand in the eight bytes of a TCB_VERSION (SEV-SNP ABI, 56860, table 3; Turin: family 1Ah). */
const CLASSIC_LAYOUT = { bootloader: 0, tee: 1, snp: 6, microcode: 7 } as const;
const TURIN_LAYOUT = { fmc: 0, bootloader: 1, tee: 2, snp: 3, microcode: 7 } as const;
const LAYOUTS = { Milan: CLASSIC_LAYOUT, Genoa: CLASSIC_LAYOUT, Turin: TURIN_LAYOUT } as const;

export const TCB_BYTES = 8;

/** Byte of each part in a product's TCB_VERSION; a part that the product lacks is not there. */
export function tcbLayout(product: AmdProduct): Readonly<Partial<Record<TcbComponent, number>>> {
  return LAYOUTS[product];
}

/**
 * Reads a TCB_VERSION as its product lays it out. Reserved bytes must be zero: read with another product's layout, they are not.
 *
 * @throws {Refusal} `parse/reserved`
 */
export function readTcb(bytes: Uint8Array, product: AmdProduct, field: string): Tcb {
  const layout = tcbLayout(product);
  const used = new Set(Object.values(layout));
  for (const [index, byte] of bytes.entries()) {
    if (byte !== 0 && !used.has(index)) refuse('parse/reserved', `${field} byte ${index} is ${byte} on ${product}`);
  }
  return Object.fromEntries(Object.entries(layout).map(([component, index]) => [component, bytes[index] ?? 0]));
}

/** The product with this CPUID family and model (attestation-formats §3.1). */
export function productOfCpu(family: number, model: number): AmdProduct | undefined {
  const isBetween = (first: number, last: number): boolean => model >= first && model <= last;
  if (family === 0x19 && isBetween(0x00, 0x0f)) return 'Milan';
  if (family === 0x19 && (isBetween(0x10, 0x1f) || isBetween(0xa0, 0xaf))) return 'Genoa';
  if (family === 0x1a && isBetween(0x00, 0x1f)) return 'Turin';
  return undefined;
}

const NAMES: Readonly<Record<string, AmdProduct>> = {
  Milan: 'Milan',
  Genoa: 'Genoa',
  Bergamo: 'Genoa',
  Siena: 'Genoa',
  Turin: 'Turin',
};

/** The product of a name as certificates carry it: `Milan-B0` with a stepping, or `Milan`. */
export function productOfName(name: string): AmdProduct | undefined {
  const line = /^([A-Za-z]+)(?:-[A-Za-z0-9]{1,4})?$/.exec(name)?.[1] ?? '';
  return Object.hasOwn(NAMES, line) ? NAMES[line] : undefined;
}
