import type { FunctionModule } from '../../../sdk/index.ts';

interface Env {
  /** From [vars] in wrangler-style.toml. */
  readonly GREETING: string;
}

const handler: FunctionModule<Env> = {
  fetch(request, env) {
    const name = new URL(request.url).searchParams.get('name') ?? 'world';
    return new Response(`${env.GREETING}, ${name}!\n`, { headers: { 'content-type': 'text/plain; charset=utf-8' } });
  },
};

export default handler;
