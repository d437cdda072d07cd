import { readFile } from 'node:fs/promises';
import { CompactSign, exportJWK, generateKeyPair, type CryptoKey } from 'jose';
import { fromBase64url, fromUtf8, sha256Hex, utf8 } from '../../../proto/index.ts';
import { parseJwks, type Jwks } from '../../evidence/jwks.ts';
import { Findings, type FailedFinding } from '../findings.ts';
import { verifyNras, type NrasClaims, type NrasInput } from './nras.ts';

export const NONCE = new Uint8Array(
  Buffer.from('931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb', 'hex'),
);
export const NOW = new Date('2025-06-11T00:31:58Z');

export function vector(name: string): Promise<string> {
  return readFile(new URL(`../../vectors/tokens/${name}`, import.meta.url), 'utf8');
}

export async function vectorKeys(name: string): Promise<{ kind: 'pinned'; jwks: Jwks }> {
  return { kind: 'pinned', jwks: parseJwks(await vector(name)) };
}

/** The genuine answer of 2025-06-11, at an instant when it was valid. */
export async function genuine(): Promise<NrasInput> {
  const keys = await vectorKeys('nras-prod-h100-20250611.jwks.json');
  return { answer: await vector('nras-prod-h100-20250611.json'), keys, nonce: NONCE, now: NOW };
}

export async function judge(
  input: NrasInput,
): Promise<{ claims: NrasClaims; failures: readonly FailedFinding[]; findings: Findings }> {
  const findings = new Findings();
  const claims = await verifyNras(input, findings);
  return { claims, failures: findings.failures, findings };
}

export type Claims = Record<string, unknown>;

export interface Parts {
  overall: Claims;
  devices: Record<string, Claims>;
}

export interface MadeAnswer {
  readonly answer: string;
  readonly jwks: Jwks;
  readonly jwksText: string;
}

/** A service with throw-away keys that says the genuine answer's claims, or what `change` makes of them. */
export async function madeService(kid = 'throw-away') {
  const { privateKey, publicKey } = await generateKeyPair('ES384', { extractable: true });
  const jwk = { ...(await exportJWK(publicKey)), kid };
  const jwksText = JSON.stringify({ keys: [jwk] });
  const genuineParts = partsOf(await vector('nras-prod-h100-20250611.json'));
  return {
    jwk,
    privateKey,
    jwksText,
    keys: { kind: 'pinned', jwks: parseJwks(jwksText) } as const,
    async answer(change: (parts: Parts) => void = () => {}): Promise<string> {
      const parts = structuredClone(genuineParts);
      change(parts);
      const header = { kid, alg: 'ES384' };
      const tokens: [string, string][] = [];
      for (const [name, claims] of Object.entries(parts.devices))
        tokens.push([name, await sign(claims, header, privateKey)]);
      if (parts.overall['submods'] === undefined) {
        const digests: [string, unknown][] = [];
        for (const [name, token] of tokens) digests.push([name, ['DIGEST', ['SHA-256', await sha256Hex(utf8(token))]]]);
        parts.overall['submods'] = Object.fromEntries(digests);
      }
      return JSON.stringify([['JWT', await sign(parts.overall, header, privateKey)], Object.fromEntries(tokens)]);
    },
  };
}

export function sign(
  claims: unknown,
  header: { alg: string; [name: string]: unknown },
  key: CryptoKey | Uint8Array,
): Promise<string> {
  return new CompactSign(utf8(JSON.stringify(claims))).setProtectedHeader(header).sign(key);
}

/** Claims of an answer; the digests are left out, so that they are made anew. */
export function partsOf(answer: string): Parts {
  const [[, overall], devices] = JSON.parse(answer) as [[string, string], Record<string, string>];
  const { submods: _, ...rest } = claimsIn(overall);
  return {
    overall: rest,
    devices: Object.fromEntries(Object.entries(devices).map(([name, token]) => [name, claimsIn(token)])),
  };
}

export function claimsIn(token: string): Claims {
  return JSON.parse(fromUtf8(fromBase64url(token.split('.')[1] ?? ''))) as Claims;
}
