import type { MemoryNeeds } from '../../proto/index.ts';
import { neededBytes } from '../../proto/index.ts';
import { BUSY_FRACTION, hasRoom, servingCount } from './choose.ts';
import { capacityOf, fraction, loadOf, type Fleet, type Member } from './fleet.ts';

/** Where a function version is on one worker, and why. */
export interface Placement {
  /** `ready`: requests can go there. `loading`, `refused`: it was asked to load it. `absent`: it was not. */
  readonly state: 'ready' | 'loading' | 'refused' | 'absent';
  /** In words, for people: what decided. */
  readonly why: string;
}

const MiB = 1024 * 1024;
const WHY_READY = {
  deployed: 'loaded when it was deployed',
  'first request': 'loaded for a request while no worker had it',
  'others were busy': `loaded when those that had it were at ${BUSY_FRACTION * 100} % of their capacity`,
  'sealed to it': 'loaded for a request that was sealed to it',
  'had it already': 'it says so itself: another gateway had it loaded, or this one before a restart',
} as const;

/** Why a version is on a worker, or is not; by the same rules, and from the same view, as requests are routed. */
export function explainPlacement(
  member: Member,
  version: string,
  needs: MemoryNeeds,
  fleet: Fleet,
  nowMs: number,
): Placement {
  const view = fleet.view(version);
  const ready = member.warm.get(version);
  if (ready !== undefined) {
    const isServing = view.members.indexOf(member) < servingCount(view);
    return {
      state: 'ready',
      why: [
        WHY_READY[ready.why],
        ...unusable(member),
        ...(isServing ? [] : ['gets no requests now, as those before it are enough: it will leave when it is idle']),
      ].join('; '),
    };
  }
  if (member.loading.has(version)) return { state: 'loading', why: 'was handed over and is not ready yet' };
  const refusal = view.refused.get(member.workerId);
  if (refusal !== undefined) {
    const seconds = Math.round((nowMs - refusal.atMs) / 1000);
    return { state: 'refused', why: `${refusal.code} ${seconds} s ago; tried again where no other worker is left` };
  }
  return { state: 'absent', why: whyAbsent(member, needs, view.members, fleet) };
}

function whyAbsent(member: Member, needs: MemoryNeeds, members: readonly Member[], fleet: Fleet): string {
  const [hindrance] = unusable(member);
  if (hindrance !== undefined) return hindrance;
  const models = [...needs.models.keys()];
  const resident = models.filter((digest) => fleet.withModel(digest).includes(member)).length;
  const has = models.length === 0 ? '' : `has ${resident} of ${models.length} models; `;
  const [needed, free] = [neededBytes([needs]), member.hint?.memoryFree].map(
    (bytes) => bytes && Math.round(bytes / MiB),
  );
  const room =
    free === undefined
      ? 'has not said how much memory is free'
      : free >= (needed ?? 0)
        ? `has room: needs ${needed} MiB, ${free} MiB are free`
        : `no room: needs ${needed} MiB, ${free} MiB are free; it would have to end what is idle`;
  const busy = members.length > 0 && members.every((it) => fraction(it) >= BUSY_FRACTION);
  const need =
    members.length === 0
      ? 'no worker has it: the next request for it has one load it'
      : busy
        ? 'those that have it are busy: it may be next'
        : `not needed: ${members.length} ${members.length === 1 ? 'worker has' : 'workers have'} it, and not all are busy`;
  return `${need}; ${has}${room}`;
}

function unusable(member: Member): string[] {
  return [
    ...(member.cordoned ? ['cordoned by the operator'] : []),
    ...(member.hint?.leaving === true ? ['is leaving'] : []),
    ...(hasRoom(member) ? [] : [`full: ${loadOf(member)} of ${capacityOf(member)} requests`]),
  ];
}
