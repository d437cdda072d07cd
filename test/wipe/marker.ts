import { randomBytes } from 'node:crypto';

/** A random text that is in a request, and all the forms in which it could be left behind. */
export interface Marker {
  /** 24 characters. */
  readonly text: string;
  /** By name of the form. */
  readonly forms: Readonly<Record<string, Uint8Array>>;
}

export function makeMarker(): Marker {
  const text = randomBytes(12).toString('hex');
  const upper = text.toUpperCase();
  const pixels = Float32Array.from(Buffer.from(text), (byte) => byte / 255);
  return {
    text,
    forms: {
      'UTF-8': Buffer.from(text),
      'UTF-16': Buffer.from(text, 'utf16le'),
      'upper case': Buffer.from(upper),
      'upper case, UTF-16': Buffer.from(upper, 'utf16le'),
      ...base64Forms(text, 'base64'),
      ...base64Forms(text, 'base64, UTF-16', 'utf16le'),
      'float32 pixels': new Uint8Array(pixels.buffer),
    },
  };
}

/** What base64 makes of the marker after 0, 1 or 2 other bytes, without the characters that depend on its neighbours. */
function base64Forms(text: string, name: string, encoding: 'latin1' | 'utf16le' = 'latin1'): Record<string, Buffer> {
  return Object.fromEntries(
    [0, 1, 2].map((before) => {
      const all = Buffer.concat([Buffer.alloc(before), Buffer.from(text)]).toString('base64');
      const own = all.slice(Math.ceil((before * 8) / 6), Math.floor(((before + text.length) * 8) / 6));
      return [`${name}, after ${before}`, Buffer.from(own, encoding)];
    }),
  );
}
