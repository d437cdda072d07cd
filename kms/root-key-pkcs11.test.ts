import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CKA, loadPkcs11 } from './pkcs11.ts';
import { openPkcs11RootKey } from './root-key-pkcs11.ts';
import { rootKeyContract } from './root-key.contract.ts';
import type { RootKey, RootKeyDeps } from './root-key.ts';
import { SOFTHSM, softhsmMissing, softhsmSkip, startSoftHsm, type SoftHsm } from './softhsm.testkit.ts';

const context = Uint8Array.of(1);
const deps = (pin: string | undefined, mayMake = true): RootKeyDeps => ({
  mayMake,
  randomBytes,
  fetch,
  credential: () => (pin === undefined ? undefined : Buffer.from(pin)),
});

describe.skipIf(softhsmMissing)(`a root key in an HSM${softhsmSkip}`, () => {
  rootKeyContract(async () => {
    const hsm = await startSoftHsm();
    return {
      open: (mayMake) => openPkcs11RootKey(hsm.uri('cfn-root'), deps(hsm.pin, mayMake)),
      openOther: () => openPkcs11RootKey(hsm.uri('another'), deps(hsm.pin)),
      outage: { begin: async () => hsm.remove(), end: async () => hsm.putBack() },
      close: async () => hsm[Symbol.dispose](),
    };
  });

  describe('refuses', () => {
    let hsm: SoftHsm;
    let root: RootKey | undefined;
    beforeEach(async () => {
      hsm = await startSoftHsm();
    });
    afterEach(async () => {
      await root?.close();
      root = undefined;
      hsm[Symbol.dispose]();
    });
    const open = async (pin: string | undefined = hsm.pin, uri = hsm.uri('cfn-root')): Promise<RootKey> =>
      (root = await openPkcs11RootKey(uri, deps(pin)));

    test('a wrong PIN, once: the token is not locked by trying again', async () => {
      let { pin } = hsm;
      root = await openPkcs11RootKey(hsm.uri('cfn-root'), { ...deps(''), credential: () => Buffer.from(pin) });
      pin = 'wrong';
      hsm.remove();
      await expect(root.version()).resolves.toBe(1); // no question to the HSM
      await expect(root.wrap(randomBytes(1), context)).rejects.toMatchObject({ code: 'CFN_ROOT_KEY_UNREACHABLE' });
      hsm.putBack();
      for (let times = 0; times < 20; times++)
        await expect(root.wrap(randomBytes(1), context)).rejects.toMatchObject({ code: 'CFN_ROOT_KEY_REFUSED' });
      pin = hsm.pin;
      await root.wrap(randomBytes(1), context);
    });

    test('to be opened without a PIN', async () => {
      await expect(openPkcs11RootKey(hsm.uri('cfn-root'), deps(undefined))).rejects.toMatchObject({
        code: 'CFN_ROOT_KEY_REFUSED',
      });
    });

    test('a key that came from outside, because it could be elsewhere, too', async () => {
      const key = join(hsm.folder, 'aes.key');
      writeFileSync(key, randomBytes(32));
      const flags = [
        '--import',
        key,
        '--aes',
        '--token',
        'cfn',
        '--label',
        'cfn-root',
        '--id',
        '00000001',
        '--pin',
        hsm.pin,
      ];
      execFileSync('softhsm2-util', flags, { stdio: 'pipe', env: { ...process.env, ...hsm.env } });
      await expect(open()).rejects.toMatchObject({ code: 'CFN_SECRET_EXPOSED' });
    });

    test.each([
      ['a token that is in no slot', `pkcs11:token=other;object=k?module-path=${SOFTHSM}`, 'CFN_ROOT_KEY_UNREACHABLE'],
      ['a module that is not there', 'pkcs11:token=cfn;object=k?module-path=/nowhere.so', 'CFN_ROOT_KEY_UNREACHABLE'],
      ['a library that is no module', 'pkcs11:token=cfn;object=k?module-path=libc.so.6', 'CFN_ROOT_KEY_UNREACHABLE'],
      [
        'a PIN in the URI, which other users could read',
        'pkcs11:token=cfn;object=k?module-path=/x&pin-value=1',
        'CFN_USAGE',
      ],
      ['no key', 'pkcs11:token=cfn?module-path=/x', 'CFN_USAGE'],
      ['no token', 'pkcs11:object=k?module-path=/x', 'CFN_USAGE'],
      ['no module', 'pkcs11:token=cfn;object=k', 'CFN_USAGE'],
      ['an attribute twice', 'pkcs11:token=cfn;token=b;object=k?module-path=/x', 'CFN_USAGE'],
      ['a broken percent encoding', 'pkcs11:token=%zz;object=k?module-path=/x', 'CFN_USAGE'],
    ])('%s', async (_, uri, code) => {
      await expect(open(hsm.pin, uri)).rejects.toMatchObject({ code });
    });

    test('a PIN file that others can read', async () => {
      const file = join(hsm.folder, 'pin');
      writeFileSync(file, hsm.pin, { mode: 0o644 });
      const uri = `${hsm.uri('cfn-root')}&pin-source=file:${file}`;
      await expect(open(undefined, uri)).rejects.toMatchObject({ code: 'CFN_SECRET_EXPOSED' });
      writeFileSync(`${file}2`, `${hsm.pin}\n`, { mode: 0o600 });
      await open(undefined, `${uri}2`);
    });
  });

  test('the key is made in the HSM, and the HSM gives it to nobody', async () => {
    using hsm = await startSoftHsm();
    const root = await openPkcs11RootKey(hsm.uri('cfn-root'), deps(hsm.pin));
    const pkcs11 = loadPkcs11(SOFTHSM);
    const [token] = (await pkcs11.tokens()).filter(({ token: label }) => label === 'cfn');
    const session = await pkcs11.openSession(token?.slotId ?? 0n); // logged in, as sessions of one process share that
    const [key = 0n] = await pkcs11.findObjects(session, [[CKA.LABEL, Buffer.from('cfn-root')]], 1);
    expect(await pkcs11.attribute(session, key, CKA.SENSITIVE, 1)).toEqual(Buffer.of(1));
    expect(await pkcs11.attribute(session, key, CKA.EXTRACTABLE, 1)).toEqual(Buffer.of(0));
    const [VALUE, ATTRIBUTE_SENSITIVE] = [0x11, 0x11];
    await expect(pkcs11.attribute(session, key, VALUE, 64)).rejects.toMatchObject({ result: ATTRIBUTE_SENSITIVE });
    await root.close();
  });
});
