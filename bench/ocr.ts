import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { alternate, median } from './measure.ts';
import type { Row } from './row.ts';
import { deployOcr, OCR_MODELS, openSystem, post, root, startBare } from './system.ts';

/** OCR through the whole stack (open mode, so that both sides speak plain HTTP) over the same bundle in a bare Hono server. */
export async function ocr(): Promise<Row[]> {
  await using bench = await openSystem();
  await deployOcr(bench);
  const bare = await startBare(join(root, 'functions/examples/ocr'), {
    DETECT: OCR_MODELS.DETECT.file,
    RECOGNISE: OCR_MODELS.RECOGNISE.file,
  });
  try {
    const photo = new Uint8Array(readFileSync(join(root, 'test/fixtures/inputs/en-01.jpg')));
    const texts = (answer: string): string =>
      JSON.stringify((JSON.parse(answer) as { lines: { text: string }[] }).lines.map(({ text }) => text));
    const expected = texts(await post(bare.ready.url, photo));
    const call = (url: string) => async (): Promise<void> => {
      if (texts(await post(url, photo)) !== expected) throw new Error('the two sides read different lines');
    };
    const rows: Row[] = [];
    for (const concurrency of [1, 4]) {
      const { a, b } = await alternate(call(`${bench.system.gatewayUrl}/f/demo/ocr/`), call(bare.ready.url), {
        rounds: 5,
        count: 8,
        concurrency,
        warmUp: 6,
      });
      const ratios = a.map(({ perSecond }, i) => perSecond / (b[i]?.perSecond ?? Number.NaN));
      const ratio = median(ratios);
      rows.push({
        row: `OCR, concurrency ${concurrency}`,
        unit: 'images/s',
        ours: median(a.map(({ perSecond }) => perSecond)),
        reference: median(b.map(({ perSecond }) => perSecond)),
        ratio,
        spread: [Math.min(...ratios), Math.max(...ratios)],
        goal: 'ratio ≥ 0.90',
        met: ratio >= 0.9,
      });
    }
    return rows;
  } finally {
    await bare.stop();
  }
}
