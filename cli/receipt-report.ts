import type { Receipt } from '../proto/index.ts';

/** "Where did my data go?", answered from a verified receipt in plain words. */
export function receiptLines(receipt: Receipt): string[] {
  const { function: called, request, response, usage, wipe, models } = receipt;
  return [
    `Your request (${request.bytes} sealed bytes) was opened by one worker, ${short(receipt.worker)}, ${describeTee(receipt.tee)}.`,
    `It was seen by the function ${called.tenant}/${called.name}, version ${short(called.version)}, and by no other.`,
    models.length === 0
      ? 'No model saw it.'
      : `It was fed to ${models.map(({ model, digest }) => `${model} (${short(digest)})`).join(' and ')}, inside the same worker.`,
    receipt.egress.length === 0
      ? 'Nothing was sent to any other host.'
      : `The function sent data to ${receipt.egress.map(({ host, bytesSent, calls }) => `${host} (${bytesSent} bytes in ${calls} requests)`).join(', ')}.`,
    `You were answered with status ${response.status}, ${response.bytes} sealed bytes, at ${receipt.issuedAt}${receipt.outcome === 'ok' ? '' : `; outcome ${receipt.outcome}`}.`,
    wipe.isolateDisposed
      ? `Afterwards its isolate was destroyed, and ${wipe.sandboxBytesOverwritten + wipe.engineBytesOverwritten + wipe.agentBytesOverwritten} bytes that had held your data were overwritten.`
      : 'The isolate was NOT destroyed: the worker does not claim that your data is gone.',
    `It used ${usage.cpuMs.toFixed(1)} ms of CPU and ${usage.engineMs.toFixed(1)} ms of models in ${usage.engineCalls} calls, ${usage.wallMs.toFixed(1)} ms in all.`,
    ...(models.length < 2 ? [] : models.flatMap(perModel)),
  ];
}

function perModel({ binding, model, usage }: Receipt['models'][number]): string[] {
  return usage === undefined
    ? []
    : [`  ${binding}, ${model}: ${usage.engineMs.toFixed(1)} ms in ${usage.engineCalls} calls.`];
}

/** Every claim, one a line: `request.bytes 123`. */
export function claimLines(receipt: Receipt): string[] {
  return flatten(receipt, '').map(([path, value]) => `  ${path} ${value}`);
}

function flatten(value: unknown, path: string): [string, string][] {
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value);
    if (entries.length === 0) return [[path, '(none)']];
    return entries.flatMap(([key, member]) => flatten(member, path === '' ? key : `${path}.${key}`));
  }
  return [[path, value === '' ? '(empty)' : String(value)]];
}

function describeTee(tee: Receipt['tee']): string {
  return tee === 'simulated'
    ? 'which is SIMULATED: no hardware protected it'
    : `in a ${tee.toUpperCase()} trust domain`;
}

const short = (digest: string): string => `${digest.slice(0, 16)}…`;
