import { refuse } from './reasons.ts';

const DEPTH_MAX = 16;

/**
 * Parses JSON in which no object names a key twice: readers differ in which of the two they take, so such a text says different
 * things to different ones. Refuses deep nesting too, and the key `__proto__`.
 *
 * @param what for messages, such as `runtime data`
 * @throws {Refusal} `parse/json`, `parse/duplicate`, `parse/length`
 */
export function parseStrictJson(text: string, charactersMax: number, what: string): unknown {
  if (text.length > charactersMax)
    refuse('parse/length', `${what} has ${text.length} characters, at most ${charactersMax} are taken`);
  requireShallow(text, what);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    refuse('parse/json', `${what} is not JSON`, { cause });
  }
  requireUniqueKeys(text, what);
  return value;
}

/** Before the parser sees it. Brackets in strings are left out; what is not JSON is refused afterwards anyway. */
function requireShallow(text: string, what: string): void {
  let depth = 0;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') at = stringEnd(text, at);
    else if (character === '{' || character === '[') depth++;
    else if (character === '}' || character === ']') depth--;
    if (depth > DEPTH_MAX) refuse('parse/json', `${what} is nested deeper than ${DEPTH_MAX}`);
  }
}

/** Only for texts that are JSON: there, a string before a colon is a key. */
function requireUniqueKeys(text: string, what: string): void {
  const scopes: Set<string>[] = [];
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '{' || character === '[') scopes.push(new Set());
    else if (character === '}' || character === ']') scopes.pop();
    if (character !== '"') continue;
    const end = stringEnd(text, at);
    if (isColonNext(text, end + 1)) {
      const key = String(JSON.parse(text.slice(at, end + 1)));
      const scope = scopes.at(-1);
      if (scope?.has(key) === true || key === '__proto__')
        refuse('parse/duplicate', `${what}: an object has a key that it may not have, or twice`);
      scope?.add(key);
    }
    at = end;
  }
}

/** Index of the quotation mark that ends the string which starts at `start`; the end of the text when there is none. */
function stringEnd(text: string, start: number): number {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === '\\') at++;
    else if (text[at] === '"') return at;
  }
  return text.length;
}

function isColonNext(text: string, from: number): boolean {
  let at = from;
  while (at < text.length && ' \t\r\n'.includes(text[at] ?? '')) at++;
  return text[at] === ':';
}
