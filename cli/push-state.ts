import { createCipheriv, createDecipheriv, createHash, hkdfSync } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import type { SealedModel } from '../artifacts/index.ts';
import { CfnError, digestSchema, fromBase64url, toBase64url, utf8 } from '../proto/index.ts';
import type { Context } from './context.ts';

const base64url = z.string().regex(/^[A-Za-z0-9_-]+$/);
const stateSchema = z.strictObject({
  format: z.literal('cfn/push/v1'),
  digest: digestSchema,
  manifest: base64url,
  salt: base64url,
  nonce: base64url,
  /** The data key under AES-256-GCM, with its tag. */
  key: base64url,
});
const TAG_BYTES = 16;

/** What a push that breaks off needs to go on: manifest and data key. Kept from before the first ciphertext leaves until the push is done. */
export interface PushState {
  readonly file: string;
  /**
   * @returns undefined when no push is to be continued
   * @throws {CfnError} `CFN_INPUT_INVALID` when the file is damaged, or was kept under another token
   */
  read(): Promise<SealedModel | undefined>;
  write(sealed: SealedModel): Promise<void>;
  remove(): Promise<void>;
}

/**
 * One file for each model and pair of services, mode 0600. The data key in it is encrypted under the owner's token of the KMS, which is to
 * get the key anyway, so that the file alone opens nothing.
 *
 * @param of model, gateway and KMS
 */
export function pushState(
  of: readonly string[],
  kmsToken: string,
  { env, randomBytes }: Pick<Context, 'env' | 'randomBytes'>,
): PushState {
  const folder = env['XDG_STATE_HOME'] || join(env['HOME'] || homedir(), '.local', 'state');
  const name = createHash('sha256').update(JSON.stringify(of)).digest('hex');
  const file = join(folder, 'cfn', 'push', `${name}.json`);
  const keyOf = (salt: Uint8Array): Uint8Array =>
    new Uint8Array(hkdfSync('sha256', utf8(kmsToken), salt, 'cfn/push/v1', 32));
  return {
    file,
    async read() {
      const text = await readFile(file, 'utf8').catch((cause: NodeJS.ErrnoException) => {
        if (cause.code === 'ENOENT') return undefined;
        throw new CfnError('CFN_INPUT_INVALID', `cannot read ${file}: ${cause.code ?? 'unknown'}`, { cause });
      });
      if (text === undefined) return undefined;
      try {
        const state = stateSchema.parse(JSON.parse(text));
        const [salt, nonce, sealed] = [state.salt, state.nonce, state.key].map((part) => fromBase64url(part)) as [
          Uint8Array,
          Uint8Array,
          Uint8Array,
        ];
        const decipher = createDecipheriv('aes-256-gcm', keyOf(salt), nonce, { authTagLength: TAG_BYTES });
        decipher.setAAD(utf8(state.digest)).setAuthTag(sealed.subarray(-TAG_BYTES));
        const opened = decipher.update(sealed.subarray(0, -TAG_BYTES));
        decipher.final();
        const dataKey = new Uint8Array(opened);
        opened.fill(0);
        return { manifestBytes: new Uint8Array(fromBase64url(state.manifest)), digest: state.digest, dataKey };
      } catch {
        // Without the cause: it could quote the file.
        throw new CfnError(
          'CFN_INPUT_INVALID',
          `${file} keeps a push that broke off, and does not open with this token of the KMS; give that token, or --start-over`,
        );
      }
    },
    async write({ manifestBytes, digest, dataKey }) {
      const [salt, nonce] = [randomBytes(16), randomBytes(12)];
      const cipher = createCipheriv('aes-256-gcm', keyOf(salt), nonce, { authTagLength: TAG_BYTES });
      cipher.setAAD(utf8(digest));
      const sealed = Buffer.concat([cipher.update(dataKey), cipher.final(), cipher.getAuthTag()]);
      const state: z.infer<typeof stateSchema> = {
        format: 'cfn/push/v1',
        digest,
        manifest: toBase64url(manifestBytes),
        salt: toBase64url(salt),
        nonce: toBase64url(nonce),
        key: toBase64url(sealed),
      };
      const whole = `${file}.${crypto.randomUUID()}`;
      try {
        await mkdir(dirname(file), { recursive: true, mode: 0o700 });
        await writeFile(whole, JSON.stringify(state), { flag: 'wx', mode: 0o600, flush: true });
        await rename(whole, file);
      } catch (cause) {
        const { code } = cause as NodeJS.ErrnoException;
        throw new CfnError('CFN_INPUT_INVALID', `cannot write ${file}: ${code ?? 'unknown'}`, { cause });
      } finally {
        await rm(whole, { force: true });
      }
    },
    remove: () => rm(file, { force: true }),
  };
}
