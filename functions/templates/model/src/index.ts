import type { FunctionModule, Model, TensorConstructor } from '../../../sdk/index.ts';

/** A global of the runtime. */
declare const Tensor: TensorConstructor;

interface Env {
  readonly MODEL: Model;
}

/** POST `{"x": {"data": [1, 2], "dims": [1, 2]}}` runs the model on float32 tensors by name; GET says which it takes. */
const handler: FunctionModule<Env> = {
  async fetch(request, env) {
    const { inputs, outputs } = env.MODEL;
    if (request.method !== 'POST') return Response.json({ inputs, outputs });

    const given: unknown = await request.json().catch(() => undefined);
    if (!isFeeds(given))
      return Response.json({ error: 'expected {"NAME": {"data": [numbers], "dims": [numbers]}}' }, { status: 400 });
    const feeds = Object.entries(given).map(([name, { data, dims }]) => [
      name,
      new Tensor('float32', Float32Array.from(data), dims),
    ]);
    const results = await env.MODEL.run(Object.fromEntries(feeds));
    const answer = Object.entries(results).map(([name, { data, dims }]) => [
      name,
      { data: Array.from(data, Number), dims },
    ]);
    return Response.json(Object.fromEntries(answer));
  },
};

type Feeds = Record<string, { data: number[]; dims: number[] }>;

function isFeeds(value: unknown): value is Feeds {
  const isNumbers = (list: unknown): boolean => Array.isArray(list) && list.every((item) => typeof item === 'number');
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).every(
      (feed: { data?: unknown; dims?: unknown } | null) => isNumbers(feed?.data) && isNumbers(feed?.dims),
    )
  );
}

export default handler;
