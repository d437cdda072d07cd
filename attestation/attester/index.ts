export type { Attester, BoundEvidence, EvidenceBinding } from './attester.ts';
export { cocoDevices, cocoEvidence, cocoKind } from './coco.ts';
export type { Ccel } from './ccel.ts';
export { endorsementsFile } from './endorsements.ts';
export {
  collectEvidence,
  openAttester,
  type AttesterOptions,
  type Collected,
  type CollectOptions,
} from './open-attester.ts';
/** @public for what a worker image measures at run time; the runtime itself extends nothing yet. */
export { rtmr3, type Rtmr3 } from './rtmr.ts';
