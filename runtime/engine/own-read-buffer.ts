import { Socket } from 'node:net';

/** Bytes of the buffer that a connection reads into: several of the kernel's pieces at once. */
const READ_BYTES = 256 * 1024;

/**
 * The same connection, read into one buffer of ours that is overwritten after each read. Node's streams read into memory
 * of their own and pass on a copy; what they read stays there, out of reach, until later reads happen to cover it
 * (seen with Node 24.21, by searching the memory: memory.test.ts).
 *
 * `onread` is Node's public way (net.Socket), but only for sockets that one makes oneself; an accepted one has to hand
 * over its handle.
 *
 * @param accepted from a server with `pauseOnConnect`: nothing has been read yet
 * @throws when this Node keeps the handle elsewhere; nothing is read then
 */
export function withOwnReadBuffer(accepted: Socket): Socket {
  const owner = accepted as unknown as { _handle: object | null };
  const handle = owner._handle;
  if (handle === null || typeof handle !== 'object') throw new TypeError('the socket has no handle');
  owner._handle = null;
  const onread = {
    buffer: new Uint8Array(READ_BYTES),
    callback(length: number, buffer: Uint8Array): boolean {
      // What a channel listens to; it takes what it needs before `emit` returns.
      socket.emit('data', Buffer.from(buffer.buffer, buffer.byteOffset, length));
      buffer.fill(0, 0, length);
      return true;
    },
  };
  const socket = new Socket({ handle, onread } as ConstructorParameters<typeof Socket>[0]);
  socket.once('close', () => accepted.destroy()); // its server counts connections by it
  return socket;
}
