import koffi from 'koffi';
import { Refusal, refuse } from '../../evidence/reasons.ts';
import {
  CERTIFICATE_BYTES,
  decodeCertificates,
  decodeReport,
  decodeSettings,
  decodeState,
  decodeText,
  DRIVER_VERSION_BYTES,
  NVML,
  reportRequest,
  settingsRequest,
  STATE_BYTES,
  VBIOS_VERSION_BYTES,
  type ConfComputeSettings,
} from './abi.ts';

/** One GPU, as the driver shows it. */
export interface GpuDevice {
  /** `NVML_DEVICE_ARCH_*`: 9 Hopper, 10 Blackwell. */
  readonly architecture: number;
  readonly vbiosVersion: string;
}

/** What has to be known before a GPU is asked for evidence. */
export interface GpuInventory {
  readonly driverVersion: string;
  readonly settings: ConfComputeSettings;
  /** Whether the GPUs accept work: `nvidia-smi conf-compute -grs`. */
  readonly ready: boolean;
  readonly devices: readonly GpuDevice[];
}

export interface GpuReportAndChain {
  readonly report: Uint8Array;
  /** PEM, leaf first. */
  readonly certificates: string;
}

/** NVML's confidential-computing part. Every call blocks the thread, for seconds at worst. */
export interface Nvml {
  inventory(): GpuInventory;
  evidence(index: number, nonce: Uint8Array): GpuReportAndChain;
  setReady(ready: boolean): void;
}

type NativeCall = (...parameters: (number | bigint | Uint8Array)[]) => number;

/** GPUs of one VM at most; NVML's count is not believed beyond this. */
const GPUS_MAX = 64;

/**
 * Opens `libnvidia-ml.so.1`. Structs are passed as flat bytes and handles as numbers of pointer size, so that the layouts are only in
 * `abi.ts`.
 *
 * @throws {Refusal} `collect/gpu-library`, `collect/gpu-driver`, `collect/gpu-call`
 */
export function openNvml(path: string): Nvml {
  const call = bind(path);
  call('int nvmlInit_v2()');

  const settings = (): ConfComputeSettings => {
    const request = settingsRequest();
    const result = call.code('int nvmlSystemGetConfComputeSettings(_Inout_ void *settings)', request);
    if (result === NVML.success) return decodeSettings(request);
    // Drivers before multi-GPU modes know only the state.
    const older: number[] = [NVML.functionNotFound, NVML.versionMismatch, NVML.notSupported];
    if (!older.includes(result)) call.failed('nvmlSystemGetConfComputeSettings', result);
    const state = new Uint8Array(STATE_BYTES); // zeros: unavailable and off
    ifSupported('int nvmlSystemGetConfComputeState(_Out_ void *state)', state);
    return decodeState(state);
  };
  /** What a GPU without confidential computing does not support stays as it is. */
  const ifSupported = (definition: string, out: Uint8Array): void => {
    const result = call.code(definition, out);
    if (result !== NVML.success && result !== NVML.notSupported) call.failed(nameOf(definition), result);
  };
  const unsigned = (definition: string, ...parameters: (number | bigint)[]): number => {
    const value = new Uint8Array(4);
    call(definition, ...parameters, value);
    return new DataView(value.buffer).getUint32(0, true);
  };
  const isReady = (): boolean => {
    const ready = new Uint8Array(4);
    ifSupported('int nvmlSystemGetConfComputeGpusReadyState(_Out_ void *ready)', ready);
    return new DataView(ready.buffer).getUint32(0, true) === 1;
  };
  const handle = (index: number): bigint => {
    const pointer = new Uint8Array(8);
    call('int nvmlDeviceGetHandleByIndex_v2(uint32_t index, _Out_ void *device)', index, pointer);
    return new DataView(pointer.buffer).getBigUint64(0, true);
  };
  const device = (index: number): GpuDevice => {
    const vbios = new Uint8Array(VBIOS_VERSION_BYTES);
    call(
      'int nvmlDeviceGetVbiosVersion(uintptr_t device, _Out_ void *version, uint32_t length)',
      handle(index),
      vbios,
      vbios.length,
    );
    return {
      architecture: unsigned('int nvmlDeviceGetArchitecture(uintptr_t device, _Out_ void *arch)', handle(index)),
      vbiosVersion: decodeText(vbios),
    };
  };

  return {
    inventory() {
      const driver = new Uint8Array(DRIVER_VERSION_BYTES);
      call('int nvmlSystemGetDriverVersion(_Out_ void *version, uint32_t length)', driver, driver.length);
      const count = unsigned('int nvmlDeviceGetCount_v2(_Out_ void *count)');
      if (count > GPUS_MAX) refuse('collect/gpu-call', `NVML counts ${count} GPUs, at most ${GPUS_MAX} are believed`);
      return {
        driverVersion: decodeText(driver),
        settings: settings(),
        ready: isReady(),
        devices: Array.from({ length: count }, (_, index) => device(index)),
      };
    },
    evidence(index, nonce) {
      const gpu = handle(index);
      const report = reportRequest(nonce);
      call('int nvmlDeviceGetConfComputeGpuAttestationReport(uintptr_t device, _Inout_ void *report)', gpu, report);
      const certificate = new Uint8Array(CERTIFICATE_BYTES);
      call('int nvmlDeviceGetConfComputeGpuCertificate(uintptr_t device, _Out_ void *certificate)', gpu, certificate);
      return { report: decodeReport(report), certificates: decodeCertificates(certificate) };
    },
    setReady(ready) {
      call('int nvmlSystemSetConfComputeGpusReadyState(uint32_t ready)', ready ? 1 : 0);
    },
  };
}

