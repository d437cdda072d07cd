import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const file = (name: string): string => fileURLToPath(new URL(`../client/example/${name}`, import.meta.url));

/** The page's script with the SDK in it, as a browser takes it. */
export async function bundleExamplePage(): Promise<Uint8Array> {
  const { outputFiles } = await build({
    entryPoints: [file('page.ts')],
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    write: false,
  });
  return outputFiles[0]?.contents ?? new Uint8Array();
}

/** The example page, served on this machine: static files alone. */
export async function serveExamplePage(
  settings: { readonly endpoint: string; readonly function: string; readonly policy: string } & Record<string, string>,
): Promise<{ readonly url: string; close(): Promise<void> }> {
  const files: Readonly<Record<string, readonly [type: string, content: Uint8Array | string]>> = {
    '/': ['text/html; charset=utf-8', await readFile(file('index.html'))],
    '/style.css': ['text/css; charset=utf-8', await readFile(file('style.css'))],
    '/page.js': ['text/javascript; charset=utf-8', await bundleExamplePage()],
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
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
