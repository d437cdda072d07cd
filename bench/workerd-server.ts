import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
// @ts-expect-error -- it has no types
import binary from 'workerd';

const { default: workerd } = binary as { default: string };

export interface WorkerdServer extends AsyncDisposable {
  readonly pid: number;
  readonly url: string;
}

/** `workerd` with its dynamic loader: a fresh isolate for each request, from the same bundle. */
export async function startWorkerd(bundle: Uint8Array): Promise<WorkerdServer> {
  const dir = mkdtempSync(join(tmpdir(), 'cfn-workerd-'));
  writeFileSync(join(dir, 'loader.js'), LOADER);
  writeFileSync(join(dir, 'config.capnp'), CONFIG);
  writeFileSync(join(dir, 'bundle.js'), bundle);
  const child = spawn(workerd, ['serve', '--experimental', '--control-fd=3', 'config.capnp'], {
    cwd: dir,
    stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
  });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const listening = new Promise<number>((resolve) =>
    createInterface({ input: child.stdio[3] as Readable }).once('line', (line) =>
      resolve((JSON.parse(line) as { port: number }).port),
    ),
  );
  const port = await Promise.race([
    listening,
    exited.then(() => {
      throw new Error('workerd ended before it listened');
    }),
  ]);
  return {
    pid: child.pid ?? -1,
    url: `http://127.0.0.1:${port}/`,
    async [Symbol.asyncDispose]() {
      child.kill();
      await exited;
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

const LOADER = `import bundle from 'bundle';

let count = 0;

/** Each request gets an isolate of its own, by the name that nobody has used before. */
export default {
  fetch(request, env) {
    const worker = env.LOADER.get('fresh-' + count++, () => ({
      compatibilityDate: '2026-01-01',
      mainModule: 'bundle.js',
      modules: { 'bundle.js': bundle },
      globalOutbound: null,
    }));
    return worker.getEntrypoint().fetch(request);
  },
};
`;

const CONFIG = `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [ (name = "fresh", worker = .fresh) ],
  sockets = [ (name = "fresh", address = "127.0.0.1:0", http = (), service = "fresh") ]
);

const fresh :Workerd.Worker = (
  modules = [ (name = "loader.js", esModule = embed "loader.js"), (name = "bundle", text = embed "bundle.js") ],
  compatibilityDate = "2026-01-01",
  bindings = [ (name = "LOADER", workerLoader = (id = "bench")) ]
);
`;
