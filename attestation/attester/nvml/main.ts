import { Refusal } from '../../evidence/reasons.ts';
import { openNvml, type Nvml } from './library.ts';
import type { NvmlReply, NvmlRequest } from './messages.ts';

/**
 * The process that calls NVML. Its calls block, may hang in the driver, and run foreign code in the process's memory: so they run in
 * one that holds no key and can be killed. Ends when the agent goes away.
 */
const library = process.argv[2] ?? '';
let nvml: Nvml | undefined;

function answer(request: NvmlRequest): NvmlReply {
  try {
    nvml ??= openNvml(library);
    switch (request.op) {
      case 'inventory':
        return { ok: true, value: nvml.inventory() };
      case 'evidence':
        return { ok: true, value: nvml.evidence(request.index, request.nonce) };
      case 'set-ready':
        return { ok: true, value: nvml.setReady(request.ready) };
    }
  } catch (error) {
    const reason = error instanceof Refusal ? error.reason : 'collect/gpu-call';
    return { ok: false, reason, message: error instanceof Error ? error.message : 'NVML failed' };
  }
}

process.on('message', (request) => process.send?.(answer(request as NvmlRequest)));
process.on('disconnect', () => process.exit(0));
