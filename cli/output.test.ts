import { expect, test } from 'vitest';
import { CfnError } from '../proto/index.ts';
import { createOutput } from './output.ts';
import { recordingContext } from './testkit.ts';

test('on a terminal a step is one line that moves; elsewhere plain lines; NO_COLOR is heard', () => {
  const terminal = recordingContext({ terminal: true });
  const step = createOutput(terminal.context, { json: false }).step('sealing');
  step.update('42 %');
  step.done('1 file');
  expect(terminal.written.stderr).toBe(
    'sealing …\r\u001b[2Ksealing … 42 %\r\u001b[2Ksealing 1 file \u001b[2m0.0 s\u001b[22m\n',
  );

  for (const change of [{}, { terminal: true, env: { NO_COLOR: '1' } }]) {
    const plain = recordingContext(change);
    const output = createOutput(plain.context, { json: false });
    const quiet = output.step('sealing');
    quiet.update('42 %');
    quiet.done();
    output.error(new CfnError('CFN_USAGE', 'no'));
    expect(plain.written.stderr).toBe('sealing …\ncfn: no\ncfn: CFN_USAGE: See `cfn --help`.\n');
  }
});

test('with --json there is the result on stdout and nothing else', () => {
  const { context, written } = recordingContext({ terminal: true });
  const output = createOutput(context, { json: true });
  output.note('by the way');
  output.step('sealing').done();
  output.result({ a: 1 }, ['for people']);
  expect(written).toEqual({ stdout: '{"a":1}\n', stderr: '' });
});

test('what came from elsewhere cannot steer the terminal', () => {
  const { context, written } = recordingContext({ terminal: true });
  const output = createOutput(context, { json: false });
  output.error(new CfnError('CFN_NOT_FOUND', 'a\u001b]0;title\u0007b\u009b2Jc\rd'));
  output.result({}, ['x\u001b[2Jy']);
  expect(written.stderr).toContain('a\uFFFD]0;title\uFFFDb\uFFFD2Jc\uFFFDd');
  expect(written.stdout).toBe('x\uFFFD[2Jy\n');
});