interface Calls {
  /** @throws {Refusal} unless NVML says success */
  (definition: string, ...parameters: (number | bigint | Uint8Array)[]): void;
  /** NVML's return code; that of a missing function when the library is too old to have it. */
  code(definition: string, ...parameters: (number | bigint | Uint8Array)[]): number;
  failed(name: string, code: number): never;
}

function bind(path: string): Calls {
  let library: ReturnType<typeof koffi.load>;
  try {
    library = koffi.load(path);
  } catch (cause) {
    return refuse('collect/gpu-library', `${path} does not load: ${(cause as Error).message}`, { cause });
  }
  const bound = new Map<string, NativeCall | undefined>();
  const find = (definition: string): NativeCall | undefined => {
    if (!bound.has(definition)) {
      try {
        bound.set(definition, library.func(definition) as NativeCall);
      } catch {
        bound.set(definition, undefined);
      }
    }
    return bound.get(definition);
  };
  const code: Calls['code'] = (definition, ...parameters) => find(definition)?.(...parameters) ?? NVML.functionNotFound;
  const failed: Calls['failed'] = (name, result) => {
    const text = find('const char *nvmlErrorString(int result)')?.(result);
    throw new Refusal(reasonOf(result), `${name}: ${typeof text === 'string' ? text : 'error'} (${result})`);
  };
  const call = (definition: string, ...parameters: (number | bigint | Uint8Array)[]): void => {
    const result = code(definition, ...parameters);
    if (result !== NVML.success) failed(nameOf(definition), result);
  };
  return Object.assign(call, { code, failed });
}

function nameOf(definition: string): string {
  return / (\w+)\(/.exec(definition)?.[1] ?? definition;
}

function reasonOf(
  result: number,
): 'collect/gpu-driver' | 'collect/gpu-library' | 'collect/gpu-busy' | 'collect/gpu-call' {
  switch (result) {
    case NVML.driverNotLoaded:
      return 'collect/gpu-driver';
    case NVML.functionNotFound: // an old library, or one that is not NVML
      return 'collect/gpu-library';
    case NVML.timeout:
    case NVML.inUse:
    case NVML.notReady:
      return 'collect/gpu-busy';
    default:
      return 'collect/gpu-call';
  }
}
