export { openSimulatedPlatform, type SimulatedPlatform } from './platform.ts';
export { simulatedAttester, type SimulatedAttesterOptions } from './attester.ts';
export { simulatedPolicy } from './policy.ts';
export { measureFolders } from './measure.ts';
