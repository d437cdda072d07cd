import { fromHex, utf8 } from '../../proto/index.ts';

/**
 * Intel SGX Root CA, SHA-256 of its DER (subject `Intel SGX Root CA`, valid 2018-05-21 to 2049-12-31), as published at
 * https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer.
 */
export const INTEL_SGX_ROOT = '44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3';

/** NVIDIA Device Identity CA, SHA-256 of its DER (valid 2021-11-05 to 9999-12-31). */
export const NVIDIA_DEVICE_ROOT = '102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48';

/** MRSIGNER of Intel's TD quoting enclave, as in every TD_QE identity that Intel has signed so far. */
export const INTEL_QE_SIGNER = fromHex('dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5');

/** What stands in that field on the simulated platform: 32 bytes that no enclave's signer can have by chance. */
export const SIMULATED_QE_SIGNER = utf8('cfn SIMULATED quoting enclave   ');

/** ISVPRODID of a TD quoting enclave. */
export const TD_QE_PRODUCT = 2;
