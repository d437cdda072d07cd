import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadPkcs11 } from './pkcs11.ts';

export const SOFTHSM = '/usr/lib/softhsm/libsofthsm2.so';
/** With CI set, a machine without SoftHSM is an error: scripts/setup-debian.sh installs it. */
export const softhsmMissing = !existsSync(SOFTHSM) && process.env['CI'] === undefined;
export const softhsmSkip = softhsmMissing ? ' (skipped: there is no SoftHSM; run scripts/setup-debian.sh)' : '';

export interface SoftHsm {
  readonly folder: string;
  readonly pin: string;
  readonly env: { readonly SOFTHSM2_CONF: string };
  /** Of a key with this label. */
  uri(object: string): string;
  /** Takes the token out of its slot, and puts it back. */
  remove(): void;
  putBack(): void;
  [Symbol.dispose](): void;
}

/** A SoftHSM of its own with one token; this process finds it, and its children. One at a time. */
export async function startSoftHsm(): Promise<SoftHsm> {
  const folder = mkdtempSync(join(tmpdir(), 'cfn-softhsm-'));
  const tokens = join(folder, 'tokens');
  mkdirSync(tokens);
  const pin = '1234-5678';
  const SOFTHSM2_CONF = join(folder, 'softhsm2.conf');
  writeFileSync(SOFTHSM2_CONF, `directories.tokendir = ${tokens}\nlog.level = ERROR\n`);
  process.env['SOFTHSM2_CONF'] = SOFTHSM2_CONF;
  // Of the one before: a module reads its configuration when it is initialised.
  await loadPkcs11(SOFTHSM)
    .finalize()
    .catch(() => undefined);
  const flags = ['--init-token', '--free', '--label', 'cfn', '--so-pin', '0000-0000', '--pin', pin];
  execFileSync('softhsm2-util', flags, { stdio: 'pipe' });
  return {
    folder,
    pin,
    env: { SOFTHSM2_CONF },
    uri: (object) => `pkcs11:token=cfn;object=${object}?module-path=${SOFTHSM}`,
    remove() {
      renameSync(tokens, `${tokens}.gone`);
      mkdirSync(tokens);
    },
    putBack() {
      rmSync(tokens, { recursive: true });
      renameSync(`${tokens}.gone`, tokens);
    },
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}
