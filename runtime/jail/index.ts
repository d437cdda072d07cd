export type { Jail } from './jail.ts';
export { describeLayers, requireEveryLayer, type Layer } from './layers.ts';
export { openJail } from './probe.ts';
