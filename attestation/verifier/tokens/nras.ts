import { equalBytes, sha256Hex, toHex, utf8 } from '../../../proto/index.ts';
import { isJsonObject, type JsonObject } from '../../evidence/json.ts';
import type { Jwt } from '../../evidence/jwt.ts';
import { parseNrasAnswer, type NrasDeviceKind, type NrasDeviceToken } from '../../evidence/nras.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { Findings } from '../findings.ts';
import type { TokenKeys } from './keys.ts';
import { deviceFailures, NRAS_CLAIMS_VERSIONS, type NrasClaimsVersion } from './nras-device.ts';
import {
  requireIssuer,
  requireLive,
  requireNonce,
  shown,
  tokenDates,
  verifyTokenSignature,
  type TokenTrust,
} from './token.ts';

/** NVIDIA's Remote Attestation Service; the issuer of its tokens is exactly this. Its staging service has another one. */
export const NRAS_ISSUER = 'https://nras.attestation.nvidia.com';
const NRAS_SUBJECT = 'NVIDIA-PLATFORM-ATTESTATION';

export interface NrasInput {
  /** The service's answer, as it came. */
  readonly answer: string;
  readonly keys: TokenKeys;
  /** The GPUs' 32-byte nonce; without it, a token recorded from any GPU passes until it ends. */
  readonly nonce: Uint8Array | { readonly notChecked: string };
  readonly now: Date;
  /** {@link NRAS_ISSUER} when left out. */
  readonly issuer?: string;
  /** 0 when left out. */
  readonly clockSkewMs?: number;
}

/** What the tokens say; to be relied upon only when no check failed. Absent claims are `null`. */
export interface NrasClaims {
  readonly issuer: string | null;
  readonly claimsVersion: string | null;
  readonly nonce: string | null;
  readonly overallResult: boolean | null;
  /** Seconds since the epoch. */
  readonly issuedAt: number | null;
  readonly expiresAt: number | null;
  readonly devices: readonly NrasDeviceClaims[];
}

export interface NrasDeviceClaims {
  readonly name: string;
  readonly kind: NrasDeviceKind;
  readonly measurementResult: string | null;
  readonly secureBoot: boolean | null;
  readonly debugStatus: string | null;
  /** Common name of the device's identity certificate (3.0), or its chip alone (2.0). */
  readonly hardwareModel: string | null;
  /** Serial number of the device's leaf certificate, decimal; see `requireSameGpu`. */
  readonly ueid: string | null;
  readonly driverVersion: string | null;
  /** VBIOS of a GPU, BIOS of a switch. */
  readonly vbiosVersion: string | null;
  /** What NVIDIA warns of, without refusing. */
  readonly warning: string | null;
  /** All of the device's claims, as the token has them. */
  readonly claims: JsonObject;
}

/**
 * Verifies a detached EAT of NVIDIA's Remote Attestation Service (attestation-formats §5). It proves NVIDIA's judgement about *some*
 * GPU: the nonce ties it to this request, `requireSameGpu` to a report at hand.
 *
 * @throws {Refusal} `parse/*` for what cannot be parsed. All else is in `findings`.
 */
export async function verifyNras(input: NrasInput, findings: Findings): Promise<NrasClaims> {
  const { overall, devices } = parseNrasAnswer(input.answer);
  const context: Context = { input, findings, trust: { ...input, algorithms: ['ES384'] } };
  await checkToken(overall, 'NRAS overall token', context);
  const version = overall.claims['x-nvidia-ver'];
  const known = NRAS_CLAIMS_VERSIONS.find((name) => name === version);
  await findings.check('NRAS overall token: subject and version', () => {
    if (overall.claims['sub'] !== NRAS_SUBJECT)
      refuse('evidence/token-claims', `NRAS overall token: subject is ${shown(overall.claims['sub'])}`);
    if (known === undefined)
      refuse('evidence/token-claims', `NRAS overall token: claims version ${shown(version)}, expected 2.0 or 3.0`);
  });
  await findings.check('NRAS overall token: result', () => requireResult(overall));
  const digests = overall.claims['submods'];
  const named = await findings.check('NRAS overall token: devices', () => requireSameDevices(digests, devices));
  for (const device of devices) await checkDevice(device, named ? digests : undefined, known, context);
  if (input.keys.kind === 'certified')
    findings.skip(
      'NRAS keys: revocation',
      "NVIDIA's CRL for NRAS is not published beside the keys, which live two days",
    );
  return claimsOf(overall, devices);
}

interface Context {
  readonly input: NrasInput;
  readonly findings: Findings;
  readonly trust: TokenTrust;
}

