import type { Socket } from 'node:net';
import { z } from 'zod';
import { canonicalJson, CfnError, digestSchema, kbsJweSchema, parseModelPackage } from '../../proto/index.ts';
import { openChannel, type Frame } from '../ipc/channel.ts';
import type { AgentToEngine, EngineToAgent } from '../ipc/messages.ts';
import { makeWrappingKeys, unwrapDataKey, type WrappingKeys } from './data-key.ts';
import { startLease, type Lease } from './lease.ts';
import { giveBackFreed } from './memory-release.ts';
import { modelLoader, type ModelFiles, type ModelLoader } from './model-loader.ts';
import { modelServer, type ModelServer } from './model-server.ts';
import { createModelSession, type ModelSession } from './model-session.ts';

/** After a failure the engine drains its channel this long, in ms, so that the agent reads the reason before the end. */
const FAILED_LINGER_MS = 500;
/** How long after a load memory is given back, in ms. */
const GIVE_BACK_MS = [0, 2_000];

const leaseMs = z.int().positive().max(86_400_000);
const socketPath = z.string().startsWith('/').max(107); // sun_path of unix(7), less its final zero
const agentMessageSchema = z.discriminatedUnion('op', [
  z.strictObject({ op: z.literal('hello') }),
  z.strictObject({
    op: z.literal('load'),
    digest: digestSchema,
    wrappedKey: z.union([z.strictObject({ enc: z.string().max(64), ciphertext: z.string().max(4096) }), kbsJweSchema]),
    challenge: z.string().max(64),
    leaseMs,
  }),
  z.strictObject({ op: z.literal('ciphertext'), path: z.string().max(255), end: z.boolean() }),
  z.strictObject({ op: z.literal('listen'), path: socketPath }),
  z.strictObject({ op: z.literal('unlisten'), path: socketPath }),
  z.strictObject({ op: z.literal('lease'), leaseMs }),
]) satisfies z.ZodType<AgentToEngine>;

/** How far the engine is; each step is taken once. */
type Stage =
  | { readonly at: 'started' }
  | { readonly at: 'introduced'; readonly keys: WrappingKeys }
  | { readonly at: 'loading'; readonly loader: ModelLoader; readonly lease: Lease }
  | { readonly at: 'serving'; readonly server: ModelServer; readonly lease: Lease }
  | { readonly at: 'failed' };

/** Serves the agent until it closes the channel, the lease ends, or anything is wrong: then the process ends. */
export function runEngine(deps: {
  readonly agent: Socket;
  readonly intraOpThreads: number;
  /** Shapes of inputs after which the engine ends, to be started anew. */
  readonly shapesMax: number;
  readonly monotonicNs: () => bigint;
  readonly leaseClockMs: () => number;
  readonly exit: (code: number) => never;
}): void {
  let stage: Stage = { at: 'started' };
  const frames: Frame[] = [];
  let pumping = false;

  const channel = openChannel(
    deps.agent,
    (frame) => {
      frames.push(frame);
      if (!pumping) void pump();
    },
    () => deps.exit(stage.at === 'failed' ? 1 : 0),
  );
  const send = (message: EngineToAgent): Promise<void> => channel.send({ ...message });

  /** One frame after another; the agent waits meanwhile, so that no ciphertext piles up here. */
  async function pump(): Promise<void> {
    pumping = true;
    deps.agent.pause();
    try {
      for (let frame = frames.shift(); frame !== undefined; frame = frames.shift()) {
        if (stage.at !== 'failed') await handle(frame);
      }
    } catch (error) {
      await fail(error);
    } finally {
      frames.length = 0; // after a failure nothing more is wanted; otherwise it is empty
      pumping = false;
      deps.agent.resume();
    }
  }

  async function handle({ header, payload }: Frame): Promise<void> {
    const parsed = agentMessageSchema.safeParse(header);
    if (!parsed.success) throw new CfnError('CFN_ENGINE_FAILED', 'the engine got a message that it does not know');
    const message = parsed.data;
    switch (message.op) {
      case 'hello': {
        if (stage.at !== 'started') throw outOfTurn(message.op);
        const keys = await makeWrappingKeys();
        stage = { at: 'introduced', keys };
        return send({ op: 'hello', wrappingKey: keys.kms.publicKey, teePubkey: canonicalJson(keys.broker.publicKey) });
      }
      case 'load': {
        if (stage.at !== 'introduced') throw outOfTurn(message.op);
        const { keys } = stage;
        const lease = startLease(message.leaseMs, deps);
        const modelPackage = await parseModelPackage(payload, message.digest);
        const dataKey = await unwrapDataKey(keys, modelPackage, message);
        stage = { at: 'loading', loader: modelLoader(modelPackage, dataKey), lease };
        return;
      }
      case 'ciphertext': {
        if (stage.at !== 'loading') throw outOfTurn(message.op);
        const { loader, lease } = stage;
        const files = await loader.push(message.path, payload, message.end);
        if (files === undefined) return;
        const session = await sessionOf(files, loader);
        lease.check();
        stage = {
          at: 'serving',
          server: modelServer(session, { lease, monotonicNs: deps.monotonicNs, onWorn: () => deps.exit(0) }),
          lease,
        };
        await send({ op: 'loaded', inputs: session.inputs, outputs: session.outputs });
        // When nothing here refers to the files any more; and once more, should something still have done so.
        for (const ms of GIVE_BACK_MS) setTimeout(giveBackFreed, ms).unref();
        return;
      }
      case 'listen':
        if (stage.at !== 'serving') throw outOfTurn(message.op);
        await stage.server.listen(message.path).then(
          () => send({ op: 'listening', path: message.path }),
          // One path that cannot be had is no reason to end the others.
          (error: unknown) => send(failure(error)),
        );
        return;
      case 'unlisten':
        if (stage.at !== 'serving') throw outOfTurn(message.op);
        return stage.server.unlisten(message.path);
      case 'lease':
        if (stage.at !== 'serving' && stage.at !== 'loading') throw outOfTurn(message.op);
        return stage.lease.renew(message.leaseMs);
    }
  }

  /** The files are overwritten before anybody hears of the model: the session has copies of its own. */
  async function sessionOf(files: ModelFiles, loader: ModelLoader): Promise<ModelSession> {
    try {
      return await createModelSession(files, deps);
    } finally {
      await loader.wipe();
    }
  }

  async function fail(error: unknown): Promise<void> {
    if (stage.at === 'loading') await stage.loader.wipe();
    if (stage.at === 'serving') stage.server.close();
    stage = { at: 'failed' };
    setTimeout(() => deps.exit(1), FAILED_LINGER_MS);
    await send(failure(error)).catch(() => undefined);
  }
}

/** What ORT or Node say stays here: it could hold parts of the model. */
function failure(error: unknown): EngineToAgent {
  return error instanceof CfnError
    ? { op: 'failed', code: error.code, message: error.message }
    : { op: 'failed', code: 'CFN_ENGINE_FAILED', message: 'the engine failed' };
}

function outOfTurn(op: string): CfnError {
  return new CfnError('CFN_ENGINE_FAILED', `the engine got ${op} out of turn`);
}
