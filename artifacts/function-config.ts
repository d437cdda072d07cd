import { parse, TomlDate, TomlError } from 'smol-toml';
import { z } from 'zod';
import {
  CfnError,
  DEFAULT_LIMITS,
  functionManifestSchema,
  modelReferenceSchema,
  nameSchema,
  secretNameSchema,
  SECRETS_MAX,
} from '../proto/index.ts';
import { nearest } from './nearest.ts';

/** Name of the file that makes a folder a function project (design §6). */
export const CONFIG_FILE = 'wrangler-style.toml';

/** A project's configuration, with defaults filled in. Durations in ms, memory in MiB. */
export interface FunctionConfig {
  readonly name: string;
  /** Entry module, relative to the project folder. */
  readonly main: string;
  readonly compatibilityDate: string;
  /** `model` is owner/name@version; its digest is resolved at deploy time. */
  readonly models: readonly { readonly binding: string; readonly model: string }[];
  readonly vars: Readonly<Record<string, string>>;
  /** Names whose values a KMS has; `kms` is its URL, `owner` the namespace there. The command line's settings and the tenant stand in. */
  readonly secrets: { readonly required: readonly string[]; readonly kms?: string; readonly owner?: string };
  readonly limits: {
    readonly cpuMs: number;
    readonly wallMs: number;
    readonly memoryMb: number;
    readonly requestMb?: number;
    readonly responseMb?: number;
  };
  readonly egress: { readonly allow: readonly string[] };
  /** `auth`: the gateway asks callers for a token of the tenant. */
  readonly caller: { readonly plaintext: boolean; readonly logs: 'none' | 'author'; readonly auth?: 'token' };
  /** What only `cfn dev` reads: the ONNX files to push for a model, relative to the project folder. The first is the entry. */
  readonly dev: { readonly models: Readonly<Record<string, readonly string[]>> };
}

/**
 * Parses the text of `wrangler-style.toml`. Nothing is guessed: an unknown key is refused, with the nearest known one named.
 *
 * @throws {CfnError} `CFN_CONFIG_INVALID` with the line (and for TOML errors the column) of the mistake.
 */
export function parseFunctionConfig(text: string, file = CONFIG_FILE): FunctionConfig {
  const parsed = configSchema.safeParse(parseToml(text, file));
  if (!parsed.success) {
    const mistakes = parsed.error.issues.map((issue) => describe(issue, text, file));
    throw new CfnError('CFN_CONFIG_INVALID', mistakes.join('; '));
  }
  const { compatibility_date: compatibilityDate, limits, secrets, caller, ...rest } = parsed.data;
  const { auth, ...open } = caller;
  const { required, kms, owner } = secrets;
  return {
    ...rest,
    compatibilityDate,
    caller: auth === 'none' ? open : { ...open, auth },
    secrets: { required, ...(kms !== undefined && { kms }), ...(owner !== undefined && { owner }) },
    limits: {
      cpuMs: limits.cpu_ms,
      wallMs: limits.wall_ms,
      memoryMb: limits.memory_mb,
      ...(limits.request_mb === undefined ? {} : { requestMb: limits.request_mb }),
      ...(limits.response_mb === undefined ? {} : { responseMb: limits.response_mb }),
    },
  };
}

function parseToml(text: string, file: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const reason = cause.message.split('\n')[0]?.replace('Invalid TOML document: ', '');
    throw new CfnError('CFN_CONFIG_INVALID', `${file}:${cause.line}:${cause.column}: ${reason}`, { cause });
  }
}

/** The manifest's own bounds: what passes here can be signed. */
const bounds = functionManifestSchema.shape;
const limits = bounds.limits.shape;

const modelSchema = z.strictObject({ binding: bounds.models.element.shape.binding, model: modelReferenceSchema });
/** Inside the project: an absolute path or `..` would bundle what is not the author's. */
const projectPathSchema = z
  .string()
  .regex(/^(?!\/)(?!.*(^|\/)\.\.(\/|$)).+$/, 'a path inside the project, relative to it');
