import { describe, expect, test } from 'vitest';
import { CfnError, DEFAULT_LIMITS } from '../proto/index.ts';
import { parseFunctionConfig } from './function-config.ts';

const MINIMAL = 'name = "hello"\nmain = "src/index.ts"\ncompatibility_date = "2026-11-01"\n';

function refusal(text: string): CfnError {
  try {
    parseFunctionConfig(text);
  } catch (error) {
    if (error instanceof CfnError) return error;
    throw error;
  }
  throw new Error('expected a refusal');
}

test('fills defaults in that keep the function closed', () => {
  expect(parseFunctionConfig(MINIMAL)).toEqual({
    name: 'hello',
    main: 'src/index.ts',
    compatibilityDate: '2026-11-01',
    models: [],
    vars: {},
    secrets: { required: [] },
    limits: { ...DEFAULT_LIMITS },
    egress: { allow: [] },
    caller: { plaintext: false, logs: 'none' },
    dev: { models: {} },
  });
});

test('reads every field of the design', () => {
  const config = parseFunctionConfig(`
name = "invoice-ocr"
main = "src/index.ts"
compatibility_date = 2026-11-01

[[models]]
binding = "DETECT"              # env.DETECT in the function
model = "acme/text-detector@1"

[[models]]
binding = "RECOGNISE"
model = "acme/text-recogniser@1"

[vars]
LANGUAGE = "en"

[limits]
cpu_ms = 5000
wall_ms = 8000
memory_mb = 256

[egress]
allow = ["api.example.com"]

[caller]
plaintext = true
logs = "author"
auth = "token"

[dev.models]
"acme/text-detector@1" = "models/detect.onnx"
`);
  expect(config).toMatchObject({
    compatibilityDate: '2026-11-01',
    models: [{ binding: 'DETECT', model: 'acme/text-detector@1' }, { binding: 'RECOGNISE' }],
    vars: { LANGUAGE: 'en' },
    limits: { cpuMs: 5000, wallMs: 8000, memoryMb: 256 },
    egress: { allow: ['api.example.com'] },
    caller: { plaintext: true, logs: 'author' },
    dev: { models: { 'acme/text-detector@1': ['models/detect.onnx'] } },
  });
});

describe('refuses', () => {
  test.each([
    ['a TOML error, with line and column', `${MINIMAL}[limits\n`, /^wrangler-style\.toml:4:\d+: /],
    [
      'an unknown key at the top, with the nearest',
      `nane = "x"\n${MINIMAL}`,
      /:1: unknown key "nane"; did you mean "name"\?/,
    ],
    [
      'an unknown key of a table',
      `${MINIMAL}[limits]\ncpu_sm = 5\n`,
      /:5: unknown key "cpu_sm" in \[limits\]; did you mean "cpu_ms"\?/,
    ],
    ['an unknown key near to none', `${MINIMAL}[egress]\nzzzzzzzzzzzz = 1\n`, /:5: unknown key .* known are allow/],
    [
      'an unknown key of the second model',
      `${MINIMAL}[[models]]\nbinding = "A"\nmodel = "a/b@1"\n[[models]]\nbinding = "B"\nmodl = "a/b@1"\n`,
      /:9: unknown key "modl" in \[models\]; did you mean "model"/,
    ],
    ['a missing name', 'main = "a.ts"\ncompatibility_date = "2026-11-01"\n', /name: /],
    ['a name that no path can hold', MINIMAL.replace('hello', 'Hello World'), /:1: name: lower-case/],
    ['a main outside of the project', MINIMAL.replace('src/index.ts', '../secret.ts'), /:2: main: a path inside/],
    ['an absolute main', MINIMAL.replace('src/index.ts', '/etc/passwd'), /:2: main: a path inside/],
    ['a date that is none', MINIMAL.replace('2026-11-01', '2026-13-01'), /:3: compatibility_date: /],
    [
      'a model without a version',
      `${MINIMAL}[[models]]\nbinding = "A"\nmodel = "acme/thing"\n`,
      /:6: models\.0\.model: owner\/name@version/,
    ],
    [
      'a binding bound twice',
      `${MINIMAL}[[models]]\nbinding = "A"\nmodel = "a/b@1"\n[vars]\nA = "x"\n`,
      /:5: models\.0\.binding: A is bound twice/,
    ],
    [
      'a secret with the name of a var',
      `${MINIMAL}[secrets]\nrequired = ["A"]\n[vars]\nA = "x"\n`,
      /:5: secrets\.required\.0: A is bound twice/,
    ],
    ['a limit over the bound', `${MINIMAL}[limits]\nmemory_mb = 1000000\n`, /:5: limits\.memory_mb: /],
    ['a variable that is no string', `${MINIMAL}[vars]\nA = 1\n`, /:5: vars\.A: /],
    [
      'an egress rule that is no host',
      `${MINIMAL}[egress]\nallow = ["https://example.com/x"]\n`,
      /:5: egress\.allow\.0: a host name/,
    ],
    ['a log level it does not know', `${MINIMAL}[caller]\nlogs = "all"\n`, /:5: caller\.logs: /],
  ])('%s', (_, text, message) => {
    const error = refusal(text);
    expect(error.code).toBe('CFN_CONFIG_INVALID');
    expect(error.message).toMatch(message);
  });
});
