import type { Reason } from '../../evidence/reasons.ts';

/** What the agent asks the NVML process; one at a time. */
export type NvmlRequest =
  | { readonly op: 'inventory' }
  | { readonly op: 'evidence'; readonly index: number; readonly nonce: Uint8Array }
  | { readonly op: 'set-ready'; readonly ready: boolean };

export type NvmlReply =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly reason: Reason; readonly message: string };
