export { startLocal, type LocalConfig, type LocalOptions, type LocalSystem } from './local.ts';
export { processTree, searchMemory, type MemoryHit, type MemorySearch } from './memory-search.ts';
export { startService, type ServiceProcess } from './service-process.ts';
