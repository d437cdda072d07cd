import type { InputsClaims } from '../../attestation/verifier/index.ts';
import type { Case } from './cases.ts';

/** How the claims differ from the `fields`, `tcbStatus` and `advisoryIDs` of a case. Only fields that the claims have a name for are compared. */
export function fieldDifferences({ fields, tcbStatus, advisoryIDs }: Case, claims: InputsClaims): string[] {
  const shown = shownFields(claims);
  const differences = Object.entries(fields ?? {}).flatMap(([name, expected]) =>
    Object.hasOwn(shown, name) ? compare(name, expected, shown[name]) : [],
  );
  const tcb = claims.tdx[0]?.tcb ?? undefined;
  if (tcbStatus != null) differences.push(...compare('tcbStatus', tcbStatus, tcb?.status));
  if (advisoryIDs != null)
    differences.push(...compare('advisoryIDs', [...advisoryIDs].sort(), tcb && [...tcb.advisoryIds].sort()));
  return differences;
}

/** Only what a case names is compared; objects are compared member by member, and `null` stands for what is not there. */
function compare(path: string, expected: unknown, came: unknown): string[] {
  if (typeof expected === 'object' && expected !== null && !Array.isArray(expected)) {
    const members = typeof came === 'object' && came !== null ? (came as Record<string, unknown>) : {};
    return Object.entries(expected).flatMap(([name, value]) => compare(`${path}.${name}`, value, members[name]));
  }
  if (plain(expected) === plain(came ?? null)) return [];
  return [`${path} is ${short(came)}, expected ${short(expected)}`];
}

/** Hexadecimal digits count the same in capitals. */
function plain(value: unknown): string {
  return JSON.stringify(value, (_name, member: unknown) =>
    typeof member === 'string' && /^[0-9A-Fa-f]+$/.test(member) ? member.toLowerCase() : member,
  );
}

function short(value: unknown): string {
  const text = JSON.stringify(value) ?? 'not shown';
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** The claims under the names that case files use. */
function shownFields(claims: InputsClaims): Record<string, unknown> {
  return {
    ...captureFields(claims),
    ...tokenFields(claims),
    ...tpmFields(claims),
    ...gpuFields(claims),
    ...snpFields(claims),
    ...tdxFields(claims),
  };
}

function tdxFields({ tdx: [tdx] }: InputsClaims): Record<string, unknown> {
  if (tdx === undefined) return {};
  return {
    version: tdx.quoteVersion,
    teeTcbSvn: tdx.teeTcbSvn,
    mrseam: tdx.mrseam,
    tdattr: reversed(tdx.tdAttributes),
    xfam: reversed(tdx.xfam),
    mrtd: tdx.mrtd,
    mrconfigid: tdx.mrconfigid,
    mrowner: tdx.mrowner,
    mrownerconfig: tdx.mrownerconfig,
    rtmr: tdx.rtmrs,
    rd: tdx.reportData,
    teeTcbSvn2: tdx.teeTcbSvn2,
    mrservicetd: tdx.mrservicetd,
    fmspc: tdx.fmspc,
    pceid: tdx.pceId,
    pcesvn: tdx.pceSvn,
    cpusvnComponents: tdx.cpuSvnComponents,
  };
}

function snpFields({ snp: [snp] }: InputsClaims): Record<string, unknown> {
  if (snp === undefined) return {};
  const { cpu } = snp;
  return {
    version: snp.version,
    guest_svn: snp.guestSvn,
    policy: hexNumber(snp.guestPolicy),
    vmpl: snp.vmpl,
    current_tcb: snp.currentTcb.bytes,
    reported_tcb: snp.reportedTcb.bytes,
    committed_tcb: snp.committedTcb.bytes,
    launch_tcb: snp.launchTcb.bytes,
    platinfo: hexNumber(snp.platformInfo),
    report_data: snp.reportData,
    measurement: snp.measurement,
    host_data: snp.hostData,
    family_id: snp.familyId,
    image_id: snp.imageId,
    id_key_digest: snp.idKeyDigest,
    author_key_digest: snp.authorKeyDigest,
    report_id: snp.reportId,
    fms: [cpu?.family, cpu?.model, cpu?.stepping].map((part) => (part ?? 0).toString(16).padStart(2, '0')).join(''),
    chip_id: snp.chipId,
    signingKey: snp.signer,
  };
}

function gpuFields({ gpus: [gpu], switches: [device] }: InputsClaims): Record<string, unknown> {
  if (gpu !== undefined) {
    const { nonce, driver, vbios, project, projectSku, chipSku, fwid, measurements } = gpu;
    return { nonce, driver, vbios, project, projectSku, chipSku, fwid, measurements, chip: gpu.reportedChip };
  }
  return device === undefined
    ? {}
    : { nonce: device.nonce, vbios: device.bios, fwid: device.fwid, measurements: device.measurements };
}

function tpmFields({ tpm: [claims] }: InputsClaims): Record<string, unknown> {
  if (claims === undefined) return {};
  const { nonce, resetCount, restartCount, firmwareVersion, pcrs } =
    claims.kind === 'azure' ? claims.azure.tpm : claims.tpm;
  const vm = claims.kind === 'azure' ? claims.azure.vm : undefined;
  return {
    nonce,
    resetCount,
    restartCount,
    firmwareVersion,
    pcrs: Object.values(pcrs['SHA-256'] ?? {}),
    secureBoot: vm?.secureBoot,
    userData: vm?.userData,
  };
}

function captureFields({ captures: [capture] }: InputsClaims): Record<string, unknown> {
  if (capture === undefined) return {};
  const { tlsKeyFingerprint, hpkeKey, nonce, gpuEvidenceDigest } = capture;
  return {
    nonce,
    report_data: { tls_key_fp: tlsKeyFingerprint, hpke_key: hpkeKey, nonce, gpu_evidence_hash: gpuEvidenceDigest },
  };
}

function tokenFields({ tokens: [token] }: InputsClaims): Record<string, unknown> {
  if (token === undefined) return {};
  const devices = token.devices.map(({ name, claims: own }) => [name, own]);
  return {
    eat_nonce: token.nonce,
    nonce: token.nonce,
    iss: token.issuer,
    overall: token.overallResult,
    devices: Object.fromEntries(devices) as unknown,
  };
}

/** 64 bits as case files write them: `0x3001f`. */
function hexNumber(bits: string): string {
  return `0x${BigInt(`0x${bits}`).toString(16)}`;
}

/** A number's bytes in the order of the evidence, which is little endian. */
function reversed(hex: string): string {
  return hex.match(/../g)?.toReversed().join('') ?? '';
}
