import { CfnError } from '../../proto/index.ts';
import { Refusal, type Reason } from '../evidence/reasons.ts';

/** What became of one check. */
export type Finding =
  | { readonly check: string; readonly outcome: 'passed' }
  | { readonly check: string; readonly outcome: 'failed'; readonly reason: Reason; readonly detail: string }
  /** `detail`: the policy's reason, or why it does not apply. */
  | { readonly check: string; readonly outcome: 'skipped'; readonly detail: string };

export type FailedFinding = Extract<Finding, { outcome: 'failed' }>;

/**
 * Collects what every check said, so that a refusal names all its reasons. A check passes by returning and fails by throwing a
 * {@link Refusal}; anything else that is thrown is a bug and goes on.
 */
export class Findings {
  readonly #list: Finding[] = [];

  get list(): readonly Finding[] {
    return this.#list;
  }
  get failures(): readonly FailedFinding[] {
    return this.#list.filter((finding) => finding.outcome === 'failed');
  }

  /** Runs one check. Gives whether it passed, for checks that make no sense after a failed one. */
  async check(check: string, run: Check): Promise<boolean> {
    const finding = await examine(check, run);
    this.#list.push(finding);
    return finding.outcome === 'passed';
  }

  /** Runs checks that do not depend on each other at once. They are listed in the order given; so are the answers. */
  async checkAll<const Names extends readonly (readonly [check: string, run: Check])[]>(
    checks: Names,
  ): Promise<{ -readonly [I in keyof Names]: boolean }> {
    const findings = await Promise.all(checks.map(([check, run]) => examine(check, run)));
    this.#list.push(...findings);
    return findings.map(({ outcome }) => outcome === 'passed') as { -readonly [I in keyof Names]: boolean };
  }

  /** Lists checks that passed before, on the same bytes. */
  passed(checks: readonly string[]): void {
    for (const check of checks) this.#list.push({ check, outcome: 'passed' });
  }

  skip(check: string, detail: string): void {
    this.#list.push({ check, outcome: 'skipped', detail });
  }

  /** Takes over what another collection found. */
  add(findings: readonly Finding[]): void {
    this.#list.push(...findings);
  }
}

type Check = () => Promise<void> | void;

async function examine(check: string, run: Check): Promise<Finding> {
  try {
    await run();
    return { check, outcome: 'passed' };
  } catch (error) {
    if (!(error instanceof CfnError)) throw error;
    return { check, outcome: 'failed', reason: reasonOf(error), detail: error.message };
  }
}

/** Bounds-checked readers throw plain errors; what they found is that the input ends too early or too late. */
export function reasonOf(error: CfnError): Reason {
  if (error instanceof Refusal) return error.reason;
  if (error.code === 'CFN_EVIDENCE_MALFORMED') return 'parse/length';
  throw error;
}
