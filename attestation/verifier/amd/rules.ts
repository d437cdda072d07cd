import { readTcb, TCB_COMPONENTS } from '../../evidence/amd-product.ts';
import { refuse, type Reason } from '../../evidence/reasons.ts';
import type { SnpReport } from '../../evidence/snp.ts';
import type { Findings } from '../findings.ts';
import type { BitDemand, NotChecked, SnpDemands, TcbDemand } from './demands.ts';
import type { SnpVerification } from './verify.ts';

/** What the rules look at. */
export type Subject = Pick<SnpVerification, 'report' | 'product' | 'leaf'>;
/** One demand: becomes one finding. */
export type SnpRule = (subject: Subject, demands: SnpDemands, findings: Findings) => Promise<void>;

/** Fields of the demands that hold a `Wanted`, or say why it is not checked. */
type FieldOf<Wanted> = {
  [Field in keyof SnpDemands]: SnpDemands[Field] extends Wanted | NotChecked ? Field : never;
}[keyof SnpDemands];

/** A rule that `check` decides, by throwing a Refusal, unless the demand is left out. */
export function rule<Field extends keyof SnpDemands>(
  name: string,
  field: Field,
  check: (subject: Subject, wanted: Exclude<SnpDemands[Field], NotChecked>) => void,
): SnpRule {
  return (subject, demands, findings) => apply(name, demands[field], findings, (wanted) => check(subject, wanted));
}

async function apply<Wanted>(
  name: string,
  demand: Wanted,
  findings: Findings,
  check: (wanted: Exclude<Wanted, NotChecked>) => void,
): Promise<void> {
  if (isNotChecked(demand)) findings.skip(name, demand.notChecked);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the line above is what the type says
  else await findings.check(name, () => check(demand as Exclude<Wanted, NotChecked>));
}

function isNotChecked(demand: unknown): demand is NotChecked {
  return typeof demand === 'object' && demand !== null && 'notChecked' in demand;
}

/** A value must be in a list. `undefined` is in none. */
export function listed(
  name: string,
  field: FieldOf<readonly (string | number)[]>,
  reason: Reason,
  value: (subject: Subject) => string | number | undefined,
): SnpRule {
  return rule(name, field, (subject, list: readonly (string | number)[]) => {
    const came = value(subject);
    if (came === undefined || !list.includes(came)) refuse(reason, `${name} ${came ?? '(absent)'} is not listed`);
  });
}

/** A bit must be set, or must not. */
export function bit(
  name: string,
  select: (demands: SnpDemands) => BitDemand,
  reason: Reason,
  isSet: (report: SnpReport) => boolean,
): SnpRule {
  return ({ report }, demands, findings) =>
    apply(name, select(demands), findings, (wanted) => {
      if (isSet(report) !== (wanted === 'required')) refuse(reason, `${name} is ${wanted}`);
    });
}

/** Each part of a TCB version must be at least at the product's minimum. */
export function tcbMinimum(name: string, field: FieldOf<TcbMinima>, value: (report: SnpReport) => Uint8Array): SnpRule {
  return rule(name, field, ({ report, product }, minima: TcbMinima) => {
    const minimum = product && minima[product];
    if (product === undefined || minimum === undefined)
      refuse('tcb/below-minimum', `${name}: no minimum is given for ${product ?? 'an unknown product'}`);
    const tcb = readTcb(value(report), product, name);
    const low = TCB_COMPONENTS.flatMap((component) => {
      const least = minimum[component];
      const level = tcb[component];
      return least === undefined || (level !== undefined && level >= least)
        ? []
        : [`${component} is ${level ?? 'absent'}, at least ${least} is demanded`];
    });
    if (low.length > 0) refuse('tcb/below-minimum', `${name} on ${product}: ${low.join('; ')}`);
  });
}

type TcbMinima = Exclude<TcbDemand, NotChecked>;

/** All of these bits must be set in a mitigation vector; reports below version 5 have no vector. */
export function mitigations(name: string, field: 'launchMitigations' | 'currentMitigations'): SnpRule {
  return rule(name, field, ({ report }, wanted) => {
    const bits = BigInt(`0x${wanted}`);
    const vector = report[field];
    if (vector === undefined || (vector & bits) !== bits)
      refuse('tcb/below-minimum', `${name} are ${vector?.toString(16) ?? 'not reported'}, ${wanted} are demanded`);
  });
}
