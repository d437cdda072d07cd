import { expect, test } from 'vitest';
import {
  exportSealingKey,
  generateSealingKeyPair,
  importSealingKey,
  openSealed,
  sealTo,
  toBase64url,
  utf8,
  type Sealed,
} from './index.ts';

const info = utf8('purpose');
const refused = (code: string): unknown => expect.objectContaining({ code });

test('sealed to a key pair, opened by it, also after export and import', async () => {
  const pair = await generateSealingKeyPair(true);
  const sealed = await sealTo(pair.publicKey, utf8('data key'), info);
  expect(await openSealed(pair.privateKey, sealed, info)).toEqual(utf8('data key'));
  const bytes = await exportSealingKey(pair.privateKey);
  expect(bytes).toHaveLength(32);
  expect(await openSealed(await importSealingKey(bytes), sealed, info)).toEqual(utf8('data key'));
});

test('another key, another purpose, or an altered message is refused', async () => {
  const [pair, other] = [await generateSealingKeyPair(), await generateSealingKeyPair()];
  const sealed = await sealTo(pair.publicKey, utf8('data key'), info);
  const flip = (text: string): string => (text.startsWith('A') ? 'B' : 'A') + text.slice(1);
  const attempts: [CryptoKey, Sealed, Uint8Array][] = [
    [other.privateKey, sealed, info],
    [pair.privateKey, sealed, utf8('other purpose')],
    [pair.privateKey, { ...sealed, ciphertext: flip(sealed.ciphertext) }, info],
    [pair.privateKey, { ...sealed, enc: flip(sealed.enc) }, info],
    [pair.privateKey, { ...sealed, enc: toBase64url(new Uint8Array(32)) }, info], // zero shared secret
    [pair.privateKey, { ...sealed, ciphertext: '' }, info],
  ];
  for (const [key, message, purpose] of attempts) {
    await expect(openSealed(key, message, purpose, 'CFN_ARTIFACT_ALTERED')).rejects.toThrow(
      refused('CFN_ARTIFACT_ALTERED') as Error,
    );
  }
});

test('a private key stays inside unless asked for', async () => {
  await expect(exportSealingKey((await generateSealingKeyPair()).privateKey)).rejects.toThrow();
});

test('what is no key is refused', async () => {
  await expect(sealTo('AAAA', utf8(''), info)).rejects.toThrow(refused('CFN_INPUT_INVALID') as Error);
  await expect(sealTo(toBase64url(new Uint8Array(32)), utf8(''), info)).rejects.toThrow(
    refused('CFN_INPUT_INVALID') as Error,
  );
  await expect(importSealingKey(new Uint8Array(31))).rejects.toThrow(refused('CFN_INPUT_INVALID') as Error);
});
