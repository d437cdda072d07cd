import type { FunctionManifest, KbsJwe, Sealed } from '../../proto/index.ts';

/** The messages of a worker's three kinds of process, by direction. Payloads are noted where a message has one. */

export type TensorType =
  | 'float32'
  | 'float64'
  | 'float16'
  | 'int8'
  | 'uint8'
  | 'int16'
  | 'uint16'
  | 'int32'
  | 'uint32'
  | 'int64'
  | 'uint64'
  | 'bool';

/** A data key on its way to the engine: as a KMS wraps it, or as a key broker does. */
export type WrappedKey = Sealed | KbsJwe;

/** One tensor of a frame; their bytes follow one another in the payload, little endian, in this order. */
export interface TensorHeader {
  readonly name: string;
  readonly type: TensorType;
  readonly dims: readonly number[];
  readonly bytes: number;
}
/** Shape of a model's input or output; a string or -1 is a free dimension. */
export interface TensorShape {
  readonly name: string;
  readonly type: string;
  readonly dims: readonly (number | string)[];
}

export interface Usage {
  readonly cpuMs: number;
  readonly wallMs: number;
  /** Of each model, in the order of the function's bindings. */
  readonly models: readonly { readonly engineMs: number; readonly engineCalls: number }[];
}

/** agent → engine, over the engine's fd 3. */
export type AgentToEngine =
  | { readonly op: 'hello' }
  /** Payload: the model package manifest (exact bytes). `wrappedKey` is opened with the engine's wrapping key. */
  | {
      readonly op: 'load';
      readonly digest: string;
      readonly wrappedKey: WrappedKey;
      readonly challenge: string;
      readonly leaseMs: number;
    }
  /** Payload: next piece of ciphertext of the file being loaded, in file order; `end` closes the file. */
  | { readonly op: 'ciphertext'; readonly path: string; readonly end: boolean }
  | { readonly op: 'listen'; readonly path: string }
  | { readonly op: 'unlisten'; readonly path: string }
  /** The lease now ends `leaseMs` from receipt. An engine whose lease ends exits by itself. */
  | { readonly op: 'lease'; readonly leaseMs: number };
/** engine → agent. */
export type EngineToAgent =
  /** Fresh keys: raw X25519, base64url, for a KMS; and a JWK as canonical JSON, for a key broker. */
  | { readonly op: 'hello'; readonly wrappingKey: string; readonly teePubkey: string }
  | { readonly op: 'loaded'; readonly inputs: readonly TensorShape[]; readonly outputs: readonly TensorShape[] }
  | { readonly op: 'listening'; readonly path: string }
  | { readonly op: 'failed'; readonly code: string; readonly message: string };

/** sandbox → engine, over a Unix socket. Payload of `run`: the tensors' bytes. */
export type SandboxToEngine = {
  readonly op: 'run';
  readonly id: number;
  readonly tensors: readonly TensorHeader[];
  readonly outputs?: readonly string[];
};
/**
 * engine → sandbox. Payload of `result`: the tensors' bytes. The engine has overwritten its inputs when this is sent; its copy of
 * the outputs right after, when the bytes have left. `bytesOverwritten` counts both.
 */
export type EngineToSandbox =
  | {
      readonly op: 'result';
      readonly id: number;
      readonly tensors: readonly TensorHeader[];
      readonly engineMs: number;
      readonly bytesOverwritten: number;
    }
  | { readonly op: 'failed'; readonly id: number; readonly code: string; readonly message: string };

/** agent → sandbox, over the sandbox's fd 3. */
export type AgentToSandbox =
  /** Payload: the web platform as a script. The first frame: what takes long begins before the function is known. */
  | { readonly op: 'platform' }
  /** Asks for a key to wrap the function's secrets to. */
  | { readonly op: 'secrets-key' }
  /** Payload: the secrets, sealed to that key (JSON). Before `start`. */
  | { readonly op: 'secrets'; readonly version: string; readonly challenge: string }
  /** Payload: the function bundle (ES module). Once. */
  | {
      readonly op: 'start';
      readonly limits: FunctionManifest['limits'];
      readonly vars: Readonly<Record<string, string>>;
      readonly models: readonly {
        readonly binding: string;
        readonly socketPath: string;
        readonly inputs: readonly TensorShape[];
        readonly outputs: readonly TensorShape[];
      }[];
      readonly poolSize: number;
    }
  /** Payload: the request as binary HTTP (RFC 9292), whole; or its head alone, where `streamed`: the content follows in `body` frames. */
  | { readonly op: 'invoke'; readonly id: string; readonly wallMs: number; readonly streamed?: boolean }
  | InvocationMessage;

/** agent → sandbox, to an invocation under way. `call` 0 is the invocation's own request and response. */
export type InvocationMessage =
  /**
   * `body`: the next bytes for the isolate; who sends keeps to a window (`flow.ts`). `body-failed`: the rest will not come. `credit`: so
   * many bytes of what the isolate sent were used.
   */
  | ({ readonly id: string } & FetchReply)
  /** Ends it, after a moment in which the function may tidy up. `code`: what it came to. */
  | { readonly op: 'abort'; readonly id: string; readonly code: string };
/** sandbox → agent: a fetch of the function. `call` counts them, from 1. */
export type FetchMessage =
  /** Payload: the request as binary HTTP, whole; or its head alone, where `streamed`: the content follows in `body` frames. */
  | { readonly op: 'fetch'; readonly call: number; readonly redirect: string; readonly streamed?: boolean }
  | { readonly op: 'body'; readonly call: number; readonly end?: boolean }
  | { readonly op: 'credit'; readonly call: number; readonly bytes: number }
  /** The function wants no more of it. */
  | { readonly op: 'cancel'; readonly call: number };
/** agent → sandbox: what becomes of a fetch. */
export type FetchReply =
  /** Payload: framing, status and header section of a response in binary HTTP. Its content follows in `body` frames. */
  | { readonly op: 'fetched'; readonly call: number; readonly url: string; readonly redirected: boolean }
  | { readonly op: 'fetch-failed'; readonly call: number; readonly message: string }
  | { readonly op: 'body'; readonly call: number; readonly end?: boolean }
  | { readonly op: 'body-failed'; readonly call: number; readonly code: string }
  | { readonly op: 'credit'; readonly call: number; readonly bytes: number };

/** sandbox → agent. */
export type SandboxToAgent =
  /** Fresh raw X25519 public key, base64url. */
  | { readonly op: 'secrets-key'; readonly wrappingKey: string }
  | { readonly op: 'ready' }
  /** Start failed: the bundle does not evaluate, or exports no handler. */
  | { readonly op: 'start-failed'; readonly code: string; readonly message: string }
  /**
   * Payload: next bytes of the response as indeterminate-length binary HTTP: head, content chunks and the content
   * terminator, without the trailer section (the agent adds that, with the receipt). `status` in the first one.
   */
  | { readonly op: 'response'; readonly id: string; readonly status?: number }
  /** `credit` for call 0: so many bytes of the request's content were used. */
  | ({ readonly id: string } & FetchMessage)
  /** The last frame of an invocation, sent after the wipe. `code` absent: success. No message: it could hold payload. */
  | {
      readonly op: 'done';
      readonly id: string;
      readonly code?: string;
      readonly usage: Usage;
      readonly wipe: {
        readonly isolateDisposed: boolean;
        readonly sandboxBytesOverwritten: number;
        readonly engineBytesOverwritten: number;
      };
    };
