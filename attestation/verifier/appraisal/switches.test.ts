import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  devicesOf,
  evidenceDigest,
  fromUtf8,
  NO_ENDORSEMENTS,
  parseEvidence,
  reportData,
  toBase64url,
  utf8,
  type Evidence,
} from '../../../proto/index.ts';
import { workerKeys } from '../../appraisal.fixture.ts';
import { openSimulatedPlatform, simulatedPolicy, type SimulatedPlatform } from '../../insecure/index.ts';
import { simulatedMeasurements, startQuotingEnclave, writeQuote } from '../../insecure/quote.ts';
import { Findings, type Finding } from '../findings.ts';
import { boxCaptures } from '../nvidia/nvidia.fixture.ts';
import { parsePolicy, type AppraisalPolicy } from '../policy/policy.ts';
import { appraiseDocument } from './document.ts';

const NONCE = new Uint8Array(32).fill(9);
const NOW = new Date('2026-11-01T00:00:00Z');
const KEYS = workerKeys('2026-11-02T00:00:00Z');
const MRTD = new Uint8Array(48).fill(7);

/** Eight real GPUs and four switches in the document of a simulated TD: their own nonce and root are not this document's. */
const devices = <A>(arch: A, captures: ReturnType<typeof boxCaptures>['gpus']) =>
  captures.map(({ evidence, certificate }) => ({
    arch,
    report: toBase64url(Buffer.from(evidence, 'base64')),
    certificates: fromUtf8(Buffer.from(certificate, 'base64')),
  }));
const box = boxCaptures();
const gpus = devices('HOPPER' as const, box.gpus);
const switches = devices('LS10' as const, box.switches);

let folder: string;
let platform: SimulatedPlatform;
let policy: AppraisalPolicy;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cfn-switches-'));
  platform = await openSimulatedPlatform(folder);
  const simulated = await simulatedPolicy(platform, { mrtd: MRTD });
  policy = parsePolicy({ ...simulated, gpu: { ...simulated.gpu, countMax: 8, switches: 'required' } });
});
afterAll(() => rm(folder, { recursive: true }));

async function document(parts: Pick<Evidence, 'gpus' | 'switches'>): Promise<Evidence> {
  const data = await reportData(NONCE, KEYS, devicesOf(parts));
  const { rtmrs } = await simulatedMeasurements();
  const quote = await writeQuote(await startQuotingEnclave(platform.pck), { mrtd: MRTD, rtmrs, debug: false }, data);
  const evidence: Evidence = {
    format: 'cfn/evidence/v1',
    tee: 'simulated',
    nonce: toBase64url(NONCE),
    workerKeys: toBase64url(KEYS),
    quote: toBase64url(quote),
    ...parts,
    endorsements: NO_ENDORSEMENTS,
  };
  return parseEvidence(utf8(JSON.stringify(evidence)));
}

async function outcomes(evidence: Evidence): Promise<(check: string) => Finding | undefined> {
  const findings = new Findings();
  await appraiseDocument({ evidence, nonce: NONCE, policy, now: NOW }, findings);
  return (check) => findings.list.find((finding) => finding.check === check);
}

const TOPOLOGY = 'GPU and switch topology';
const REPORT_DATA = 'binding: report data';
const NAMED = 'GPU architectures as named';

describe('switches in an evidence document', () => {
  test('are bound with the GPUs, and their topology is verified', async () => {
    const of = await outcomes(await document({ gpus, switches }));
    for (const check of [TOPOLOGY, REPORT_DATA, NAMED]) expect(of(check)).toEqual({ check, outcome: 'passed' });
    // These are of another machine and moment than the simulated TD, which is found of each.
    expect(of('binding: GPU nonce')).toMatchObject({ reason: 'binding/gpu-nonce' });
    for (const name of ['GPU 0', 'switch 0', 'switch 3'])
      expect(of(`${name} certificate chain`)).toMatchObject({ reason: 'certificate/untrusted-root' });
  });

  test('cannot be left out, added, swapped or put in another order', async () => {
    const whole = await document({ gpus, switches });
    const { switches: _, ...without } = whole;
    for (const changed of [
      without,
      { ...whole, switches: switches.slice(1) },
      { ...whole, switches: switches.toReversed() },
      { ...(await document({ gpus })), switches },
    ]) {
      expect((await outcomes(changed))(REPORT_DATA)).toMatchObject({ reason: 'binding/report-data' });
      expect(await evidenceDigest(changed)).not.toBe(await evidenceDigest(whole));
    }
  });

  test('are missed where GPUs are behind them', async () => {
    expect((await outcomes(await document({ gpus })))(TOPOLOGY)).toMatchObject({ reason: 'policy/gpu-topology' });
    const some = await document({ gpus, switches: switches.slice(1) });
    expect((await outcomes(some))(TOPOLOGY)).toMatchObject({ reason: 'policy/gpu-topology' });
  });

  test('stand among the switches, GPUs among the GPUs', async () => {
    const [gpu] = gpus;
    const [device] = switches;
    if (gpu === undefined || device === undefined) throw new RangeError('the capture has both');
    const hidden = { gpus: [...gpus, { ...device, arch: 'HOPPER' as const }] };
    expect((await outcomes(await document(hidden)))(NAMED)).toMatchObject({ reason: 'policy/gpu-family' });
    const posing = { gpus, switches: [{ ...gpu, arch: 'LS10' as const }] };
    expect((await outcomes(await document(posing)))(NAMED)).toMatchObject({ reason: 'policy/gpu-family' });
  });

  test('no member, an empty list and a wrong architecture', async () => {
    const { switches: _, ...old } = await document({ gpus });
    expect(parseEvidence(utf8(JSON.stringify(old)))).toEqual(old);
    for (const wrong of [[], [{ ...switches[0], arch: 'HOPPER' }]])
      expect(() => parseEvidence(utf8(JSON.stringify({ ...old, switches: wrong })))).toThrow(
        expect.objectContaining({ code: 'CFN_EVIDENCE_MALFORMED' }),
      );
  });
});
