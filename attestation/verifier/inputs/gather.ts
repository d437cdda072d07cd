import { parseEvidence, type Evidence } from '../../../proto/index.ts';
import { parseHclReport, type HclReport } from '../../evidence/azure-hcl.ts';
import { parseCcelTable } from '../../evidence/ccel-table.ts';
import { parseCrl, type Crl } from '../../evidence/crl.ts';
import { parseEventLog, type EventLog } from '../../evidence/event-log.ts';
import { parseNvidiaEvidenceJson } from '../../evidence/nvidia-evidence-json.ts';
import { parseOcspResponse, type OcspResponse } from '../../evidence/ocsp.ts';
import { refuse } from '../../evidence/reasons.ts';
import { parseTinfoilCapture, type TinfoilCapture } from '../../evidence/tinfoil.ts';
import { parseTpmEvidence, type TpmEvidence } from '../../evidence/tpm-evidence-json.ts';
import { parseCertificate } from '../../evidence/x509.ts';
import { decodeBase64 } from './text.ts';
import { certificateFile, parsePemFile, type CertificateFile } from './certificates.ts';
import { joinCollateral } from './join-collateral.ts';
import { parseProviderReport, type ProviderReport } from './provider-report.ts';
import { recognise, type Input, type InputKind } from './recognise.ts';

/** Everything that the inputs hold, by what it is. Parsed as far as that takes no key; nothing is verified. */
export interface Gathered {
  readonly kinds: InputKind[];
  readonly documents: Evidence[];
  readonly tdxQuotes: Uint8Array[];
  readonly snpReports: Uint8Array[];
  /** SPDM reports of GPUs and switches; `pem` when a chain came with one. */
  readonly devices: { readonly report: Uint8Array; readonly pem: string | undefined }[];
  readonly tpm: TpmEvidence[];
  readonly hcl: HclReport[];
  readonly eventLogs: EventLog[];
  readonly captures: TinfoilCapture[];
  /** NRAS answers and key sets, as they came. */
  readonly nras: string[];
  readonly jwks: string[];
  readonly collateral: string[];
  readonly rims: Uint8Array[];
  readonly certificates: CertificateFile[];
  readonly crls: Crl[];
  readonly ocsp: OcspResponse[];
  /** Values that a note says the report data is over, by name. */
  readonly notes: ReadonlyMap<string, string>[];
  /** Intel's answers one by one; put together when all are there. */
  readonly tcbInfos: string[];
  readonly qeIdentities: string[];
  /** Members of providers' reports that nobody looks at. */
  readonly leftAside: string[];
}

/** Inputs taken at once; a board has 8 GPUs and 4 switches, each with a report, a chain and a few answers. */
const INPUTS_MAX = 256;

/**
 * Recognises every input by its content and sorts what is in it.
 *
 * @throws {CfnError} `CFN_EVIDENCE_MALFORMED` when an input is of no known kind, or broken
 */
export function gather(inputs: readonly Uint8Array[]): Gathered {
  if (inputs.length === 0) refuse('parse/empty', 'there is no input');
  if (inputs.length > INPUTS_MAX) refuse('parse/length', `${inputs.length} inputs, at most ${INPUTS_MAX} are taken`);
  const gathered: Gathered = {
    kinds: [],
    documents: [],
    tdxQuotes: [],
    snpReports: [],
    devices: [],
    tpm: [],
    hcl: [],
    eventLogs: [],
    captures: [],
    nras: [],
    jwks: [],
    collateral: [],
    rims: [],
    certificates: [],
    crls: [],
    ocsp: [],
    notes: [],
    tcbInfos: [],
    qeIdentities: [],
    leftAside: [],
  };
  for (const bytes of inputs) {
    const input = recognise(bytes);
    gathered.kinds.push(input.kind);
    add(input, gathered);
  }
  gathered.collateral.push(...joinCollateral(gathered));
  // Without a TPM's quote, the hardware's report is what a paravisor's report proves; of TDX, a TD quote has to come with it.
  if (gathered.tpm.length === 0)
    for (const { hardware } of gathered.hcl) if (hardware.kind === 'snp') gathered.snpReports.push(hardware.report);
  return gathered;
}

