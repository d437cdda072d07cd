import { once } from 'node:events';
import { createConnection } from 'node:net';
import { CfnError, isErrorCode } from '../../proto/index.ts';
import { openChannel, type Channel, type Frame } from '../ipc/channel.ts';
import type { EngineToSandbox, SandboxToEngine, TensorHeader } from '../ipc/messages.ts';

export interface EngineResult {
  readonly tensors: readonly TensorHeader[];
  /** Owned by the receiver. */
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly engineMs: number;
  readonly bytesOverwritten: number;
}

/** One connection to an engine, shared by the invocations of this process. */
export interface EngineLink {
  /**
   * Runs the model once.
   *
   * @param payload the tensors' bytes; left as it is, for the caller to overwrite
   * @throws {CfnError} the engine's own code, or `CFN_ENGINE_LOST` when the connection ends before the answer
   */
  run(tensors: readonly TensorHeader[], payload: Uint8Array): Promise<EngineResult>;
}

const lost = (): CfnError => new CfnError('CFN_ENGINE_LOST', 'the engine process ended before it answered');

/** Connects at the first run, and again at the next run after a loss: an engine may have been started anew behind the same path. */
export function engineLink(socketPath: string): EngineLink {
  let channel: Promise<Channel> | undefined;
  let lastId = 0;
  let waiting = new Map<number, PromiseWithResolvers<EngineResult>>();

  function connect(): Promise<Channel> {
    const mine = (waiting = new Map()); // answers belong to the connection they were asked on
    const onClose = (): void => {
      if (channel === opened) channel = undefined;
      for (const { reject } of mine.values()) reject(lost());
      mine.clear();
    };
    const opened = (async () => {
      const socket = createConnection(socketPath);
      await once(socket, 'connect');
      return openChannel(socket, (frame) => onFrame(mine, frame), onClose);
    })();
    opened.catch(onClose);
    return opened;
  }

  return {
    async run(tensors, payload) {
      channel ??= connect();
      const id = ++lastId;
      const answer = Promise.withResolvers<EngineResult>();
      waiting.set(id, answer);
      const message: SandboxToEngine = { op: 'run', id, tensors };
      // When sending fails the connection closes, and that rejects the answer.
      await channel.then((open) => open.send({ ...message }, payload)).catch(() => undefined);
      return answer.promise;
    },
  };
}

function onFrame(waiting: Map<number, PromiseWithResolvers<EngineResult>>, { header, payload }: Frame): void {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the engine is a process of ours; `op` decides the rest
  const message = header as unknown as EngineToSandbox;
  const answer = waiting.get(message.id);
  waiting.delete(message.id);
  if (message.op === 'result' && answer !== undefined) {
    const { tensors, engineMs, bytesOverwritten } = message;
    return answer.resolve({ tensors, payload, engineMs, bytesOverwritten });
  }
  payload.fill(0);
  if (message.op === 'failed')
    answer?.reject(new CfnError(isErrorCode(message.code) ? message.code : 'CFN_INTERNAL', message.message));
}