/** What holds for the overall token and each device's. */
async function checkToken(token: Jwt, what: string, { input, findings, trust }: Context): Promise<void> {
  await findings.check(`${what}: signature`, () => verifyTokenSignature(token, trust, what));
  await findings.check(`${what}: issuer`, () => requireIssuer(token, input.issuer ?? NRAS_ISSUER, what));
  await findings.check(`${what}: dates`, () => requireLive(tokenDates(token, what), trust, what));
  const expected = input.nonce;
  if ('notChecked' in expected) {
    findings.skip(`${what}: nonce`, expected.notChecked);
    return;
  }
  await findings.check(`${what}: nonce`, () => {
    const nonce = token.claims['eat_nonce'];
    requireNonce(typeof nonce === 'string' ? nonce.toLowerCase() : nonce, toHex(expected), what);
  });
}

async function checkDevice(
  { name, kind, token }: NrasDeviceToken,
  digests: unknown,
  version: NrasClaimsVersion | undefined,
  context: Context,
): Promise<void> {
  const { findings, input } = context;
  const what = `NRAS ${name} token`;
  if (isJsonObject(digests)) {
    await findings.check(`${what}: digest`, () => requireDigest(digests[name], token, what));
  } else {
    findings.skip(`${what}: digest`, 'the overall token names other devices');
  }
  await checkToken(token, what, context);
  if (version === undefined) {
    findings.skip(`${what}: claims`, 'the version of the claims is not known');
    return;
  }
  await findings.check(`${what}: claims`, () => {
    const failures = deviceFailures(kind, version, token.claims, input.now);
    if (failures.length > 0) refuse('evidence/token-result', `${what}: ${failures.join('; ')}`);
  });
}

function requireResult({ claims }: Jwt): void {
  const result = claims['x-nvidia-overall-att-result'];
  if (result !== true)
    refuse('evidence/token-result', `NRAS overall token: the attestation result is ${shown(result)}, expected true`);
}

function requireSameDevices(digests: unknown, devices: readonly NrasDeviceToken[]): void {
  if (!isJsonObject(digests)) refuse('evidence/submodule-set', `NRAS overall token: submods is ${shown(digests)}`);
  const named = Object.keys(digests).toSorted();
  const came = devices.map(({ name }) => name).toSorted();
  if (came.length === 0 || named.join() !== came.join())
    refuse(
      'evidence/submodule-set',
      `NRAS overall token names ${named.slice(0, 8).join(', ') || 'no device'}, tokens came for ${came.join(', ') || 'none'}`,
    );
}

/** `["DIGEST", ["SHA-256", hex]]` (RFC 9711 §4.2.18.2) over the text of the device's token. */
async function requireDigest(submodule: unknown, { text }: Jwt, what: string): Promise<void> {
  const [type, value]: readonly unknown[] = Array.isArray(submodule) ? submodule : [];
  const [algorithm, digest]: readonly unknown[] = Array.isArray(value) ? value : [];
  if (type !== 'DIGEST' || algorithm !== 'SHA-256' || typeof digest !== 'string')
    refuse(
      'evidence/submodule-digest',
      `${what}: the overall token names ${shown(submodule)}, expected a SHA-256 digest`,
    );
  const came = await sha256Hex(utf8(text));
  if (!equalBytes(utf8(came), utf8(digest.toLowerCase())))
    refuse('evidence/submodule-digest', `${what}: its SHA-256 is ${came}, the overall token names ${shown(digest)}`);
}

function claimsOf(overall: Jwt, devices: readonly NrasDeviceToken[]): NrasClaims {
  const { claims } = overall;
  return {
    issuer: textOf(claims['iss']),
    claimsVersion: textOf(claims['x-nvidia-ver']),
    nonce: textOf(claims['eat_nonce']),
    overallResult: booleanOf(claims['x-nvidia-overall-att-result']),
    issuedAt: numberOf(claims['iat']),
    expiresAt: numberOf(claims['exp']),
    devices: devices.map(({ name, kind, token }) => ({
      name,
      kind,
      measurementResult: textOf(token.claims['measres']),
      secureBoot: booleanOf(token.claims['secboot']),
      debugStatus: textOf(token.claims['dbgstat']),
      hardwareModel: textOf(token.claims['hwmodel']),
      ueid: textOf(token.claims['ueid']),
      driverVersion: textOf(token.claims['x-nvidia-gpu-driver-version']),
      vbiosVersion: textOf(
        token.claims[kind === 'gpu' ? 'x-nvidia-gpu-vbios-version' : 'x-nvidia-switch-bios-version'],
      ),
      warning: textOf(token.claims['x-nvidia-attestation-warning']),
      claims: token.claims,
    })),
  };
}

const textOf = (value: unknown): string | null => (typeof value === 'string' ? value : null);
const numberOf = (value: unknown): number | null => (typeof value === 'number' ? value : null);
const booleanOf = (value: unknown): boolean | null => (typeof value === 'boolean' ? value : null);
