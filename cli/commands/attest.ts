import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Option, type Command } from 'commander';
import { z } from 'zod';
import { collectEvidence } from '../../attestation/attester/index.ts';
import {
  endorseEvidence,
  endorseInputs,
  vendorServices,
  type VendorServices,
} from '../../attestation/collateral/index.ts';
import { appraiseInputs } from '../../attestation/verifier/index.ts';
import { CfnError, EXIT_CODES, fromHex, toHex } from '../../proto/index.ts';
import { appraisalJson, appraisalLines } from '../appraisal-report.ts';
import { readInput } from '../conformance/cases.ts';
import type { Cli } from '../context.ts';
import { earOf, openEarSigner, verifyEarFile } from '../ear.ts';
import { policyDigest, readAnyPolicy, READY_MADE, type AppraisalPolicy } from '../policy.ts';

const NONCE_BYTES_MAX = 64;
const COLLECT_NONCE_BYTES = 32;
/** Time for one answer of a vendor's service, in ms. */
const VENDOR_MS_MAX = 20_000;

export function register(program: Command, cli: Cli): void {
  const attest = program.command('attest').description('Verify evidence in files, or collect it on this machine');
  const verifying = attest
    .command('verify')
    .description(
      'Verify evidence and endorsements, told by their content: TDX and SEV-SNP quotes, GPU reports, TPM quotes, event logs, tokens, certificates, CRLs, OCSP answers, TCB info, RIMs, evidence documents',
    )
    .argument('<file...>', 'evidence and endorsements, in any order')
    .option('--policy <file|name>', `appraisal policy, JSON or TOML, or one of ${READY_MADE.join(', ')}`)
    .option('--now <time>', 'the instant to verify at (RFC 3339); by default the present')
    .option('--nonce <hex>', 'the nonce that the evidence must answer; without it, freshness is not checked')
    .addOption(
      new Option('--reference <name=hex>', "adds a reference value to one of the policy's lists, such as mrtd=…")
        .default([])
        .argParser((value: string, before: string[]) => [...before, value]),
    )
    .option('--ear <keyfile>', 'give the result out as a signed EAR; the Ed25519 key is made when there is none')
    .option(
      '--out <file>',
      'with --ear: write it here and the table to stdout; by default the EAR alone goes to stdout',
    )
    .option('--ear-key <jwks>', 'the file is an EAR: verify it with this public key in place of the evidence')
    .addHelpText('after', '\nExit codes: 0 accepted, 4 refused, 2 the input is malformed or the call is wrong.')
    .action((files: string[], options: VerifyOptions) => verify(files, options, cli));
  withVendors(verifying);
  const collecting = attest
    .command('collect')
    .description('Collect evidence of this machine for a nonce, as a document that `cfn attest verify` takes')
    .option('--nonce <hex>', '32 bytes; by default random ones')
    .option('--no-gpu', 'leave GPUs out')
    .option('--out <file>', 'write the document here, and the event log beside it; by default it goes to stdout')
    .action((options: CollectOptions) => collect(options, cli));
  withVendors(collecting);
}

/** The services that endorsements are fetched from. */
interface VendorFlags {
  readonly pccs?: string;
  readonly kds?: string;
  readonly rim?: string;
  readonly ocsp?: string;
}

function withVendors(command: Command): void {
  command
    .option('--pccs <url>', "fetch Intel's collateral here: https://api.trustedservices.intel.com, or a PCCS")
    .option('--kds <url>', "fetch AMD's certificates and CRL here: https://kdsintf.amd.com")
    .option('--rim <url>', "fetch NVIDIA's reference values here: https://rim.attestation.nvidia.com")
    .option('--ocsp <url>', "ask here whether NVIDIA's certificates are revoked: https://ocsp.ndis.nvidia.com");
}

function servicesOf(urls: VendorFlags, { fetch }: Cli['context'], now: () => Date): VendorServices {
  return vendorServices({ urls, fetch, timeoutMs: VENDOR_MS_MAX, now });
}

interface CollectOptions extends VendorFlags {
  readonly nonce?: string;
  readonly gpu: boolean;
  readonly out?: string;
}

interface VerifyOptions extends VendorFlags {
  readonly policy?: string;
  readonly ear?: string;
  readonly out?: string;
  readonly earKey?: string;
  readonly now?: string;
  readonly nonce?: string;
  readonly reference: readonly string[];
}

