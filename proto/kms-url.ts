import { z } from 'zod';

/**
 * Where a KMS is, as manifests name it. Workers ask there, and say so in what they answer: a path of their own choosing is appended, so
 * nothing may follow that would swallow it, and no credentials of others may be in it.
 */
export const kmsUrlSchema = z.url({ protocol: /^https?$/ }).refine((text) => {
  if (!URL.canParse(text)) return false;
  const { username, password } = new URL(text);
  return username === '' && password === '' && !/[?#@]/.test(text);
}, 'expected http or https, without credentials, query and fragment');
