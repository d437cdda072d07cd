import { toHex } from '../../../proto/index.ts';
import { refuse } from '../../evidence/reasons.ts';
import type { TdReport } from '../../evidence/tdx.ts';
import type { Findings } from '../findings.ts';

/** TDATTRIBUTES (Intel TDX Module ABI, ATTRIBUTES; google/go-tdx-guest `validate/validate.go`). */
const ATTRIBUTES_DEBUG = 1n;
/** Bits 1 to 7 would make a TD untrusted, too; none is defined. */
const ATTRIBUTES_UNTRUSTED = 0xfen;
const ATTRIBUTES_SEPT_VE_DISABLE = 1n << 28n;
/** What a TD may have: SEPT_VE_DISABLE, PKS, KL, PERFMON. */
const ATTRIBUTES_KNOWN = ATTRIBUTES_SEPT_VE_DISABLE | (1n << 30n) | (1n << 31n) | (1n << 63n);
/** x87 and SSE must be on. */
const XFAM_REQUIRED = 0x3n;
const XFAM_KNOWN = 0x6dbe7n;

/** Demands on a TD that can be left out, each with the policy's reason. */
export interface TdDemands {
  /** Without it the host can have exceptions raised inside the TD by taking pages away. */
  readonly septVeDisable: 'required' | { readonly notChecked: string };
  /** No service TD (one for migration, say) may be bound to the TD. */
  readonly serviceTd: 'none' | { readonly notChecked: string };
}

/** Checks what every production TD has in common (attestation-formats §2.4); debugging is never accepted. */
export async function checkTd(report: TdReport, demands: TdDemands, findings: Findings): Promise<void> {
  const { tdAttributes, xfam, seamAttributes, mrservicetd } = report;
  await findings.check('TD: debugging is off', () => {
    if ((tdAttributes & ATTRIBUTES_DEBUG) !== 0n)
      refuse('policy/debug', `TDATTRIBUTES is ${hex(tdAttributes)}: debugging is on`);
  });
  await findings.check('TD: attributes', () => {
    const others = tdAttributes & ~ATTRIBUTES_DEBUG & ~ATTRIBUTES_KNOWN;
    if ((others & ATTRIBUTES_UNTRUSTED) !== 0n)
      refuse('policy/debug', `TDATTRIBUTES is ${hex(tdAttributes)}: the TD is untrusted`);
    if (others !== 0n) refuse('policy/attributes', `TDATTRIBUTES has unknown bits ${hex(others)}`);
  });
  if (demands.septVeDisable !== 'required') findings.skip('TD: SEPT_VE_DISABLE', demands.septVeDisable.notChecked);
  else
    await findings.check('TD: SEPT_VE_DISABLE', () => {
      if ((tdAttributes & ATTRIBUTES_SEPT_VE_DISABLE) === 0n) refuse('policy/attributes', 'SEPT_VE_DISABLE is off');
    });
  await findings.check('TD: XFAM', () => {
    if ((xfam & XFAM_REQUIRED) !== XFAM_REQUIRED)
      refuse('policy/xfam', `XFAM is ${hex(xfam)}: x87 and SSE are not both on`);
    if ((xfam & ~XFAM_KNOWN) !== 0n) refuse('policy/xfam', `XFAM has unknown bits ${hex(xfam & ~XFAM_KNOWN)}`);
  });
  await findings.check('TDX module: SEAMATTRIBUTES', () => {
    if (seamAttributes !== 0n) refuse('policy/attributes', `SEAMATTRIBUTES is ${hex(seamAttributes)}, expected 0`);
  });
  if (demands.serviceTd !== 'none') findings.skip('TD: service TDs', demands.serviceTd.notChecked);
  else if (mrservicetd === undefined) findings.skip('TD: service TDs', 'a TD report 1.0 does not name them');
  else
    await findings.check('TD: service TDs', () => {
      if (mrservicetd.some((byte) => byte !== 0)) refuse('policy/service-td', `MRSERVICETD is ${toHex(mrservicetd)}`);
    });
}

function hex(bits: bigint): string {
  return `0x${bits.toString(16)}`;
}
