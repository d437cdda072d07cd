/** Rules of `tidy.test.ts` as functions over text, so that each can be shown to refuse. Lines are counted from 1. */

export function randomUses(text: string): number[] {
  return linesWith(text, /\bMath\s*\.\s*random\b/);
}

/** `() => new Date()` as a default argument is the one form let through: a browser has no main.ts to pass the clock down from. */
export function clockUses(text: string): number[] {
  return linesWith(text, /\bDate\s*\.\s*now\b|(?<!\bnow = \(\) => )\bnew\s+Date\s*\(\s*\)/);
}

function linesWith(text: string, pattern: RegExp): number[] {
  return text
    .split('\n')
    .flatMap((line, index) => (pattern.test(line.replace(/(^|\s)(\/\/|\*|\/\*).*$/, '')) ? [index + 1] : []));
}

/** Mistakes between the promises of the threat model (`**INV-NN**`) and the tests that quote their numbers. */
export function invariantMistakes(
  model: string,
  tests: readonly { readonly path: string; readonly text: string }[],
): string[] {
  const defined = [...model.matchAll(/\*\*(INV-\d{2})\*\*/g)].map(([, number = '']) => number);
  const known = new Set(defined);
  if (known.size === 0) return ['the threat model numbers no invariant'];
  const quoted = tests.flatMap(({ path, text }) =>
    [...text.matchAll(/\bINV-\d{2}\b/g)].map(([number]) => ({ path, number })),
  );
  const twice = defined.filter((number, index) => defined.indexOf(number) !== index);
  return [
    ...twice.map((number) => `${number} is numbered twice`),
    ...[...known]
      .filter((number) => !quoted.some((quote) => quote.number === number))
      .map((number) => `${number} has no test`),
    ...quoted
      .filter(({ number }) => !known.has(number))
      .map(({ path, number }) => `${path} quotes ${number}, which is not in the model`),
  ];
}

/** First-level titles of a Markdown document, outside of code blocks. */
export function titles(markdown: string): string[] {
  let fence: string | undefined;
  const found: string[] = [];
  for (const line of markdown.split('\n')) {
    const mark = /^\s*(```+|~~~+)/.exec(line)?.[1]?.slice(0, 3);
    if (mark !== undefined && (fence === undefined || fence === mark)) fence = fence === undefined ? mark : undefined;
    const title = /^# (.+)$/.exec(line)?.[1];
    if (fence === undefined && title !== undefined) found.push(title);
  }
  return found;
}
