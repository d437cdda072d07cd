import { expect, test } from 'vitest';
import { kmsUrlSchema } from './kms-url.ts';

test.each(['https://kms.example', 'https://kms.example:8443/owners/acme', 'http://127.0.0.1:9000'])('%s', (url) =>
  expect(kmsUrlSchema.safeParse(url).success).toBe(true),
);
test.each([
  'kms.example',
  'ftp://kms.example',
  'file:///etc/passwd',
  'kbs+https://kms.example/a/b/c',
  'https://kms.example/?x=',
  'https://kms.example/?',
  'https://kms.example/#',
  'https://user:secret@kms.example',
  'https://@kms.example',
])('%s is no URL of a KMS', (url) => expect(kmsUrlSchema.safeParse(url).success).toBe(false));
