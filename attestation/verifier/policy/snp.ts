import { z } from 'zod';
import { AMD_PRODUCTS, TCB_COMPONENTS } from '../../evidence/amd-product.ts';
import type { SnpDemands } from '../amd/demands.ts';
import { bitDemand, forbiddenOr, notChecked, references } from './common.ts';

const byte = z.int().min(0).max(255);
const tcbMin = z.union([
  z.partialRecord(z.enum(AMD_PRODUCTS), z.partialRecord(z.enum(TCB_COMPONENTS), byte)),
  notChecked,
]);
const mitigations = z.union([
  z.string().regex(/^[0-9a-f]{16}$/, 'expected 64 bits as 16 hexadecimal digits'),
  notChecked,
]);
const orNot = <T extends z.ZodType>(schema: T) => z.union([schema, notChecked]);

/** {@link SnpDemands} as it is written in a policy. */
export const snpDemands = z.strictObject({
  products: orNot(z.array(z.enum(AMD_PRODUCTS))),
  signers: orNot(z.array(z.enum(['VCEK', 'VLEK']))),
  chipId: references(64),
  cspId: orNot(z.array(z.string().min(1).max(256)).max(64)),
  guestPolicy: z.strictObject({
    smt: bitDemand,
    migrationAgent: bitDemand,
    /** No policy for workers can leave it out. */
    debug: bitDemand,
    singleSocket: bitDemand,
    cxl: bitDemand,
    aes256Xts: bitDemand,
    raplOff: bitDemand,
    ciphertextHiding: bitDemand,
    pageSwapOff: bitDemand,
  }),
  guestPolicyAbiMin: orNot(z.strictObject({ major: byte, minor: byte })),
  platformInfo: z.strictObject({
    smt: bitDemand,
    tsme: bitDemand,
    ecc: bitDemand,
    raplOff: bitDemand,
    ciphertextHiding: bitDemand,
    aliasCheckComplete: bitDemand,
    tio: bitDemand,
  }),
  platformInfoUnknown: forbiddenOr,
  vmpl: orNot(z.array(z.int().min(0).max(3))),
  reportedTcbMin: tcbMin,
  committedTcbMin: tcbMin,
  launchTcbMin: tcbMin,
  provisionalFirmware: forbiddenOr,
  firmwareMin: orNot(z.strictObject({ major: byte, minor: byte, build: byte })),
  launchMitigations: mitigations,
  currentMitigations: mitigations,
  measurement: references(48),
  hostData: references(32),
  familyId: references(16),
  imageId: references(16),
  idKeyDigest: references(48),
  authorKeyDigest: references(48),
  reportIdOfMigrationAgent: references(32),
  guestSvnMin: orNot(z.int().min(0).max(0xffff_ffff)),
} satisfies Record<keyof SnpDemands, z.ZodType>);
