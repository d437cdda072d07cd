export { OVERWRITE_FREED } from './agent/overwrite-freed.ts';
export { runWorker } from './agent/run-worker.ts';
