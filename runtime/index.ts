export { OVERWRITE_FREED } from './agent/child-process.ts';
export { jsonLog, startWorker, type Worker, type WorkerOptions } from './agent/start-worker.ts';
export { runWorker, workerFlags } from './agent/run-worker.ts';
