import { expect, test } from 'vitest';
import { csv } from './csv.ts';
import { usageCsv } from './usage.ts';

test('CSV as RFC 4180 has it', () => {
  expect(
    csv([
      ['a', 'b'],
      ['x,y', 'say "hi"'],
      ['two\r\nlines', 7],
    ]),
  ).toBe('a,b\r\n"x,y","say ""hi"""\r\n"two\r\nlines",7\r\n');
  expect(csv([])).toBe('');
});

test.each(['=1+1', '+1', '-1', '@SUM(A1)', '\t=1', '\r=1', '\n=1', '|calc', '＝1'])('%j is no formula', (text) => {
  expect(csv([[text]]).replace(/^"/, '')[0]).toBe("'");
});

test('what is not told by model is no column of it', () => {
  const row = { subject: 'acme/m@1', requests: 2, failed: 1, engineCalls: 3, engineMicroseconds: 1500 };
  expect(usageCsv('model', [row])).toBe(
    'model,requests,failed,engineCalls,engineMicroseconds\r\nacme/m@1,2,1,3,1500\r\n',
  );
  expect(usageCsv('tenant', [{ ...row, subject: 'acme', cpuMicroseconds: 9, requestBytes: 1 }])).toBe(
    'tenant,requests,failed,engineCalls,engineMicroseconds,cpuMicroseconds,requestBytes,responseBytes,egressBytes\r\n' +
      'acme,2,1,3,1500,9,1,0,0\r\n',
  );
});
