import { Socket } from 'node:net';
import type { ModelPackage } from '../../proto/index.ts';
import { createModelSession } from '../../runtime/engine/model-session.ts';
import { openChannel, type Frame } from '../../runtime/ipc/channel.ts';
import type { AgentToEngine, EngineToAgent } from '../../runtime/ipc/messages.ts';

/** An engine without any cryptography: takes a model's bytes as they are and loads them, over the same channel, as the reference of a bench. */
const files = new Map<string, Uint8Array<ArrayBuffer>>();
let modelPackage: ModelPackage | undefined;
let filled = 0;

const channel = openChannel(
  new Socket({ fd: 3, readable: true, writable: true }),
  (frame) => void handle(frame),
  () => process.exit(0),
);
const send = (message: EngineToAgent): Promise<void> => channel.send({ ...message });

async function handle({ header, payload }: Frame): Promise<void> {
  const message = header as unknown as AgentToEngine;
  if (message.op === 'hello') return send({ op: 'hello', wrappingKey: '', teePubkey: '' });
  if (message.op === 'load') {
    modelPackage = JSON.parse(Buffer.from(payload).toString()) as ModelPackage; // at once: the next frame may be there
    for (const { path, bytes } of modelPackage.files) files.set(path, new Uint8Array(bytes));
    return;
  }
  if (message.op !== 'ciphertext') return;
  files.get(message.path)?.set(payload, filled);
  filled += payload.length;
  if (!message.end) return;
  filled = 0;
  if (message.path !== modelPackage?.files.at(-1)?.path) return;
  const { inputs, outputs } = await createModelSession(files, { intraOpThreads: 2, shapesMax: 1 });
  for (const bytes of files.values()) bytes.fill(0);
  return send({ op: 'loaded', inputs, outputs });
}
