import { isJsonObject, parseJson, type JsonObject } from '../../evidence/json.ts';
import { parseNvidiaEvidenceJson, type CarriedDevice } from '../../evidence/nvidia-evidence-json.ts';
import { refuse } from '../../evidence/reasons.ts';
import { decodeText } from './text.ts';

/** Largest document, in characters; a gateway and a model server with eight GPUs have 250 kB. */
const DOCUMENT_CHARACTERS_MAX = 4 * 1024 * 1024;
/** Machines in one document; each is appraised. */
const MACHINES_MAX = 8;

/** What providers call a CPU's quote or report; hexadecimal or base64. */
const QUOTES = ['quote', 'intel_quote', 'tdx_quote', 'snp_report', 'attestation_report'];
/** Where they put the machines of a service. */
const ONE = ['gateway_attestation', 'model_attestation'];
const MANY = ['model_attestations', 'all_attestations', 'evidence'];
/** Evidence of GPUs: NVIDIA's own request, often as a text within the text, or its list of devices. */
const GPUS = ['nvidia_payload', 'gpu_evidence'];

/** What a provider of inference (NEAR AI, Venice, Chutes, dstack) says of its machines. Nothing is verified yet. */
export interface ProviderReport {
  /** TDX quotes or SNP reports, each once. */
  readonly quotes: readonly Uint8Array[];
  readonly devices: readonly CarriedDevice[];
  /** Names of members that were not looked at, such as event logs and signing keys. */
  readonly leftAside: readonly string[];
}

/** Whether JSON is of this kind, by the names of its members. */
export function isProviderReport(json: unknown): boolean {
  if (!isJsonObject(json)) return false;
  const has = (name: string): boolean => Object.hasOwn(json, name);
  const evidence = has('evidence') && Array.isArray(json['evidence']) ? (json['evidence'] as unknown[]) : [];
  return (
    QUOTES.some((name) => has(name) && typeof json[name] === 'string') ||
    [...ONE, 'model_attestations', 'all_attestations', ...GPUS].some(has) ||
    evidence.some((item) => isJsonObject(item) && Object.hasOwn(item, 'quote'))
  );
}

/**
 * @throws {Refusal} `parse/json`, `parse/duplicate`, `parse/length`, `parse/empty`, and those of {@link parseNvidiaEvidenceJson}
 */
export function parseProviderReport(text: string): ProviderReport {
  const json = parseJson(text, { what: 'provider report', charactersMax: DOCUMENT_CHARACTERS_MAX });
  const machines = machinesOf(json);
  if (machines.length > MACHINES_MAX)
    refuse('parse/length', `provider report has ${machines.length} machines, at most ${MACHINES_MAX} are taken`);
  // The same machine may stand in two places, and its quote under two names.
  const quotes = new Set(machines.flatMap((machine) => textsOf(machine, QUOTES)));
  const gpus = new Set(machines.flatMap((machine) => GPUS.flatMap((name) => gpuTextOf(machine[name]))));
  if (quotes.size === 0 && gpus.size === 0) refuse('parse/empty', 'provider report has neither quote nor GPU evidence');
  const known = [...QUOTES, ...GPUS, ...ONE, ...MANY];
  return {
    quotes: [...quotes].map(
      (quote) => decodeText(quote) ?? refuse('parse/json', 'the quote is no hexadecimal or base64'),
    ),
    devices: [...gpus].flatMap((list) => parseNvidiaEvidenceJson(list)),
    leftAside: [...new Set(machines.flatMap((machine) => Object.keys(machine)))].filter(
      (name) => !known.includes(name),
    ),
  };
}

function machinesOf(json: unknown): JsonObject[] {
  if (!isJsonObject(json)) refuse('parse/json', 'provider report is no object');
  const inner = [
    ...ONE.map((name) => json[name]),
    ...MANY.flatMap((name) => (Array.isArray(json[name]) ? (json[name] as unknown[]) : [])),
  ];
  return [json, ...inner.filter(isJsonObject)];
}

function textsOf(machine: JsonObject, names: readonly string[]): string[] {
  return names.flatMap((name) => {
    const value = machine[name];
    return typeof value === 'string' && value !== '' ? value.trim() : [];
  });
}

function gpuTextOf(value: unknown): string[] {
  if (value === undefined || value === null || value === '' || (Array.isArray(value) && value.length === 0)) return [];
  return [typeof value === 'string' ? value : JSON.stringify(value)];
}
