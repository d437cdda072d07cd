import { fromHex, utf8 } from '../../proto/index.ts';

/**
 * Intel SGX Root CA, SHA-256 of its DER (subject `Intel SGX Root CA`, valid 2018-05-21 to 2049-12-31), as published at
 * https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer.
 */
export const INTEL_SGX_ROOT = '44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3';

/** NVIDIA Device Identity CA, SHA-256 of its DER (valid 2021-11-05 to 9999-12-31). */
export const NVIDIA_DEVICE_ROOT = '102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48';

/** NVIDIA CoRIM signing Root CA, SHA-256 of its DER (valid 2023-03-16 to 2053-03-08). It signs reference values (RIMs) only. */
export const NVIDIA_RIM_ROOT = '12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1';

/**
 * AMD Root Keys, SHA-256 of the DER of each product's ARK as https://kdsintf.amd.com/vcek/v1/<product>/cert_chain gives it; the VLEK
 * chains end at the same certificates.
 */
export const AMD_ROOTS = {
  Milan: '69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd',
  Genoa: '4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1',
  Turin: '1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a',
} as const;

/** MRSIGNER of Intel's TD quoting enclave, as in every TD_QE identity that Intel has signed so far. */
export const INTEL_QE_SIGNER = fromHex('dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5');

/** What stands in that field on the simulated platform: 32 bytes that no enclave's signer can have by chance. */
export const SIMULATED_QE_SIGNER = utf8('cfn SIMULATED quoting enclave   ');

/** ISVPRODID of a TD quoting enclave. */
export const TD_QE_PRODUCT = 2;

/**
 * Issuers of the keys that sign NVIDIA's Remote Attestation Service tokens, SHA-256 of their DER. NVIDIA publishes no root for them
 * ("NVIDIA Attestation Service CA 001" is in no place we know), so the intermediates are the anchors: 002 (2023-12-14 to
 * 2025-12-14) and 003 (2025-12-08 to 2029-12-08) as openpcc/openpcc pins them, 004 (same dates as 003) as two independent recordings of
 * https://nras.attestation.nvidia.com/.well-known/jwks.json carry it.
 */
export const NRAS_INTERMEDIATES = [
  'dd7b6aa74fdbb74a38baa0413726e733d415de22e445a3f6efe2cebe2cfd8703',
  'c76ceed40610efa606864db52c167fbbd6c819de2c0ea5c01acb47ce9e5dc54d',
  '2df8907cf4d6c277b855d407ec178a649930a8e73f7294e8fce66e6ee27c5175',
];

/**
 * Roots of the certificates of virtual TPMs' attestation keys, SHA-256 of their DER: Google's `EK/AK CA Root` (valid 2022-07-08 to
 * 2122-07-08) and Microsoft's `Azure Virtual TPM Root Certificate Authority 2023` (valid 2023-06-01 to 2048-06-01).
 */
export const AK_ROOTS = {
  google: '594759594b9b61524f6c8ef668f7177f7b9066bc0674f2f49fe9e052be78beb2',
  azure: 'e6c596b17f8ffefba5c300f714cfb1260c6028704ecf7becc4ab5018efb00e95',
} as const;
