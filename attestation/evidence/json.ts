import { refuse } from './reasons.ts';

/** Deepest nesting of a document; the vendors' have under ten levels. */
const DEPTH_MAX = 64;

export interface JsonDocument {
  readonly value: unknown;
  /** Members of the outermost object, each value's exact text without the white space around it: what signers hash. */
  readonly members: ReadonlyMap<string, string>;
}

export interface JsonLimits {
  /** For messages, such as `TCB info`. */
  readonly what: string;
  readonly charactersMax: number;
}

/**
 * Parses JSON in which no object names a member twice. `JSON.parse` takes the last of two, other parsers the first, so that a
 * signature's maker and its reader could see different documents.
 *
 * @throws {Refusal} `parse/length`, `parse/json`, `parse/duplicate`
 */
export function parseJsonDocument(text: string, { what, charactersMax }: JsonLimits): JsonDocument {
  if (text.length > charactersMax)
    refuse('parse/length', `${what} has ${text.length} characters, at most ${charactersMax} are taken`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    refuse('parse/json', `${what} is not JSON`, { cause });
  }
  return { value, members: scan(text, what) };
}

/** {@link parseJsonDocument}, when only the value matters. */
export function parseJson(text: string, limits: JsonLimits): unknown {
  return parseJsonDocument(text, limits).value;
}

export type JsonObject = Readonly<Record<string, unknown>>;

/**
 * Parses JSON that is one object.
 *
 * @throws {Refusal} `parse/length`, `parse/json`, `parse/duplicate`
 */
export function parseJsonObject(text: string, limits: JsonLimits): JsonObject {
  const value = parseJson(text, limits);
  if (!isJsonObject(value)) refuse('parse/json', `${limits.what} is not a JSON object`);
  return value;
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Strings, and what gives the structure. Enough for text that `JSON.parse` has accepted. */
const TOKEN = /"(?:[^"\\]+|\\.)*"|[{}[\],:]/g;

/** Walks over valid JSON: refuses duplicates and depth, and gives the text of the outermost members. */
function scan(text: string, what: string): Map<string, string> {
  const members = new Map<string, string>();
  const open: (Set<string> | undefined)[] = []; // the names of each open object; `undefined` for an array
  let string = '';
  let member: { name: string; start: number } | undefined;
  for (const { 0: token, index } of text.matchAll(TOKEN)) {
    const outermost = open.length === 1 && open[0] !== undefined;
    switch (token) {
      case '{':
      case '[':
        open.push(token === '{' ? new Set() : undefined);
        if (open.length > DEPTH_MAX) refuse('parse/length', `${what} is nested deeper than ${DEPTH_MAX} levels`);
        break;
      case ':': {
        // Only a member's name stands before a colon; escapes may hide that two are the same.
        const name = String(JSON.parse(string));
        const names = open.at(-1);
        // No format of ours has it, and copying such an object loses the member.
        if (name === '__proto__') refuse('parse/json', `${what} has a member __proto__`);
        if (names?.has(name)) refuse('parse/duplicate', `${what} has the member ${string.slice(0, 80)} twice`);
        names?.add(name);
        if (outermost) member = { name, start: index + 1 };
        break;
      }
      case ',':
      case '}':
      case ']':
        if (outermost && member !== undefined) members.set(member.name, text.slice(member.start, index).trim());
        if (token !== ',') open.pop();
        break;
      default:
        string = token;
    }
  }
  return members;
}
