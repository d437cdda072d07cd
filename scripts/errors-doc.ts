import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { ERRORS, EXIT_CODES, type Fault } from '../proto/index.ts';

/** Makes `docs/errors.md` from the error table; with `--check` says whether it is up to date instead. */

export const ERRORS_DOCUMENT = fileURLToPath(new URL('../docs/errors.md', import.meta.url));

const FAULTS: Readonly<Record<Fault, string>> = {
  caller: 'The call is wrong: correct it. A retry of the same call fails in the same way.',
  system: 'Something is unavailable or broken: retry with backoff.',
  trust: 'A check refused: stop. Nothing was sent or released, and a retry needs a reason to succeed.',
};

export function errorsDocument(): string {
  const sections = (Object.keys(FAULTS) as Fault[]).map((fault) => {
    const rows = Object.entries(ERRORS)
      .filter(([, entry]) => entry.fault === fault)
      .map(([code, { status, remedy }]) => `| \`${code}\` | ${status} | ${remedy.replaceAll('|', '\\|')} |`);
    const head = [
      `## ${fault} (exit code ${EXIT_CODES[fault]})`,
      '',
      FAULTS[fault],
      '',
      '| code | HTTP status | remedy |',
      '|---|---|---|',
    ];
    return [...head, ...rows, ''].join('\n');
  });
  return [
    '# Errors',
    '',
    'Made from the table in `proto/errors.ts` by `npm run errors-doc`; do not edit. Codes are API and stay; messages may change.',
    'Over HTTP an error is an `application/problem+json` document (RFC 9457) with `code`, `remedy` and `next`: what a caller does then,',
    '`retry` (the same again, later), `attest` (anew, and seal again) or `stop`. `cfn` prints code and remedy on stderr,',
    'and ends with the exit code of the section; 1 is a bug in `cfn` itself.',
    '',
    ...sections,
  ].join('\n');
}

if (import.meta.main) {
  if (!process.argv.includes('--check')) {
    writeFileSync(ERRORS_DOCUMENT, errorsDocument());
  } else if (readFileSync(ERRORS_DOCUMENT, 'utf8') !== errorsDocument()) {
    console.error('docs/errors.md differs from proto/errors.ts: run `npm run errors-doc`');
    process.exitCode = 1;
  }
}
