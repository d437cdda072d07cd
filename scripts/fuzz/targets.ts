import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { parseHclReport } from '../../attestation/evidence/azure-hcl.ts';
import { parseCcelTable } from '../../attestation/evidence/ccel-table.ts';
import { parseCocoEvidence } from '../../attestation/evidence/coco.ts';
import { parseCrl } from '../../attestation/evidence/crl.ts';
import { parseEventLog } from '../../attestation/evidence/event-log.ts';
import { parseIntelCollateral } from '../../attestation/evidence/intel-collateral.ts';
import { parseJson } from '../../attestation/evidence/json.ts';
import { parseJwks } from '../../attestation/evidence/jwks.ts';
import { parseNrasAnswer } from '../../attestation/evidence/nras.ts';
import { parseNvidiaReport } from '../../attestation/evidence/nvidia.ts';
import { parseOcspResponse } from '../../attestation/evidence/ocsp.ts';
import { parseRim } from '../../attestation/evidence/rim.ts';
import { parseSnpReport } from '../../attestation/evidence/snp.ts';
import { parseTdxQuote } from '../../attestation/evidence/tdx.ts';
import { parseTpmEvidence } from '../../attestation/evidence/tpm-evidence-json.ts';
import { parseCertificate } from '../../attestation/evidence/x509.ts';
import { openSimulatedPlatform, simulatedAttester, simulatedPolicy } from '../../attestation/insecure/index.ts';
import { appraise, appraiseInputs, gather, type AppraisalPolicy } from '../../attestation/verifier/index.ts';
import { defaultPolicy } from '../../cli/conformance/policies.ts';
import { encodeWorkerKeys, fromUtf8, parseEvidence, toBase64url, utf8 } from '../../proto/index.ts';
import type { Seed, Target } from './target.ts';

const vectors = fileURLToPath(new URL('../../attestation/vectors/', import.meta.url));
const read = (path: string): Uint8Array => new Uint8Array(readFileSync(vectors + path));

/** Every file of a folder whose name ends so. */
function files(folder: string, ending: string): Seed[] {
  return readdirSync(vectors + folder)
    .filter((name) => name.endsWith(ending))
    .map((name) => ({ name, parts: { input: read(`${folder}/${name}`) } }));
}

/** A parser alone accepts what is well-formed, so what it reads counts for nothing. */
function parser(name: string, seeds: readonly Seed[], parse: (bytes: Uint8Array) => unknown): Target {
  return {
    name,
    seeds,
    run: ({ input = new Uint8Array() }) => {
      parse(input);
      return undefined;
    },
  };
}

const text = (bytes: Uint8Array): string => fromUtf8(bytes, 'CFN_EVIDENCE_MALFORMED');

const parsers: readonly (() => Target)[] = [
  () => parser('parse-tdx-quote', files('tdx/quotes', '.bin'), parseTdxQuote),
  () =>
    parser('parse-intel-collateral', files('tdx/collateral', '.json'), (bytes) => parseIntelCollateral(text(bytes))),
  () => parser('parse-snp-report', files('snp/reports', '.bin'), parseSnpReport),
  () =>
    parser('parse-coco-evidence', files('snp', 'trustee-e2e-evidence.json'), (bytes) =>
      parseCocoEvidence('snp', parseJson(text(bytes), { what: 'evidence', charactersMax: bytes.length }), ''),
    ),
  () => parser('parse-certificate', files('snp/certs', '.der'), (bytes) => parseCertificate(bytes)),
  () => parser('parse-crl', files('snp/crls', '.der'), parseCrl),
  () => parser('parse-ocsp', files('nvidia/ocsp', '.der'), parseOcspResponse),
  () => parser('parse-nvidia-report', files('nvidia/reports', '.bin'), parseNvidiaReport),
  () => parser('parse-rim', files('nvidia/rims', '.xml'), parseRim),
  () => parser('parse-tpm-evidence', files('tpm', '.json'), (bytes) => parseTpmEvidence(text(bytes))),
  () => parser('parse-hcl-report', files('tpm', '.bin'), parseHclReport),
  () => parser('parse-event-log', files('ccel', 'ccel-data.bin').map(cutFill), parseEventLog),
  () => parser('parse-ccel-table', files('ccel', 'table.bin'), parseCcelTable),
  () => parser('parse-nras', files('tokens', '1.json'), (bytes) => parseNrasAnswer(text(bytes))),
  () => parser('parse-jwks', files('tokens', '.jwks.json'), (bytes) => parseJwks(text(bytes))),
  () =>
    parser(
      'gather',
      ['tdx/quotes', 'snp/chains', 'nvidia/chains', 'tpm', 'tokens', 'nvidia/ocsp'].flatMap((folder) =>
        files(folder, ''),
      ),
      (bytes) => gather([bytes]),
    ),
];

