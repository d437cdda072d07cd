import { z } from 'zod';
import { concatBytes } from '../../proto/index.ts';
import { refuse } from './reasons.ts';
import { parseSnpReport, SNP_REPORT_BYTES } from './snp.ts';

const byte = z.int().min(0).max(255);
const u32 = z.int().min(0).max(0xffff_ffff);
/** 64-bit fields; one that JSON cannot hold exactly no longer fits the signature. */
const u64 = z.int().min(0);
const bytes = (length: number): z.ZodArray<typeof byte> => z.array(byte).length(length);
/** `fmc` is Turin's. */
const tcb = z.object({ fmc: byte.nullish(), bootloader: byte, tee: byte, snp: byte, microcode: byte });
const firmware = z.object({ major: byte, minor: byte, build: byte });

const reportSchema = z.object({
  version: u32,
  guest_svn: u32,
  policy: u64,
  family_id: bytes(16),
  image_id: bytes(16),
  vmpl: u32,
  sig_algo: u32,
  current_tcb: tcb,
  plat_info: u64,
  key_info: u32,
  report_data: bytes(64),
  measurement: bytes(48),
  host_data: bytes(32),
  id_key_digest: bytes(48),
  author_key_digest: bytes(48),
  report_id: bytes(32),
  report_id_ma: bytes(32),
  reported_tcb: tcb,
  cpuid_fam_id: byte.nullish(),
  cpuid_mod_id: byte.nullish(),
  cpuid_step: byte.nullish(),
  chip_id: bytes(64),
  committed_tcb: tcb,
  current: firmware,
  committed: firmware,
  launch_tcb: tcb,
  launch_mit_vector: u64.nullish(),
  current_mit_vector: u64.nullish(),
  signature: z.object({ r: bytes(72), s: bytes(72) }),
});

/**
 * The 1184 bytes of an SEV-SNP report from its fields as Rust's `sev` writes them to JSON. What is not exactly what the firmware signed
 * does not fit its signature.
 *
 * @throws {Refusal} `parse/json`
 */
export function writeSnpReport(fields: unknown): Uint8Array<ArrayBuffer> {
  const parsed = reportSchema.safeParse(fields);
  if (!parsed.success)
    refuse('parse/json', `SNP report: ${parsed.error.issues[0]?.path.join('.') ?? ''} is missing or wrong`);
  const r = parsed.data;
  const written = concatBytes(
    le(r.version, 4),
    le(r.guest_svn, 4),
    le(r.policy, 8),
    Uint8Array.from(r.family_id),
    Uint8Array.from(r.image_id),
    le(r.vmpl, 4),
    le(r.sig_algo, 4),
    tcbBytes(r.current_tcb),
    le(r.plat_info, 8),
    le(r.key_info, 4),
    new Uint8Array(4),
    Uint8Array.from(r.report_data),
    Uint8Array.from(r.measurement),
    Uint8Array.from(r.host_data),
    Uint8Array.from(r.id_key_digest),
    Uint8Array.from(r.author_key_digest),
    Uint8Array.from(r.report_id),
    Uint8Array.from(r.report_id_ma),
    tcbBytes(r.reported_tcb),
    Uint8Array.of(r.cpuid_fam_id ?? 0, r.cpuid_mod_id ?? 0, r.cpuid_step ?? 0),
    new Uint8Array(21),
    Uint8Array.from(r.chip_id),
    tcbBytes(r.committed_tcb),
    firmwareBytes(r.current),
    firmwareBytes(r.committed),
    tcbBytes(r.launch_tcb),
    le(r.launch_mit_vector ?? 0, 8),
    le(r.current_mit_vector ?? 0, 8),
    new Uint8Array(152),
    Uint8Array.from(r.signature.r),
    Uint8Array.from(r.signature.s),
  );
  return concatBytes(written, new Uint8Array(SNP_REPORT_BYTES - written.length));
}

function tcbBytes({ fmc, bootloader, tee, snp, microcode }: z.infer<typeof tcb>): Uint8Array {
  return fmc === null || fmc === undefined
    ? Uint8Array.of(bootloader, tee, 0, 0, 0, 0, snp, microcode)
    : Uint8Array.of(fmc, bootloader, tee, snp, 0, 0, 0, microcode);
}

const firmwareBytes = ({ major, minor, build }: z.infer<typeof firmware>): Uint8Array =>
  Uint8Array.of(build, minor, major, 0);

function le(value: number, length: 4 | 8): Uint8Array {
  const out = new Uint8Array(8);
  new DataView(out.buffer).setBigUint64(0, BigInt(value), true);
  return out.subarray(0, length);
}

/** A report's fields as {@link writeSnpReport} reads them. @throws {Refusal} `parse/…` when it is no report */
export function readSnpReport(bytes: Uint8Array): Record<string, unknown> {
  const { version, product } = parseSnpReport(bytes);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const list = (at: number, length: number): number[] => [...bytes.subarray(at, at + length)];
  const number32 = (at: number): number => view.getUint32(at, true);
  const number64 = (at: number): number => Number(view.getBigUint64(at, true));
  const tcbAt = (at: number): z.infer<typeof tcb> => {
    const [b0 = 0, b1 = 0, b2 = 0, b3 = 0, , , b6 = 0, b7 = 0] = bytes.subarray(at, at + 8);
    return product === 'Turin'
      ? { fmc: b0, bootloader: b1, tee: b2, snp: b3, microcode: b7 }
      : { fmc: null, bootloader: b0, tee: b1, snp: b6, microcode: b7 };
  };
  const firmwareAt = (at: number): z.infer<typeof firmware> => {
    const [build = 0, minor = 0, major = 0] = bytes.subarray(at, at + 3);
    return { major, minor, build };
  };
  const cpu = (at: number): number | null => (version === 2 ? null : (bytes[at] ?? null));
  return {
    version,
    guest_svn: number32(0x4),
    policy: number64(0x8),
    family_id: list(0x10, 16),
    image_id: list(0x20, 16),
    vmpl: number32(0x30),
    sig_algo: number32(0x34),
    current_tcb: tcbAt(0x38),
    plat_info: number64(0x40),
    key_info: number32(0x48),
    report_data: list(0x50, 64),
    measurement: list(0x90, 48),
    host_data: list(0xc0, 32),
    id_key_digest: list(0xe0, 48),
    author_key_digest: list(0x110, 48),
    report_id: list(0x140, 32),
    report_id_ma: list(0x160, 32),
    reported_tcb: tcbAt(0x180),
    cpuid_fam_id: cpu(0x188),
    cpuid_mod_id: cpu(0x189),
    cpuid_step: cpu(0x18a),
    chip_id: list(0x1a0, 64),
    committed_tcb: tcbAt(0x1e0),
    current: firmwareAt(0x1e8),
    committed: firmwareAt(0x1ec),
    launch_tcb: tcbAt(0x1f0),
    launch_mit_vector: version === 5 ? number64(0x1f8) : null,
    current_mit_vector: version === 5 ? number64(0x200) : null,
    signature: { r: list(0x2a0, 72), s: list(0x2e8, 72) },
  };
}
