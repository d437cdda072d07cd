/** One attempt to get out, or to take others down with it. */
export interface EscapeCase {
  readonly name: string;
  /** Body of `async (request, env, ctx) => { … }`, sloppy mode where it is made by `Function`. */
  readonly source: string;
  /** What the caller gets: this text with status 200, or one of these codes. */
  readonly holds: string | readonly string[];
}

const THREW = ['CFN_FUNCTION_THREW'];
const CPU = ['CFN_LIMIT_CPU'];
const MEMORY = ['CFN_LIMIT_MEMORY', 'CFN_SANDBOX_LOST', 'CFN_LIMIT_CPU']; // whichever limit it meets first

/** `says`: the handler answers with the value, as JSON. */
export const says = (name: string, source: string, value: unknown): EscapeCase => ({
  name,
  source: `const say = async () => { ${source} }; return Response.json(await say());`,
  holds: JSON.stringify(value),
});
export const throws = (name: string, source: string): EscapeCase => ({ name, source, holds: THREW });
export const usesUpCpu = (name: string, source: string): EscapeCase => ({ name, source, holds: CPU });
export const usesUpMemory = (name: string, source: string): EscapeCase => ({ name, source, holds: MEMORY });
