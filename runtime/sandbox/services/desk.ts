import { compression } from './compression.ts';
import { cryptography } from './cryptography.ts';
import { Refusal, refusalOf, type Charge, type Service } from './service.ts';

/** The services of one invocation. */
export interface ServiceDesk {
  /** Never rejects. Requests are answered one after another, so that an invocation never has more than one thread. */
  call(service: string, request: unknown): Promise<ServiceAnswer>;
  /** Bytes of requests overwritten so far. */
  readonly bytesOverwritten: number;
  readonly used: boolean;
  close(): void;
}
export type ServiceAnswer = { readonly value: unknown } | { readonly refusal: Refusal };

/** Requests that wait at once; the platform refuses more, too, with a kinder word. */
const WAITING_MAX = 256;
/** Bytes that wait at once, in all requests. */
const WAITING_BYTES_MAX = 64 * 1024 * 1024;

const SERVICES: Readonly<Record<string, (charge: Charge) => Service>> = { compression, cryptography };

export function serviceDesk(charge: Charge): ServiceDesk {
  const open = new Map<string, Service>();
  let [waiting, waitingBytes, bytesOverwritten] = [0, 0, 0];
  let closed = false;
  let last: Promise<unknown> = Promise.resolve();

  function serviceOf(name: string): Service {
    const found = open.get(name);
    if (found !== undefined) return found;
    const make = Object.hasOwn(SERVICES, name) ? SERVICES[name] : undefined;
    if (make === undefined) throw new Refusal('NotSupportedError', 'there is no such service');
    const made = make(charge);
    open.set(name, made);
    return made;
  }
  async function answer(name: string, request: unknown): Promise<ServiceAnswer> {
    try {
      if (closed) throw new Refusal('OperationError', 'the invocation is over');
      return { value: await serviceOf(name).answer(request) };
    } catch (error) {
      return { refusal: refusalOf(error) };
    }
  }
  return {
    async call(name, request) {
      const buffers = buffersOf(request);
      const bytes = buffers.reduce((sum, buffer) => sum + buffer.byteLength, 0);
      const wipe = (): void => {
        for (const buffer of buffers) new Uint8Array(buffer).fill(0);
        bytesOverwritten += bytes;
      };
      if (waiting >= WAITING_MAX || waitingBytes + bytes > WAITING_BYTES_MAX) {
        wipe();
        return { refusal: new Refusal('QuotaExceededError', 'too much is under way at once') };
      }
      waiting += 1;
      waitingBytes += bytes;
      const turn = last.then(() => answer(name, request));
      last = turn.finally(() => {
        wipe();
        waiting -= 1;
        waitingBytes -= bytes;
      });
      return turn;
    },
    get bytesOverwritten() {
      return bytesOverwritten;
    },
    get used() {
      return open.size > 0;
    },
    close() {
      closed = true;
      for (const service of open.values()) service.close();
    },
  };
}

/** Requests are flat: an object, with objects and arrays of parameters in it. */
const DEPTH_MAX = 4;

/** All buffers in a request. */
export function buffersOf(value: unknown, depth = 0): ArrayBuffer[] {
  if (value instanceof ArrayBuffer) return [value];
  if (ArrayBuffer.isView(value)) return value.buffer instanceof ArrayBuffer ? [value.buffer] : [];
  if (typeof value !== 'object' || value === null || depth >= DEPTH_MAX) return [];
  return Object.values(value).flatMap((item) => buffersOf(item, depth + 1));
}
