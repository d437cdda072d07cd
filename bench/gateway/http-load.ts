import { once } from 'node:events';
import { connect } from 'node:net';

const END = Buffer.from('\r\n0\r\n\r\n');

/**
 * Posts the same body over and over, on as many connections as asked for, for a time; gives the number of answers. HTTP written by hand:
 * what a client library costs would bound what a gateway can show on the same machine.
 *
 * @throws when an answer is not a 200 with a body in chunks
 */
export async function httpLoad(
  url: URL,
  request: { readonly headers: Readonly<Record<string, string>>; readonly body: Buffer },
  { connections, ms }: { readonly connections: number; readonly ms: number },
): Promise<number> {
  const head = [
    `POST ${url.pathname} HTTP/1.1`,
    `host: ${url.host}`,
    `content-length: ${request.body.length}`,
    ...Object.entries(request.headers).map(([name, value]) => `${name}: ${value}`),
  ].join('\r\n');
  const bytes = Buffer.concat([Buffer.from(`${head}\r\n\r\n`), request.body]);
  const until = performance.now() + ms;
  let answers = 0;
  const lane = async (): Promise<void> => {
    const socket = connect(Number(url.port), url.hostname);
    await once(socket, 'connect');
    while (performance.now() < until) {
      socket.write(bytes);
      await answered(socket);
      answers += 1;
    }
    socket.destroy();
  };
  await Promise.all(Array.from({ length: connections }, lane));
  return answers;
}

function answered(socket: ReturnType<typeof connect>): Promise<void> {
  return new Promise((resolve, reject) => {
    let first = true;
    let tail = Buffer.alloc(0);
    const done = (failure?: Error): void => {
      socket.off('data', onData).off('close', onClose);
      if (failure === undefined) resolve();
      else reject(failure);
    };
    const onClose = (): void => done(new Error('the connection was closed'));
    const onData = (piece: Buffer): void => {
      if (first && !piece.subarray(0, 13).equals(Buffer.from('HTTP/1.1 200 ')))
        return done(new Error(piece.toString('latin1').slice(0, 500)));
      first = false;
      tail = Buffer.concat([tail, piece.subarray(-END.length)]).subarray(-END.length);
      if (tail.equals(END)) done();
    };
    socket.on('data', onData).on('close', onClose);
  });
}