async function verify(files: readonly string[], options: VerifyOptions, cli: Cli): Promise<void> {
  const { context, output } = cli;
  const now = options.now === undefined ? context.now() : parseTime(options.now);
  const nonce = options.nonce === undefined ? undefined : parseNonce(options.nonce);
  const policy = options.policy === undefined ? undefined : await readAnyPolicy(options.policy, options.reference);
  try {
    if (options.earKey !== undefined) {
      const expected = { ...(nonce && { nonce }), ...(policy && { policy }) };
      cli.exitCode = await verifyEarFile(files, { keys: options.earKey, now, ...expected }, cli);
    } else await verifyEvidence(files, { ...options, now, nowGiven: options.now !== undefined, nonce, policy }, cli);
  } catch (error) {
    if (!(error instanceof CfnError) || error.code !== 'CFN_EVIDENCE_MALFORMED') throw error;
    // Everywhere else malformed evidence is a refusal; who names files can correct the call.
    output.error(error);
    cli.exitCode = EXIT_CODES.caller;
  }
}

type EvidenceOptions = Pick<VerifyOptions, 'ear' | 'out' | keyof VendorFlags> & {
  readonly policy: AppraisalPolicy | undefined;
  readonly now: Date;
  readonly nowGiven: boolean;
  readonly nonce: Uint8Array | undefined;
};

async function verifyEvidence(
  files: readonly string[],
  { policy, now, nowGiven, nonce, ear, out, ...urls }: EvidenceOptions,
  cli: Cli,
): Promise<void> {
  const { context, output } = cli;
  if (policy === undefined)
    throw new CfnError('CFN_USAGE', '--policy is missing: a file, or the name of a ready-made one');
  if (out !== undefined && ear === undefined) throw new CfnError('CFN_USAGE', '--out is for --ear');
  const signer = ear === undefined ? undefined : await openEarSigner(ear, cli);
  const given = await Promise.all(files.map(async (file) => (await readInput(context.cwd, file)).bytes));
  const inputs = await endorseInputs(
    given,
    servicesOf(urls, context, () => now),
  );
  const appraisal = await appraiseInputs(inputs, { policy, now, ...(nonce && { nonce }) });
  const token = signer && (await earOf(appraisal, { policy, nonce, now, inputs }, signer));
  if (token !== undefined && out !== undefined) await writeFile(resolve(context.cwd, out), `${token}\n`);
  if (token !== undefined && out === undefined) context.stdout.write(`${token}\n`);
  else {
    const facts = { policy: await policyDigest(policy), policyName: policy.name, now, nowGiven };
    output.result(appraisalJson(appraisal, facts), appraisalLines(appraisal, facts, output.colors));
  }
  if (!appraisal.accepted) cli.exitCode = EXIT_CODES.trust;
}

function parseTime(text: string): Date {
  // `Date` alone takes the 30th of February, and times without a zone as this machine's.
  if (!z.iso.datetime({ offset: true }).safeParse(text).success)
    throw new CfnError('CFN_USAGE', `--now is ${text}, expected a time such as 2026-11-01T00:00:00Z`);
  return new Date(text);
}

function parseNonce(text: string): Uint8Array<ArrayBuffer> {
  if (!/^(?:[0-9a-fA-F]{2})+$/.test(text) || text.length > 2 * NONCE_BYTES_MAX)
    throw new CfnError('CFN_USAGE', `--nonce is ${text}, expected 1 to ${NONCE_BYTES_MAX} bytes as hexadecimal`);
  return fromHex(text.toLowerCase());
}

async function collect({ nonce, gpu, out, ...urls }: CollectOptions, { context, output }: Cli): Promise<void> {
  const challenge = nonce === undefined ? context.randomBytes(COLLECT_NONCE_BYTES) : parseNonce(nonce);
  if (challenge.length !== COLLECT_NONCE_BYTES)
    throw new CfnError('CFN_USAGE', `--nonce has ${challenge.length} bytes, expected ${COLLECT_NONCE_BYTES}`);
  const services = servicesOf(urls, context, context.now);
  const { evidence, eventLog } = await collectEvidence({
    nonce: challenge,
    gpu: gpu ? 'required' : 'none',
    endorsements: (collected) => endorseEvidence(collected, services),
  });
  const text = `${JSON.stringify(evidence)}\n`;
  if (out === undefined) {
    context.stdout.write(text);
    return;
  }
  await writeFile(resolve(context.cwd, out), text);
  if (eventLog !== undefined) await writeFile(resolve(context.cwd, `${out}.ccel`), eventLog.log);
  output.result({ tee: evidence.tee, nonce: toHex(challenge), out, gpus: evidence.gpus.length }, [
    `${evidence.tee} evidence of this machine with ${evidence.gpus.length} GPUs, for nonce ${toHex(challenge)}: ${out}`,
  ]);
}
