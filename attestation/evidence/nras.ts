import { isJsonObject, parseJson } from './json.ts';
import { parseJwt, type Jwt } from './jwt.ts';
import { refuse } from './reasons.ts';

/** Largest answer, in characters; a GPU's token has 2.5 KiB. */
const ANSWER_CHARACTERS_MAX = 1024 * 1024;
/** Most devices in an answer: boards have up to 8 GPUs and 4 switches, racks 72. */
const DEVICES_MAX = 128;
const DEVICE_NAME = /^(GPU|SWITCH)-(?:0|[1-9][0-9]{0,2})$/;

export type NrasDeviceKind = 'gpu' | 'switch';

export interface NrasDeviceToken {
  /** Such as `GPU-0`. */
  readonly name: string;
  readonly kind: NrasDeviceKind;
  readonly token: Jwt;
}

/** NRAS's detached EAT: a token over all, and one per device that it names by digest. Nothing is verified yet. */
export interface NrasAnswer {
  readonly overall: Jwt;
  readonly devices: readonly NrasDeviceToken[];
}

/**
 * Parses an answer of `/v3/attest` or `/v4/attest`: `[["JWT", overall], {"GPU-0": token, …}]`. No recording has another form, and
 * any other is refused.
 *
 * @throws {Refusal} `parse/json`, `parse/duplicate`, `parse/length`, `parse/token`
 */
export function parseNrasAnswer(text: string): NrasAnswer {
  const json = parseJson(text, { what: 'NRAS answer', charactersMax: ANSWER_CHARACTERS_MAX });
  if (!Array.isArray(json) || json.length !== 2) refuse('parse/json', 'NRAS answer is not [["JWT", …], {…}]');
  const [head, tokens]: unknown[] = json;
  if (!Array.isArray(head) || head.length !== 2 || head[0] !== 'JWT' || typeof head[1] !== 'string')
    refuse('parse/json', 'NRAS answer does not begin with ["JWT", token]');
  if (!isJsonObject(tokens)) refuse('parse/json', 'NRAS answer holds no device tokens');
  const entries = Object.entries(tokens);
  if (entries.length > DEVICES_MAX)
    refuse('parse/length', `NRAS answer has ${entries.length} devices, at most ${DEVICES_MAX} are taken`);
  return {
    overall: parseJwt(head[1], 'NRAS overall token'),
    devices: entries.map(([name, value]) => parseDevice(name, value)),
  };
}

function parseDevice(name: string, value: unknown): NrasDeviceToken {
  const kind = DEVICE_NAME.exec(name)?.[1];
  if (kind === undefined)
    refuse('parse/json', `NRAS answer: ${JSON.stringify(name.slice(0, 40))} is no device we know`);
  if (typeof value !== 'string') refuse('parse/json', `NRAS answer: ${name} is not a token`);
  return { name, kind: kind === 'GPU' ? 'gpu' : 'switch', token: parseJwt(value, `NRAS ${name} token`) };
}
