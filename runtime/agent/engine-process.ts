import type { BlobStore } from '../../artifacts/index.ts';
import { CfnError, isErrorCode, type ModelPackage } from '../../proto/index.ts';
import type { AgentToEngine, EngineToAgent, TensorShape, WrappedKey } from '../ipc/messages.ts';
import { startChild, type ChildOptions } from './child-process.ts';

export interface ModelShapes {
  readonly inputs: readonly TensorShape[];
  readonly outputs: readonly TensorShape[];
}

/** The process that holds one model's weights. The agent passes ciphertext and a wrapped key through; it can open neither. */
export interface EngineProcess {
  readonly pid: number;
  /** For a KMS, and for a key broker. */
  readonly wrappingKey: string;
  readonly teePubkey: string;
  readonly ended: Promise<void>;
  /** Where it can make sockets. */
  readonly sockets: string;
  load(model: EngineLoad, blobs: BlobStore): Promise<ModelShapes>;
  listen(path: string): Promise<void>;
  unlisten(path: string): Promise<void>;
  setLease(leaseMs: number): Promise<void>;
  kill(): void;
}

export interface EngineLoad {
  readonly digest: string;
  readonly package: ModelPackage;
  readonly packageBytes: Uint8Array;
  readonly wrappedKey: WrappedKey;
  readonly challenge: string;
  readonly leaseMs: number;
}

type Reply = EngineToAgent;

export async function startEngine(options: ChildOptions): Promise<EngineProcess> {
  // The engine answers in order: one waiting list is enough.
  const waiting: { resolve: (reply: Reply) => void; reject: (error: Error) => void }[] = [];
  const child = startChild('engine', options, ({ header }) => {
    const reply = header as unknown as Reply;
    const waiter = waiting.shift();
    if (reply.op === 'failed') {
      waiter?.reject(new CfnError(isErrorCode(reply.code) ? reply.code : 'CFN_ENGINE_FAILED', reply.message));
    } else {
      waiter?.resolve(reply);
    }
  });
  void child.ended.then(() => {
    for (const waiter of waiting.splice(0)) waiter.reject(new CfnError('CFN_ENGINE_LOST', 'the engine process ended'));
  });

  const send = (message: AgentToEngine, payload?: Uint8Array): Promise<void> =>
    payload === undefined ? child.channel.send({ ...message }) : child.channel.send({ ...message }, payload);
  const ask = async (message: AgentToEngine): Promise<Reply> => {
    const { promise, resolve, reject } = Promise.withResolvers<Reply>();
    waiting.push({ resolve, reject });
    send(message).catch((cause: unknown) =>
      reject(new CfnError('CFN_ENGINE_LOST', 'the engine process ended', { cause })),
    );
    return promise;
  };

  const hello = await ask({ op: 'hello' });
  if (hello.op !== 'hello') throw new CfnError('CFN_ENGINE_LOST', 'the engine did not introduce itself');
  return {
    pid: child.pid,
    wrappingKey: hello.wrappingKey,
    teePubkey: hello.teePubkey,
    ended: child.ended,
    sockets: child.sockets,
    kill: child.kill,
    listen: async (path) => void (await ask({ op: 'listen', path })),
    unlisten: (path) => send({ op: 'unlisten', path }),
    setLease: (leaseMs) => send({ op: 'lease', leaseMs }),
    async load(model, blobs) {
      const { promise, resolve, reject } = Promise.withResolvers<Reply>();
      waiting.push({ resolve, reject });
      promise.catch(() => undefined); // awaited below; a failure while sending must not go unhandled meanwhile
      const { digest, wrappedKey, challenge, leaseMs } = model;
      await send({ op: 'load', digest, wrappedKey, challenge, leaseMs }, model.packageBytes);
      const failed = promise.then(
        () => false,
        () => true,
      );
      for (const file of model.package.files) {
        // The engine verifies each segment and each file's plaintext: the digest of the ciphertext would say no more, and takes as long.
        for await (const piece of await blobs.getUnverified(file.ciphertextDigest)) {
          const sent = send({ op: 'ciphertext', path: file.path, end: false }, piece);
          if (
            (await Promise.race([
              sent.then(
                () => false,
                () => true,
              ),
              failed,
            ])) === true
          )
            break;
        }
        await send({ op: 'ciphertext', path: file.path, end: true }).catch(() => undefined);
      }
      const reply = await promise;
      if (reply.op !== 'loaded') throw new CfnError('CFN_ENGINE_FAILED', `the engine answered ${reply.op} to load`);
      return { inputs: reply.inputs, outputs: reply.outputs };
    },
  };
}
