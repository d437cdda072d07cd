import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/** The example page of the SDK, bundled and served on this machine: static files alone. */
export async function serveExamplePage(
  settings: { readonly endpoint: string; readonly function: string; readonly policy: string } & Record<string, string>,
): Promise<{ readonly url: string; readonly bundleBytes: number; close(): Promise<void> }> {
  const file = (name: string): string => fileURLToPath(new URL(`../client/example/${name}`, import.meta.url));
  const { outputFiles } = await build({
    entryPoints: [file('page.ts')],
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    write: false,
  });
  const script = outputFiles[0]?.contents ?? new Uint8Array();
  const files: Readonly<Record<string, readonly [type: string, content: Uint8Array | string]>> = {
    '/': ['text/html; charset=utf-8', await readFile(file('index.html'))],
    '/style.css': ['text/css; charset=utf-8', await readFile(file('style.css'))],
    '/page.js': ['text/javascript; charset=utf-8', script],
    '/settings.json': ['application/json', JSON.stringify(settings)],
  };
  const server = createServer(({ url = '/' }, response) => {
    const found = files[url];
    response.writeHead(found === undefined ? 404 : 200, { 'content-type': found?.[0] ?? 'text/plain' });
    response.end(found?.[1]);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    bundleBytes: script.length,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
