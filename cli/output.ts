import { createColors } from 'picocolors';
import { toProblem, type CfnError } from '../proto/index.ts';
import type { Context } from './context.ts';

/** A step that takes a while. */
export interface Step {
  /** How far it is, for example `42 %`; shown on a terminal only. */
  update(state: string): void;
  /** Ends the step's line, with how long it took. */
  done(detail?: string): void;
}

/**
 * What a command says. Results go to stdout: lines for people, or with `--json` one JSON document. Everything else goes
 * to stderr. With `--json` stderr is empty, or holds one line: the error as an RFC 9457 problem.
 */
export interface Output {
  readonly json: boolean;
  /** Emphasis on stdout. Plain text when stdout is no terminal, or NO_COLOR is set. */
  readonly colors: ReturnType<typeof createColors>;
  result(value: unknown, lines: readonly string[]): void;
  /** A line for people, on stderr. */
  note(text: string): void;
  step(title: string): Step;
  error(error: CfnError): void;
}

export function createOutput(
  { stdout, stderr, env, monotonicMs }: Context,
  { json }: { readonly json: boolean },
): Output {
  const plain = (env['NO_COLOR'] ?? '') !== '' || env['TERM'] === 'dumb';
  const live = stderr.isTTY === true && !plain && !json;
  const errorColors = createColors(stderr.isTTY === true && !plain);
  return {
    json,
    colors: createColors(stdout.isTTY === true && !plain && !json),
    result(value, lines) {
      stdout.write(json ? `${JSON.stringify(value)}\n` : lines.map((line) => `${printable(line)}\n`).join(''));
    },
    note(text) {
      if (!json) stderr.write(`${printable(text)}\n`);
    },
    step(title) {
      if (json) return { update: () => undefined, done: () => undefined };
      const start = monotonicMs();
      stderr.write(live ? `${printable(title)} …` : `${printable(title)} …\n`);
      return {
        update(state) {
          if (live) stderr.write(`\r\u001b[2K${printable(title)} … ${printable(state)}`);
        },
        done(detail) {
          if (!live) return;
          const took = `${((monotonicMs() - start) / 1000).toFixed(1)} s`;
          stderr.write(
            `\r\u001b[2K${printable(title)}${detail === undefined ? '' : ` ${printable(detail)}`} ${errorColors.dim(took)}\n`,
          );
        },
      };
    },
    error(error) {
      if (json) {
        stderr.write(`${JSON.stringify(toProblem(error))}\n`);
        return;
      }
      const cfn = errorColors.red('cfn:');
      stderr.write(
        `${live ? '\r\u001b[2K' : ''}${cfn} ${printable(error.message)}\n${cfn} ${error.code}: ${error.remedy}\n`,
      );
    },
  };
}

/** Text that came from elsewhere could hold control sequences for the terminal; colours are the only ones let through. */
function printable(text: string): string {
  return text.replaceAll(CONTROL, '\uFFFD');
}
// eslint-disable-next-line no-control-regex -- finding them is the point
const CONTROL = /(?!\u001b\[\d{1,2}m)[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
