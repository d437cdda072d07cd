import type { InvokeCall, WorkerConnection } from './worker-connection.ts';

/**
 * Ends a call that nobody waits for any more. The worker ends the invocation at once and gives its receipt, if there is one: what was
 * used is counted all the same.
 */
export async function abandon(
  connection: Pick<WorkerConnection, 'abort'>,
  requestId: string,
  call: InvokeCall,
): Promise<string | undefined> {
  try {
    const receipt = await connection.abort(requestId);
    return receipt === '' ? undefined : receipt;
  } catch {
    return undefined; // the worker is lost, or older than this: the cancelled stream says the same
  } finally {
    call.cancel();
  }
}