function add(input: Input, to: Gathered): void {
  switch (input.kind) {
    case 'tdx-quote':
      return void to.tdxQuotes.push(input.bytes);
    case 'snp-report':
      return void to.snpReports.push(input.bytes);
    case 'spdm-report':
      return void to.devices.push({ report: input.bytes, pem: undefined });
    case 'certificate':
      return void to.certificates.push(certificateFile([parseCertificate(input.bytes)]));
    case 'crl':
      return void to.crls.push(parseCrl(input.bytes));
    case 'ocsp-response':
      return void to.ocsp.push(parseOcspResponse(input.bytes));
    case 'hcl-report':
      return void to.hcl.push(parseHclReport(input.bytes));
    case 'event-log':
      return void to.eventLogs.push(parseEventLog(input.bytes));
    case 'event-log-table':
      // Says where the log lies in memory, which is nothing to verify.
      return void parseCcelTable(input.bytes);
    case 'tpm-quote':
      return refuse('parse/unknown-input', 'a TPM quote without its signature and registers');
    case 'pem': {
      const { file, crls } = parsePemFile(input.text);
      if (file !== undefined) to.certificates.push(file);
      return void to.crls.push(...crls);
    }
    case 'rim':
      return void to.rims.push(new TextEncoder().encode(input.text));
    case 'token':
      return refuse('parse/unknown-input', 'a token alone: NRAS answers with a list of them');
    case 'binding-note':
      return void to.notes.push(parseNote(input.text));
    case 'evidence-document':
      return void to.documents.push(parseEvidence(new TextEncoder().encode(input.text)));
    case 'nras-answer':
      return void to.nras.push(input.text);
    case 'jwks':
      return void to.jwks.push(input.text);
    case 'tpm-evidence':
      return void to.tpm.push(parseTpmEvidence(input.text));
    case 'intel-collateral':
      return void to.collateral.push(input.text);
    case 'tcb-info':
      return void to.tcbInfos.push(input.text);
    case 'qe-identity':
      return void to.qeIdentities.push(input.text);
    case 'trust-authority-bundle':
      return addBundle(input.json, to);
    case 'worker-capture':
      return addCapture(parseTinfoilCapture(input.text), to);
    case 'gpu-evidence':
      return addGpuEvidence(input.text, to);
    case 'provider-report':
      return addProviderReport(parseProviderReport(input.text), to);
    case 'rim-answer':
      return void to.rims.push(base64Member(input.json, 'rim'));
    case 'certificate-list': {
      const list = member(input.json, 'x5c');
      if (!Array.isArray(list)) refuse('parse/json', 'x5c is no list');
      const certificates = list.map((text) => parseCertificate(base64(text, 'x5c')));
      return void to.certificates.push(certificateFile(certificates));
    }
  }
}

/** Intel Trust Authority's form: the quote, and what its report data is over. */
function addBundle(json: unknown, to: Gathered): void {
  const tdx = member(json, 'tdx');
  to.tdxQuotes.push(base64Member(tdx, 'quote'));
  const nonce = member(tdx, 'verifier_nonce');
  const runtimeData = member(tdx, 'runtime_data');
  if (nonce === undefined) return;
  const hex = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
  to.notes.push(
    new Map([
      ['ITA_NONCE', hex(base64Member(nonce, 'val'))],
      ['ITA_ISSUED_AT', hex(base64Member(nonce, 'iat'))],
      ['ITA_RUNTIME_DATA', runtimeData == null ? '' : hex(base64(runtimeData, 'runtime_data'))],
    ]),
  );
}

function addCapture(capture: TinfoilCapture, to: Gathered): void {
  to.captures.push(capture);
  (capture.platform === 'tdx' ? to.tdxQuotes : to.snpReports).push(capture.report);
  for (const { report, certificates } of capture.gpus) to.devices.push({ report, pem: certificates });
}

function addProviderReport({ quotes, devices, leftAside }: ProviderReport, to: Gathered): void {
  for (const bytes of quotes) {
    const { kind } = recognise(bytes);
    if (kind === 'tdx-quote') to.tdxQuotes.push(bytes);
    else if (kind === 'snp-report') to.snpReports.push(bytes);
    else refuse('parse/unknown-input', `the provider report has a ${kind} where a quote should be`);
  }
  for (const { report, certificates } of devices) to.devices.push({ report, pem: certificates });
  to.leftAside.push(...leftAside);
}

/** NVIDIA's tools and NRAS requests: a list of reports with their chains. */
function addGpuEvidence(text: string, to: Gathered): void {
  for (const { report, certificates } of parseNvidiaEvidenceJson(text)) to.devices.push({ report, pem: certificates });
}

function parseNote(text: string): Map<string, string> {
  const entries = text
    .trim()
    .split(/\s+/)
    .map((line) => line.split('=') as [string, string]);
  return new Map(entries.map(([name, value]) => [name, value.toLowerCase()]));
}

function member(json: unknown, name: string): unknown {
  return typeof json === 'object' && json !== null && Object.hasOwn(json, name)
    ? (json as Record<string, unknown>)[name]
    : undefined;
}

function base64Member(json: unknown, name: string): Uint8Array {
  return base64(member(json, name), name);
}

function base64(text: unknown, what: string): Uint8Array {
  const bytes = typeof text === 'string' ? decodeBase64(text.replaceAll(/\s/g, '')) : undefined;
  return bytes ?? refuse('parse/json', `${what} is not base64`);
}