/** The area of a log is mostly fill, where mutations would mean nothing. */
function cutFill({ name, parts: { input = new Uint8Array() } }: Seed): Seed {
  return { name, parts: { input: input.subarray(0, 64 * 1024) } };
}

const casesSchema = z.array(
  z.object({ id: z.string(), inputs: z.array(z.string()), now: z.string(), expect: z.string() }),
);

/** A family's whole verification, begun from the recorded cases that are accepted. */
function verifier(family: string): Target {
  const cases = casesSchema
    .parse(JSON.parse(readFileSync(`${vectors}${family}/cases.json`, 'utf8')))
    .filter(({ expect }) => expect === 'accept');
  const times = new Map(cases.map(({ id, now }) => [id, new Date(now)]));
  const seeds = cases.map(({ id, inputs }) => ({
    name: id,
    parts: Object.fromEntries(inputs.map((path) => [path.replaceAll('/', '_'), read(`${family}/${path}`)])),
  }));
  return {
    name: `verify-${family}`,
    seeds,
    run: async (parts, { name, parts: original }) => {
      const inputs = Object.values(parts);
      // What the unchanged case demands: a mutation must not choose its own policy by being taken for something else.
      const policy = defaultPolicy(gather(Object.values(original)));
      const { accepted, claims } = await appraiseInputs(inputs, {
        policy,
        now: times.get(name) ?? new Date(Number.NaN),
      });
      return accepted ? JSON.stringify(claims) : undefined;
    },
  };
}

const NONCE = new Uint8Array(32).fill(9);
const NOW = new Date('2026-11-01T00:00:00Z');

/** Evidence of a worker, with one GPU, on a platform that is made for it. */
async function simulatedWorker(): Promise<{ document: Uint8Array; policy: AppraisalPolicy }> {
  const folder = mkdtempSync(join(tmpdir(), 'cfn-fuzz-'));
  try {
    const platform = await openSimulatedPlatform(folder);
    const mrtd = new Uint8Array(48).fill(7);
    const keys = encodeWorkerKeys({
      format: 'cfn/worker-keys/v1',
      tls: { spki: '00'.repeat(32) },
      ohttp: { config: toBase64url(new Uint8Array(41)) },
      receipt: { publicKey: toBase64url(new Uint8Array(32)) },
      notAfter: '2026-11-02T00:00:00Z',
    });
    const evidence = await simulatedAttester(platform, { mrtd }).collect(NONCE, keys);
    return { document: utf8(JSON.stringify(evidence)), policy: await simulatedPolicy(platform, { mrtd }) };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const worker = await simulatedWorker();

/** An evidence document as gateway and KMS appraise it. What nothing binds, such as endorsements and bytes behind the quote, may differ. */
function documentVerifier(): Target {
  return {
    name: 'verify-document',
    seeds: [{ name: 'simulated-worker', parts: { document: worker.document } }],
    run: async ({ document = new Uint8Array() }) => {
      const { workerId, claims, binding } = await appraise(parseEvidence(document), {
        nonce: NONCE,
        policy: worker.policy,
        now: NOW,
      });
      return JSON.stringify({ workerId, claims, binding });
    },
  };
}

/** All targets, or only those whose name holds a text; vectors are read when a target is made. */
export function targets(part = ''): Target[] {
  const families = ['tdx', 'snp', 'nvidia', 'tpm', 'tokens'].map((family) => () => verifier(family));
  return [...parsers, ...families, documentVerifier].map((make) => make()).filter(({ name }) => name.includes(part));
}
