import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** A piece of network between two processes, which can be bad. */
export interface Wire {
  /** host:port, to be used in place of what it leads to. */
  readonly address: string;
  /** `cut`: nothing gets through any more and nobody is told, as when a cable is pulled. A number: each piece comes so many ms later. */
  be(state: 'good' | 'cut' | number): void;
  /** Drops all connections. */
  reset(): void;
  stop(): void;
}

export async function layWire(to: string): Promise<Wire> {
  const [host, port] = to.split(':');
  let state: 'good' | 'cut' | number = 'good';
  const ends = new Set<Socket>();
  const pump = (from: Socket, into: Socket): void => {
    from.on('data', (piece: Buffer) => {
      if (state === 'cut') return; // TCP has acknowledged it; it is gone all the same
      if (state === 'good') into.write(piece);
      else setTimeout(() => into.write(piece), state);
    });
    from.on('error', () => undefined);
    from.on('close', () => {
      ends.delete(from);
      if (state !== 'cut') into.destroy();
    });
    ends.add(from);
  };
  const server = createServer((socket) => {
    const far = connect(Number(port), host);
    pump(socket, far);
    pump(far, socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const bound = server.address();
  const reset = (): void => {
    for (const socket of ends) socket.destroy();
  };
  return {
    address: `127.0.0.1:${typeof bound === 'object' && bound !== null ? bound.port : 0}`,
    be(next) {
      // What was lost on a connection is lost: it must not go on as if nothing had been.
      if (state === 'cut') reset();
      state = next;
    },
    reset,
    stop() {
      server.close();
      reset();
    },
  };
}
