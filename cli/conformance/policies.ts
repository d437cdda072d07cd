import { parsePolicy, type AppraisalPolicy, type Gathered } from '../../attestation/verifier/index.ts';

/**
 * The default policy of a conformance run: everything that production demands of genuineness, currency and configuration, and nothing of
 * what a case cannot know (reference values of a guest, a relying party's own choice of vendor). Parts that a case does not bring are not
 * demanded; those that it brings are.
 */
export function defaultPolicy(gathered: Gathered): AppraisalPolicy {
  return policyFor(gathered, false);
}

/** The same for a relying party that accepts what is genuine and not recommended: levels out of date, debugging, old firmware. */
export function lenientPolicy(gathered: Gathered): AppraisalPolicy {
  return policyFor(gathered, true);
}

const unknown = { notChecked: 'the case has no reference values' };
const absent = { notRequired: 'the case brings none' };

function policyFor(gathered: Gathered, lenient: boolean): AppraisalPolicy {
  const { devices, tpm, nras, jwks } = gathered;
  const certified = jwks.length > 0 && jwks.every((text) => text.includes('"x5c"'));
  return parsePolicy({
    format: 'cfn/appraisal-policy/v2',
    name: lenient ? 'conformance, lenient' : 'conformance',
    tee: teeOf(gathered, lenient),
    gpu: devices.length === 0 ? absent : gpuOf(gathered, lenient),
    binding: { notRequired: 'the level is stated; a case demands none' },
    tpm:
      tpm.length === 0
        ? absent
        : {
            attestationKey: { selfAsserted: 'integrity of the quote alone' },
            hardware: hasChain(gathered)
              ? 'required'
              : { notChecked: 'the case brings no endorsements of the hardware' },
            secureBoot: unknown,
            pcrs: unknown,
          },
    token:
      nras.length === 0
        ? absent
        : {
            issuer: 'https://nras.attestation.nvidia.com',
            keys: certified ? 'certified' : { supplied: 'the key set of the case has no certificates' },
          },
  });
}

/** Whether there is what it takes to verify the hardware below a paravisor; of AMD's, a VCEK is enough. */
function hasChain(gathered: Gathered): boolean {
  const kind = underneath(gathered);
  if (gathered.tpm.some((evidence) => evidence.kind === 'azure-snp')) return true;
  if (kind === 'snp')
    return gathered.certificates.some(
      ({ vendor, certificates }) => vendor === 'amd' && certificates.some(({ isCa }) => isCa),
    );
  return kind === 'tdx' && gathered.collateral.length > 0;
}

/** The hardware below TPM evidence: in it, or in a paravisor's report beside it. */
function underneath({ tpm, hcl }: Gathered): 'snp' | 'tdx' | undefined {
  if (tpm.some(({ kind }) => kind === 'azure-snp')) return 'snp';
  if (tpm.some(({ kind }) => kind === 'azure-tdx')) return 'tdx';
  return tpm.some(({ kind }) => kind === 'tpm-quote') ? hcl[0]?.hardware.kind : undefined;
}

function teeOf(gathered: Gathered, lenient: boolean): unknown {
  const { tdxQuotes, snpReports, documents } = gathered;
  const below = hasChain(gathered) ? underneath(gathered) : undefined;
  if (snpReports.length > 0 || below === 'snp' || documents[0]?.tee === 'snp') return snpOf(lenient);
  if (tdxQuotes.length > 0 || below === 'tdx' || documents[0]?.tee === 'tdx') return tdxOf(lenient);
  return { kind: 'none', ...absent };
}

function tdxOf(lenient: boolean): unknown {
  const outdated = [
    'SWHardeningNeeded',
    'ConfigurationNeeded',
    'ConfigurationAndSWHardeningNeeded',
    'OutOfDate',
    'OutOfDateConfigurationNeeded',
    'TDRelaunchAdvised',
    'TDRelaunchAdvisedConfigurationNeeded',
  ];
  const registers = ['mrtd', 'mrseam', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3', 'mrconfigid', 'mrowner', 'mrownerconfig'];
  return {
    kind: 'tdx',
    septVeDisable: { notChecked: 'paravisors such as Azure’s run their guests without it' },
    ...Object.fromEntries(registers.map((name) => [name, unknown])),
    mrservicetd: lenient ? unknown : 'none',
    collateral: {
      statuses: ['UpToDate', ...(lenient ? outdated : [])],
      evaluationNumberMin: { notChecked: 'any evaluation of the time' },
      advisories: { notChecked: 'part of the status' },
    },
  };
}

function snpOf(lenient: boolean): unknown {
  const strict = lenient ? { notChecked: 'lenient' } : 'forbidden';
  return {
    kind: 'snp',
    revocation: { notChecked: 'the case brings no CRL of the product' },
    products: ['Milan', 'Genoa', 'Turin'],
    signers: ['VCEK', 'VLEK'],
    chipId: unknown,
    cspId: unknown,
    guestPolicy: {
      debug: strict,
      migrationAgent: strict,
      smt: unknown,
      singleSocket: unknown,
      cxl: unknown,
      aes256Xts: unknown,
      raplOff: unknown,
      ciphertextHiding: unknown,
      pageSwapOff: unknown,
    },
    guestPolicyAbiMin: unknown,
    platformInfo: {
      smt: unknown,
      tsme: unknown,
      ecc: unknown,
      raplOff: unknown,
      ciphertextHiding: unknown,
      aliasCheckComplete: unknown,
      tio: unknown,
    },
    platformInfoUnknown: unknown,
    vmpl: { notChecked: 'paravisors put their guests at other levels than 0' },
    reportedTcbMin: unknown,
    committedTcbMin: unknown,
    launchTcbMin: unknown,
    provisionalFirmware: { notChecked: 'clouds load firmware before they commit it' },
    firmwareMin: unknown,
    launchMitigations: unknown,
    currentMitigations: unknown,
    measurement: unknown,
    hostData: unknown,
    familyId: unknown,
    imageId: unknown,
    idKeyDigest: unknown,
    authorKeyDigest: unknown,
    reportIdOfMigrationAgent: unknown,
    guestSvnMin: unknown,
  };
}

function gpuOf({ rims, nras }: Gathered, lenient: boolean): unknown {
  const judgedByNvidia = nras.length > 0 && rims.length === 0;
  return {
    root: { kind: 'nvidia' },
    countMin: 1,
    countMax: 16,
    architectures: ['HOPPER', 'BLACKWELL'],
    driver: unknown,
    vbios: unknown,
    firmwareId: { whenReported: 'drivers before 550 do not report it' },
    measurements: judgedByNvidia ? { notChecked: 'the case brings NVIDIA’s own judgement instead of RIMs' } : 'rims',
    modes: unknown,
    switches: { whenSupplied: 'the case brings the devices that it is about' },
    revocation: { notChecked: 'the case brings no OCSP response or CRL for it' },
    certificateHold: lenient ? unknown : 'forbidden',
  };
}
