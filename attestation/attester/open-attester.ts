import { NO_WORKER_KEYS, type Evidence } from '../../proto/index.ts';
import { assembleEvidence, bindEvidence } from './assemble.ts';
import type { Attester, CollectGpus, Quoted, SuppliedEndorsements } from './attester.ts';
import { tsmReporter, type TsmOptions, type TsmReporter } from './configfs-tsm.ts';
import { readCcel, type Ccel } from './ccel.ts';
import { gpuCollector, type GpuCollectorOptions } from './gpus.ts';
import { nvmlClient, type NvmlOptions } from './nvml/client.ts';
import { quoteSnp } from './snp.ts';
import { quoteTdx } from './tdx.ts';
import type { TsmProvider } from './tsm-entry.ts';

export interface AttesterOptions {
  /** `required`: every GPU of the VM gives evidence, and there is at least one. `none`: GPUs are not asked, CPU evidence only. */
  readonly gpu: 'required' | 'none';
  readonly endorsements?: SuppliedEndorsements;
  readonly tsm?: Partial<TsmOptions>;
  readonly nvml?: NvmlOptions;
  readonly gpus?: Omit<GpuCollectorOptions, 'nvml'>;
}

const QUOTES: Readonly<
  Record<TsmProvider, { tee: Evidence['tee']; quote: (tsm: TsmReporter, reportData: Uint8Array) => Promise<Quoted> }>
> = {
  tdx_guest: { tee: 'tdx', quote: quoteTdx },
  sev_guest: { tee: 'snp', quote: quoteSnp },
};

/**
 * The attester of this VM: TDX or SEV-SNP, as the kernel's provider says, and NVML where GPUs are required. Use one per process:
 * quotes and GPU reports are made in turn.
 *
 * @throws {Refusal} `collect/no-tee`, `collect/wrong-tee` (`CFN_TEE_ABSENT`) outside of a TEE.
 */
export async function openAttester(options: AttesterOptions): Promise<Attester & Disposable> {
  const tsm = tsmReporter(options.tsm);
  await tsm.removeLeftovers();
  const { tee, quote } = QUOTES[await tsm.provider()];
  const gpus = options.gpu === 'required' ? allGpus(options) : noGpus;
  const sources = {
    collectGpus: gpus.collect,
    quoteOver: (reportData: Uint8Array) => quote(tsm, reportData),
    ...(options.endorsements && { endorsements: options.endorsements }),
  };
  return {
    tee,
    collect: (nonce, workerKeys) => assembleEvidence(tee, nonce, workerKeys, sources),
    collectOver: (binding) => bindEvidence(tee, binding, sources),
    [Symbol.dispose]: gpus.dispose,
  };
}

interface Gpus {
  readonly collect: CollectGpus;
  readonly dispose: () => void;
}

const noGpus: Gpus = { collect: () => Promise.resolve([]), dispose: () => undefined };

function allGpus({ nvml: nvmlOptions, gpus }: AttesterOptions): Gpus {
  const nvml = nvmlClient(nvmlOptions);
  return { collect: gpuCollector({ ...gpus, nvml }), dispose: () => nvml[Symbol.dispose]() };
}

export interface CollectOptions extends AttesterOptions {
  /** 32 bytes that the verifier chose. */
  readonly nonce: Uint8Array;
  /** Default {@link NO_WORKER_KEYS}. */
  readonly workerKeys?: Uint8Array;
  readonly ccel?: Parameters<typeof readCcel>[0];
}

export interface Collected {
  readonly evidence: Evidence;
  /** The firmware's event log, which replays to RTMR 0 to 2; on TDX only, where the firmware left one. */
  readonly eventLog: Ccel | undefined;
}

/** Evidence of this VM once, for whoever asks at its command line. Throws as {@link openAttester} and {@link Attester.collect}. */
export async function collectEvidence({
  nonce,
  workerKeys = NO_WORKER_KEYS,
  ccel,
  ...options
}: CollectOptions): Promise<Collected> {
  using attester = await openAttester(options);
  return {
    evidence: await attester.collect(nonce, workerKeys),
    eventLog: attester.tee === 'tdx' ? await readCcel(ccel) : undefined,
  };
}
