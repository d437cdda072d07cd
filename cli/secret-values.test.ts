import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import type { ReadStream } from 'node:tty';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { utf8 } from '../proto/index.ts';
import { hiddenPrompt } from './hidden-prompt.ts';
import { readDevVars, readSecretFile, readSecretValue } from './secret-values.ts';
import { recordingContext, runCfn } from './testkit.ts';

let cwd: string;
beforeEach(async () => void (cwd = await mkdtemp(join(tmpdir(), 'cfn-secret-'))));
afterEach(() => rm(cwd, { recursive: true }));

const fromStdin = (text: string) =>
  recordingContext({
    cwd,
    stdin: (async function* () {
      yield utf8(text);
    })(),
  }).context;

describe('a value', () => {
  test('is what stdin holds, less one newline', async () => {
    expect(await readSecretValue('A', fromStdin('  two\nlines \n\n'))).toBe('  two\nlines \n');
    expect(await readSecretValue('A', fromStdin('x\r\n'))).toBe('x');
  });
  test('is refused when it is empty', async () => {
    await expect(readSecretValue('A', fromStdin('\n'))).rejects.toMatchObject({ code: 'CFN_USAGE' });
  });
  test('is asked for on a terminal, which does not show it', async () => {
    const modes: boolean[] = [];
    const terminal = Object.assign(new PassThrough(), {
      setRawMode(mode: boolean) {
        modes.push(mode);
      },
    });
    let shown = '';
    const ask = hiddenPrompt(terminal as unknown as ReadStream, { write: (text) => (shown += String(text)) });
    const asked = readSecretValue('API_KEY', { ...fromStdin('not this'), promptHidden: ask });
    for (const typed of ['hun', 'ter3\u007f', '2\r']) terminal.write(typed);
    expect(await asked).toBe('hunter2');
    expect(shown).toBe('value of API_KEY: \n');
    expect(modes).toEqual([true, false]);
    const ended = ask('again: ');
    terminal.write('\u0003');
    await expect(ended).rejects.toMatchObject({ code: 'CFN_ABORTED' });
  });
  test('is not taken from the command line', async () => {
    const { code, stderr } = await runCfn(['secret', 'put', 'API_KEY', 'hunter2'], { cwd });
    expect(code).toBe(2);
    expect(stderr).toContain('CFN_USAGE');
  });
});

describe('a file of values', () => {
  test.each([
    ['JSON', '{ "A": "1", "B": "two words" }'],
    ['lines', '# comment\nA=1\nB="two words"\n'],
  ])('is %s', async (_name, text) => {
    await writeFile(join(cwd, 'file'), text);
    expect(await readSecretFile('file', fromStdin(''))).toEqual({ A: '1', B: 'two words' });
    expect(await readSecretFile('-', fromStdin(text))).toEqual({ A: '1', B: 'two words' });
  });
  test.each([
    ['JSON of something else', '{ "A": { "hunter2": 1 } }'],
    ['cut JSON', '{ "A": "hunter2'],
  ])('is refused, without a word of it, when it is %s', async (_name, text) => {
    const error: unknown = await readSecretFile('-', fromStdin(text)).catch((cause: unknown) => cause);
    expect(error).toMatchObject({ code: 'CFN_USAGE' });
    expect(String((error as Error).stack)).not.toContain('hunter2');
  });
  test('that is not there is refused, but .dev.vars need not be there', async () => {
    await expect(readSecretFile('file', fromStdin(''))).rejects.toMatchObject({ code: 'CFN_USAGE' });
    expect(await readDevVars(cwd)).toEqual({});
    await writeFile(join(cwd, '.dev.vars'), 'A=1\n');
    expect(await readDevVars(cwd)).toEqual({ A: '1' });
  });
});
