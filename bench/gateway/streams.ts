import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { median, quantile } from '../measure.ts';
import type { Row } from '../row.ts';
import { openRelay } from './relay-system.ts';

const STREAMS = 2_000;
const EVENT = randomBytes(256);
const ROUNDS = 3;

/** 2,000 streams open at once; on each an event goes to the worker and comes back. */
export async function streams(): Promise<Row[]> {
  await using system = await openRelay();
  const url = new URL(system.url);
  const head = [
    'POST /f/acme/echo/ HTTP/1.1',
    `host: ${url.host}`,
    'content-type: message/ohttp-chunked-req',
    `cfn-worker: ${system.workerId}`,
    'transfer-encoding: chunked',
  ].join('\r\n');
  const chunk = Buffer.concat([Buffer.from(`${EVENT.length.toString(16)}\r\n`), EVENT, Buffer.from('\r\n')]);
  const resident = (): number =>
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${system.gatewayPid}/status`, 'utf8'))?.[1]) / 1024;
  const before = resident();

  const sockets: Socket[] = [];
  for (let i = 0; i < STREAMS; i++) {
    const socket = connect(Number(url.port), url.hostname);
    await once(socket, 'connect');
    socket.write(`${head}\r\n\r\n`);
    sockets.push(socket);
  }
  /** An event on every stream; the time until each came back, in ms. */
  const round = async (): Promise<number[]> => {
    const began = performance.now();
    return Promise.all(
      sockets.map(async (socket) => {
        const back = echoed(socket);
        socket.write(chunk);
        await back;
        return performance.now() - began;
      }),
    );
  };
  await round();
  const times: number[][] = [];
  for (let i = 0; i < ROUNDS; i++) times.push(await round());
  const held = resident() - before;
  for (const socket of sockets) socket.destroy();
  const slowest = median(times.map((each) => quantile(each, 1)));
  return [
    {
      row: 'streams open at once, each answering',
      unit: '',
      ours: times[0]?.length ?? 0,
      goal: '2,000',
      met: times.every((each) => each.length === STREAMS),
    },
    {
      row: '  an event on all of them: until the last came back',
      unit: 'ms',
      ours: slowest,
      goal: 'none here',
      met: true,
    },
    { row: '  memory of the gateway over idle', unit: 'MiB', ours: held, goal: 'none here', met: true },
  ];
}

/** @throws when the answer is no 200, or the connection ends */
function echoed(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = '';
    const done = (failure?: Error): void => {
      socket.off('data', onData).off('close', onClose);
      if (failure === undefined) resolve();
      else reject(failure);
    };
    const onClose = (): void => done(new Error(`the stream ended: ${text.slice(0, 300)}`));
    const onData = (piece: Buffer): void => {
      text += piece.toString('latin1');
      if (text.includes(EVENT.toString('latin1'))) done();
    };
    socket.on('data', onData).on('close', onClose);
  });
}
