import type { ReadStream } from 'node:tty';
import { CfnError } from '../proto/index.ts';
import type { Sink } from './context.ts';

/**
 * Asks for a line on a terminal, and shows nothing of what is typed.
 *
 * @throws {CfnError} `CFN_ABORTED` for Ctrl-C, Ctrl-D, or a terminal that goes
 */
export function hiddenPrompt(stdin: ReadStream, stderr: Sink): (question: string) => Promise<string> {
  return async (question) => {
    stderr.write(question);
    stdin.setRawMode(true);
    stdin.setEncoding('utf8');
    let line = '';
    try {
      for await (const text of stdin.iterator({ destroyOnReturn: false }) as AsyncIterable<string>)
        for (const character of text) {
          if (character === '\r' || character === '\n') return line;
          if (character === '\u0003' || character === '\u0004') throw new CfnError('CFN_ABORTED', 'ended by the user');
          line = character === '\u007f' || character === '\b' ? line.slice(0, -1) : line + character;
        }
      throw new CfnError('CFN_ABORTED', 'the terminal is gone');
    } finally {
      stdin.setRawMode(false);
      stdin.pause();
      stderr.write('\n');
    }
  };
}
