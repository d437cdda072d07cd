import { CfnError, NO_ENDORSEMENTS, toBase64url, type Evidence } from '../../proto/index.ts';
import { assembleEvidence, bindEvidence } from '../attester/assemble.ts';
import type { Attester } from '../attester/index.ts';
import { toPem } from './certificates.ts';
import { writeGpuReport } from './gpu-report.ts';
import type { SimulatedPlatform } from './platform.ts';
import { simulatedMeasurements, startQuotingEnclave, writeQuote } from './quote.ts';

export interface SimulatedAttesterOptions {
  /** 48 bytes, such as {@link measureFolders} gives. */
  readonly mrtd: Uint8Array;
  /** Sets the debug bit, so that refusals can be tried. */
  readonly debug?: boolean;
  /** Whether the machine has its one simulated GPU; default true. */
  readonly gpu?: boolean;
}

/** Writes the bytes that a TDX guest with a Hopper GPU would, under the platform's own roots. */
export function simulatedAttester(
  platform: SimulatedPlatform,
  { mrtd, debug = false, gpu = true }: SimulatedAttesterOptions,
): Attester {
  if (mrtd.length !== 48) throw new CfnError('CFN_INPUT_INVALID', `MRTD has ${mrtd.length} bytes, expected 48`);
  const enclave = startQuotingEnclave(platform.pck);
  enclave.catch(() => undefined); // reported by the first collect
  const collectGpus = async (nonce: Uint8Array): Promise<Evidence['gpus']> => {
    if (!gpu) return [];
    const report = toBase64url(await writeGpuReport(platform.gpu, nonce));
    return [{ arch: 'HOPPER', report, certificates: toPem(platform.gpu.certificates) }];
  };
  const quoteOver = async (reportData: Uint8Array) => {
    const { rtmrs } = await simulatedMeasurements();
    const quote = await writeQuote(await enclave, { mrtd, rtmrs, debug }, reportData);
    return { quote, endorsements: NO_ENDORSEMENTS };
  };
  return {
    tee: 'simulated',
    collect: (nonce, workerKeys) => assembleEvidence('simulated', nonce, workerKeys, { collectGpus, quoteOver }),
    collectOver: (binding) => bindEvidence('simulated', binding, { collectGpus, quoteOver }),
  };
}
