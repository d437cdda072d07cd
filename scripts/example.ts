import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { startLocal } from '../deploy/index.ts';
import { serveExamplePage } from './example-page.ts';

/** The example page, with everything that it needs behind it, SIMULATED, until it is stopped. */
const root = fileURLToPath(new URL('..', import.meta.url));
const stateDir = mkdtempSync(join(tmpdir(), 'cfn-example-'));
const system = await startLocal({ stateDir });
const { gateway, token, kms, kmsToken, policy, tenant } = system.config;
await promisify(execFile)(
  process.execPath,
  [join(root, 'cli/main.ts'), 'deploy', join(root, 'functions/templates/hello')],
  {
    env: {
      ...process.env,
      CFN_GATEWAY: gateway,
      CFN_TOKEN: token,
      CFN_KMS: kms,
      CFN_KMS_TOKEN: kmsToken,
      CFN_AUTHOR_KEY: join(stateDir, 'author.jwk'),
    },
  },
);
const page = await serveExamplePage({
  endpoint: gateway,
  function: `${tenant}/hello`,
  path: '/?name=you',
  policy: readFileSync(policy, 'utf8'),
});
console.log(`SIMULATED: nothing here is confidential from whoever runs this machine.\nOpen ${page.url}`);

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => {
    void Promise.all([page.close(), system.stop()]).then(() => {
      rmSync(stateDir, { recursive: true, force: true });
      process.exit(0);
    });
  });
}
