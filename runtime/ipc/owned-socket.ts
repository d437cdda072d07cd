import { Socket, type SocketConstructorOpts } from 'node:net';

/** Several of the kernel's pieces at once, for tensors. */
const READ_BYTES = 256 * 1024;

/** The part of Node's internals that {@link ownReads} needs: the handle under a socket. */
interface Handled {
  _handle: object | null;
}

/**
 * Takes over a connected socket so that all it reads goes through one buffer of ours, which is overwritten after each read.
 *
 * A socket of Node's own reads into buffers that it keeps and that nobody can overwrite: request bytes were found in them long after
 * the answer (searched in /proc/PID/mem). The documented way out, `onread`, exists for sockets that one makes oneself; those that a
 * server accepts or a child process brings are made by Node. Hence the step over `_handle`; `owned-socket.test.ts` holds it.
 *
 * @param onBytes gets a view of the buffer, valid during the call only
 */
export function ownReads(given: Socket, onBytes: (bytes: Uint8Array) => void): Socket {
  const donor = given as unknown as Handled;
  const handle = donor._handle;
  if (handle === null) throw new Error('the socket is closed');
  given.removeAllListeners();
  donor._handle = null; // one owner only
  const socket = fromOptions({ handle } as SocketConstructorOpts, onBytes);
  socket.once('close', () => given.destroy()); // a server counts the sockets it gave out
  return socket;
}

function fromOptions(options: SocketConstructorOpts, onBytes: (bytes: Uint8Array) => void): Socket {
  const buffer = Buffer.alloc(READ_BYTES);
  const callback = (bytesRead: number): boolean => {
    try {
      onBytes(buffer.subarray(0, bytesRead));
    } finally {
      buffer.fill(0, 0, bytesRead);
    }
    return true;
  };
  const socket = new Socket({
    ...options,
    readable: true,
    writable: true,
    onread: { buffer, callback },
  } as SocketConstructorOpts);
  socket.resume();
  return socket;
}
