import { parentPort, workerData } from 'node:worker_threads';
import { digestFiles, openSegments } from './opening.ts';
import type { ThreadData, ThreadResult } from './opening-threads.ts';

/** A thread that opens segments, or the one that digests what they open. */
const { task, opening } = workerData as ThreadData;
const result: ThreadResult =
  task === 'open' ? { task, refused: openSegments(opening) } : { task, digests: digestFiles(opening) };
parentPort?.postMessage(result);
