export type * from './sdk/index.ts';
