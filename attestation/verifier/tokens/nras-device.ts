import { isJsonObject, type JsonObject } from '../../evidence/json.ts';
import type { NrasDeviceKind } from '../../evidence/nras.ts';
import { shown } from './token.ts';

export const NRAS_CLAIMS_VERSIONS = ['2.0', '3.0'] as const;
export type NrasClaimsVersion = (typeof NRAS_CLAIMS_VERSIONS)[number];

interface Demands {
  /** Claims that must be true; each says that NVIDIA's verifier took that step, and that it succeeded. */
  readonly steps: readonly string[];
  /** Claims that describe a certificate chain (3.0), and must say that it is valid and not revoked. */
  readonly chains: readonly string[];
  /** Claims that must be a text. */
  readonly texts: readonly string[];
}

const GPU_STEPS = [
  'arch-check',
  'attestation-report-parsed',
  'attestation-report-nonce-match',
  'attestation-report-signature-verified',
  'driver-rim-fetched',
  'driver-rim-signature-verified',
  'driver-rim-measurements-available',
  'vbios-rim-fetched',
  'vbios-rim-signature-verified',
  'vbios-rim-measurements-available',
  'vbios-index-no-conflict',
];
const SWITCH_STEPS = [
  'arch-check',
  'attestation-report-parsed',
  'attestation-report-nonce-match',
  'attestation-report-signature-verified',
  'bios-rim-fetched',
  'bios-rim-signature-verified',
  'bios-rim-measurements-available',
];

/** By device and version of the claims; names without the prefix `x-nvidia-gpu-` or `x-nvidia-switch-`. */
const DEMANDS: Readonly<Record<NrasDeviceKind, Readonly<Record<NrasClaimsVersion, Demands>>>> = {
  gpu: {
    '2.0': {
      steps: [
        ...GPU_STEPS,
        'attestation-report-cert-chain-validated',
        'driver-rim-cert-validated',
        'vbios-rim-cert-validated',
      ],
      chains: [],
      texts: ['driver-version', 'vbios-version'],
    },
    '3.0': {
      steps: [
        ...GPU_STEPS,
        'attestation-report-cert-chain-fwid-match',
        'driver-rim-version-match',
        'vbios-rim-version-match',
      ],
      chains: ['attestation-report-cert-chain', 'driver-rim-cert-chain', 'vbios-rim-cert-chain'],
      texts: ['driver-version', 'vbios-version'],
    },
  },
  switch: {
    '2.0': {
      steps: [...SWITCH_STEPS, 'attestation-report-cert-chain-validated', 'bios-rim-cert-validated'],
      chains: [],
      texts: ['bios-version'],
    },
    '3.0': {
      steps: [...SWITCH_STEPS, 'attestation-report-cert-chain-fwid-match', 'bios-rim-version-match'],
      chains: ['attestation-report-cert-chain', 'bios-rim-cert-chain'],
      texts: ['bios-version'],
    },
  },
};

/**
 * What of a device's claims speaks against it, each as a text that names the claim; empty when nothing does. Demanded claims must be
 * there; beyond them any `x-nvidia-` claim that is false counts, so that a step this code does not know cannot fail unseen.
 */
export function deviceFailures(
  kind: NrasDeviceKind,
  version: NrasClaimsVersion,
  claims: JsonObject,
  now: Date,
): string[] {
  const prefix = `x-nvidia-${kind}-`;
  const { steps, chains, texts } = DEMANDS[kind][version];
  const demanded = new Set(steps.map((step) => prefix + step));
  const differs = (name: string, expected: unknown): string[] =>
    claims[name] === expected ? [] : [`${name} is ${shown(claims[name])}, expected ${shown(expected)}`];
  return [
    ...differs('measres', 'success'),
    ...differs('secboot', true),
    ...differs('dbgstat', 'disabled'),
    ...[...demanded].flatMap((name) => differs(name, true)),
    ...Object.keys(claims).flatMap((name) =>
      name.startsWith('x-nvidia-') && claims[name] === false && !demanded.has(name) ? [`${name} is false`] : [],
    ),
    ...chains.flatMap((chain) => chainFailures(prefix + chain, claims[prefix + chain], now)),
    ...['hwmodel', 'ueid', ...texts.map((text) => prefix + text)].flatMap((name) => textFailures(name, claims[name])),
    ...['x-nvidia-error-details', 'x-nvidia-mismatch-measurement-records'].flatMap((name) =>
      reportFailures(name, claims[name]),
    ),
  ];
}

function chainFailures(name: string, chain: unknown, now: Date): string[] {
  if (!isJsonObject(chain)) return [`${name} is ${shown(chain)}, expected the status of a certificate chain`];
  const { 'x-nvidia-cert-status': status, 'x-nvidia-cert-ocsp-status': ocsp } = chain;
  const { 'x-nvidia-cert-revocation-reason': reason, 'x-nvidia-cert-expiration-date': expires } = chain;
  const live = typeof expires === 'string' && now.getTime() < Date.parse(expires);
  return [
    ...(status === 'valid' ? [] : [`${name} is ${shown(status)}, expected "valid"`]),
    ...(ocsp === 'good' ? [] : [`${name}: OCSP says ${shown(ocsp)}, expected "good"`]),
    ...(reason === null || reason === undefined ? [] : [`${name} is revoked: ${shown(reason)}`]),
    ...(live ? [] : [`${name} expires ${shown(expires)}`]),
  ];
}

function textFailures(name: string, value: unknown): string[] {
  if (name === 'ueid')
    return typeof value === 'string' && /^[1-9][0-9]{0,63}$/.test(value) ? [] : [`ueid is ${shown(value)}`];
  return typeof value === 'string' && /^[\x20-\x7e]{1,128}$/.test(value) ? [] : [`${name} is ${shown(value)}`];
}

/** Claims that are there only when something went wrong. */
function reportFailures(name: string, value: unknown): string[] {
  const empty = value === undefined || value === null || (Array.isArray(value) && value.length === 0);
  return empty ? [] : [`${name}: ${shown(value)}`];
}