const configSchema = z
  .strictObject({
    name: nameSchema,
    main: projectPathSchema,
    compatibility_date: z.preprocess(
      (value) => (value instanceof TomlDate && value.isDate() ? value.toISOString() : value),
      bounds.compatibilityDate,
    ),
    models: z.array(modelSchema).max(16).default([]),
    vars: bounds.vars.default({}),
    secrets: z
      .strictObject({
        required: z.array(secretNameSchema).max(SECRETS_MAX).default([]),
        kms: z.url().optional(),
        owner: nameSchema.optional(),
      })
      .prefault({}),
    limits: z
      .strictObject({
        cpu_ms: limits.cpuMs.default(DEFAULT_LIMITS.cpuMs),
        wall_ms: limits.wallMs.default(DEFAULT_LIMITS.wallMs),
        memory_mb: limits.memoryMb.default(DEFAULT_LIMITS.memoryMb),
        request_mb: limits.requestMb,
        response_mb: limits.responseMb,
      })
      .prefault({}),
    egress: z.strictObject({ allow: bounds.egress.shape.allow.default([]) }).prefault({}),
    caller: z
      .strictObject({
        plaintext: z.boolean().default(false),
        logs: z.enum(['none', 'author']).default('none'),
        auth: z.enum(['none', 'token']).default('none'),
      })
      .prefault({}),
    dev: z
      .strictObject({
        models: z
          .record(modelReferenceSchema, z.union([z.string().transform((path) => [path]), z.array(z.string()).min(1)]))
          .default({}),
      })
      .prefault({}),
  })
  .superRefine((config, context) => {
    // env is one name space: a second binding of the same name would hide the first.
    const seen = new Set(Object.keys(config.vars));
    for (const [index, { binding }] of config.models.entries()) {
      if (seen.has(binding)) {
        const message = `${binding} is bound twice; bindings, vars and secrets share env`;
        context.addIssue({ code: 'custom', path: ['models', index, 'binding'], message });
      }
      seen.add(binding);
    }
    for (const [index, name] of config.secrets.required.entries()) {
      if (seen.has(name)) {
        const message = `${name} is bound twice; bindings, vars and secrets share env`;
        context.addIssue({ code: 'custom', path: ['secrets', 'required', index], message });
      }
      seen.add(name);
    }
  });

/** Known keys of each table, by its name; '' is the top. */
const KNOWN_KEYS: Readonly<Record<string, readonly string[]>> = {
  '': Object.keys(configSchema.shape),
  models: Object.keys(modelSchema.shape),
  limits: ['cpu_ms', 'wall_ms', 'memory_mb', 'request_mb', 'response_mb'],
  secrets: ['required', 'kms', 'owner'],
  egress: ['allow'],
  caller: ['plaintext', 'logs', 'auth'],
  dev: ['models'],
};

function describe(issue: z.core.$ZodIssue, text: string, file: string): string {
  if (issue.code !== 'unrecognized_keys') {
    const line = lineOf(text, issue.path);
    return `${file}${line}: ${issue.path.join('.') || 'file'}: ${issue.message}`;
  }
  const table = String(issue.path[0] ?? '');
  const known = KNOWN_KEYS[table] ?? [];
  return issue.keys
    .map((key) => {
      const hint = nearest(key, known);
      const advice = hint === undefined ? `known are ${known.join(', ')}` : `did you mean "${hint}"?`;
      return `${file}${lineOf(text, [...issue.path, key])}: unknown key "${key}"${table === '' ? '' : ` in [${table}]`}; ${advice}`;
    })
    .join('; ');
}

/**
 * `:LINE` of a key or its table, found by reading the text again, as the TOML parser keeps no positions of values.
 * Empty when the key is written in a form this does not see (inline or dotted); the message then has the path alone.
 */
function lineOf(text: string, path: readonly PropertyKey[]): string {
  const names = path.filter((part) => typeof part === 'string');
  const index = path.find((part) => typeof part === 'number') ?? 0;
  const key = names.at(-1);
  const table = names.slice(0, -1).join('.');
  let current = '';
  let count = -1;
  let found: number | undefined;
  for (const [at, line] of text.split('\n').entries()) {
    const header = /^\s*\[\[?\s*([^\]]+?)\s*\]/.exec(line)?.[1];
    if (header !== undefined) {
      current = header;
      if (header === (table || key)) count++;
      if (count === index && header === (table || key)) found ??= at + 1;
      if (header === [table, key].filter(Boolean).join('.')) found ??= at + 1;
    }
    const name = /^\s*(?:"([^"]+)"|([A-Za-z0-9_-]+))\s*=/.exec(line);
    const inTable = current === table && (table === '' || count === index);
    if (inTable && name !== null && (name[1] ?? name[2]) === key) return `:${at + 1}`;
  }
  return found === undefined ? '' : `:${found}`;
}
