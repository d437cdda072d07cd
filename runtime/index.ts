export { OVERWRITE_FREED } from './agent/child-process.ts';
export { runWorker } from './agent/run-worker.ts';
