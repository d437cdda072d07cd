/*
 * Stands in for NVIDIA's libnvidia-ml.so.1 in tests: same symbols, calling convention and memory layouts as nvml.h (API version 13),
 * written from its declarations and independent of the offsets in abi.ts, so that a mistake there shows. Answers come from the folder
 * CFN_VECTORS, which the test compiles in:
 *   report.bin, chain.pem   recorded evidence; the report gets the caller's nonce where the SPDM request has it
 *   knobs                   "name value" lines, read at each call
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int nvmlReturn_t;
enum {
  NVML_SUCCESS = 0,
  NVML_ERROR_UNINITIALIZED = 1,
  NVML_ERROR_INVALID_ARGUMENT = 2,
  NVML_ERROR_INSUFFICIENT_SIZE = 7,
  NVML_ERROR_ARGUMENT_VERSION_MISMATCH = 25,
  NVML_ERROR_UNKNOWN = 999
};
typedef struct nvmlDevice_st *nvmlDevice_t;

typedef struct nvmlConfComputeSystemState_st {
  unsigned int environment;
  unsigned int ccFeature;
  unsigned int devToolsMode;
} nvmlConfComputeSystemState_t;

typedef struct {
  unsigned int version;
  unsigned int environment;
  unsigned int ccFeature;
  unsigned int devToolsMode;
  unsigned int multiGpuMode;
} nvmlSystemConfComputeSettings_v1_t;
#define nvmlSystemConfComputeSettings_v1 \
  (unsigned int)(sizeof(nvmlSystemConfComputeSettings_v1_t) | (1U << 24U))

#define NVML_GPU_CERT_CHAIN_SIZE 0x1000
#define NVML_GPU_ATTESTATION_CERT_CHAIN_SIZE 0x1400
typedef struct nvmlConfComputeGpuCertificate_st {
  unsigned int certChainSize;
  unsigned int attestationCertChainSize;
  unsigned char certChain[NVML_GPU_CERT_CHAIN_SIZE];
  unsigned char attestationCertChain[NVML_GPU_ATTESTATION_CERT_CHAIN_SIZE];
} nvmlConfComputeGpuCertificate_t;

#define NVML_CC_GPU_CEC_NONCE_SIZE 0x20
#define NVML_CC_GPU_ATTESTATION_REPORT_SIZE 0x2000
#define NVML_CC_GPU_CEC_ATTESTATION_REPORT_SIZE 0x1000
typedef struct nvmlConfComputeGpuAttestationReport_st {
  unsigned int isCecAttestationReportPresent;
  unsigned int attestationReportSize;
  unsigned int cecAttestationReportSize;
  unsigned char nonce[NVML_CC_GPU_CEC_NONCE_SIZE];
  unsigned char attestationReport[NVML_CC_GPU_ATTESTATION_REPORT_SIZE];
  unsigned char cecAttestationReport[NVML_CC_GPU_CEC_ATTESTATION_REPORT_SIZE];
} nvmlConfComputeGpuAttestationReport_t;

struct nvmlDevice_st {
  char magic[8];
};
static struct nvmlDevice_st devices[64];
static int initialised;

static unsigned int knob(const char *name, unsigned int otherwise) {
  FILE *file = fopen(CFN_VECTORS "/knobs", "r");
  char found[64];
  unsigned int value;
  if (!file) return otherwise;
  while (fscanf(file, "%63s %u", found, &value) == 2)
    if (strcmp(found, name) == 0) otherwise = value;
  fclose(file);
  return otherwise;
}

/* Every call counts, may fail with "name CODE", hang with "hang:name 1" or crash with "crash:name 1". */
static nvmlReturn_t enter(const char *name) {
  char variant[96];
  FILE *calls = fopen(CFN_VECTORS "/calls", "a");
  if (calls) {
    fprintf(calls, "%d %s\n", getpid(), name);
    fclose(calls);
  }
  snprintf(variant, sizeof variant, "hang:%s", name);
  while (knob(variant, 0)) sleep(1);
  snprintf(variant, sizeof variant, "crash:%s", name);
  if (knob(variant, 0)) abort();
  if (!initialised && strcmp(name, "nvmlInit_v2") != 0) return NVML_ERROR_UNINITIALIZED;
  return (nvmlReturn_t)knob(name, NVML_SUCCESS);
}
#define ENTER()                              \
  do {                                       \
    nvmlReturn_t result = enter(__func__);   \
    if (result != NVML_SUCCESS) return result; \
  } while (0)

static int is_device(nvmlDevice_t device) {
  for (unsigned int i = 0; i < knob("count", 1) && i < 64; i++)
    if (device == &devices[i]) return memcmp(device->magic, "GPU-MAG", 8) == 0;
  return 0;
}

static unsigned int slurp(const char *path, unsigned char *into, size_t capacity) {
  FILE *file = fopen(path, "rb");
  if (!file) return 0;
  size_t length = fread(into, 1, capacity, file);
  fclose(file);
  return (unsigned int)length;
}

static nvmlReturn_t text(const char *value, char *into, unsigned int length) {
  if (!into) return NVML_ERROR_INVALID_ARGUMENT;
  if (strlen(value) >= length) return NVML_ERROR_INSUFFICIENT_SIZE;
  memset(into, 'x', length); /* what follows the NUL is not defined */
  strcpy(into, value);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlInit_v2(void) {
  initialised = 1; /* before enter: it may fail */
  nvmlReturn_t result = enter(__func__);
  initialised = result == NVML_SUCCESS;
  return result;
}

const char *nvmlErrorString(nvmlReturn_t result) {
  return result == 9 ? "Driver Not Loaded" : result == 999 ? "Unknown Error" : "Some Error";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length) {
  ENTER();
  return length == 80 ? text("550.90.07", version, length) : NVML_ERROR_INSUFFICIENT_SIZE;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *deviceCount) {
  ENTER();
  *deviceCount = knob("count", 1);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device) {
  ENTER();
  if (index >= knob("count", 1) || index >= 64 || !device) return NVML_ERROR_INVALID_ARGUMENT;
  memcpy(devices[index].magic, "GPU-MAG", 8);
  *device = &devices[index];
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetArchitecture(nvmlDevice_t device, unsigned int *arch) {
  ENTER();
  if (!is_device(device)) return NVML_ERROR_INVALID_ARGUMENT;
  *arch = knob("architecture", 9);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetVbiosVersion(nvmlDevice_t device, char *version, unsigned int length) {
  ENTER();
  if (!is_device(device)) return NVML_ERROR_INVALID_ARGUMENT;
  return length == 32 ? text("96.00.9F.00.01", version, length) : NVML_ERROR_INSUFFICIENT_SIZE;
}

nvmlReturn_t nvmlSystemGetConfComputeState(nvmlConfComputeSystemState_t *state) {
  ENTER();
  state->environment = knob("environment", 2);
  state->ccFeature = knob("ccFeature", 1);
  state->devToolsMode = knob("devToolsMode", 0);
  return NVML_SUCCESS;
}

#ifndef WITHOUT_SETTINGS
nvmlReturn_t nvmlSystemGetConfComputeSettings(nvmlSystemConfComputeSettings_v1_t *settings) {
  ENTER();
  if (settings->version != nvmlSystemConfComputeSettings_v1) return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
  settings->environment = knob("environment", 2);
  settings->ccFeature = knob("ccFeature", 1);
  settings->devToolsMode = knob("devToolsMode", 0);
  settings->multiGpuMode = knob("multiGpuMode", 0);
  return NVML_SUCCESS;
}
#endif

nvmlReturn_t nvmlSystemGetConfComputeGpusReadyState(unsigned int *isAcceptingWork) {
  ENTER();
  *isAcceptingWork = access(CFN_VECTORS "/ready", F_OK) == 0;
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlSystemSetConfComputeGpusReadyState(unsigned int isAcceptingWork) {
  ENTER();
  if (isAcceptingWork > 1) return NVML_ERROR_INVALID_ARGUMENT;
  if (!isAcceptingWork) return unlink(CFN_VECTORS "/ready"), NVML_SUCCESS;
  FILE *file = fopen(CFN_VECTORS "/ready", "w");
  return file ? (fclose(file), NVML_SUCCESS) : NVML_ERROR_UNKNOWN;
}

nvmlReturn_t nvmlDeviceGetConfComputeGpuAttestationReport(nvmlDevice_t device,
                                                          nvmlConfComputeGpuAttestationReport_t *gpuAtstReport) {
  ENTER();
  if (!is_device(device)) return NVML_ERROR_INVALID_ARGUMENT;
  unsigned char nonce[NVML_CC_GPU_CEC_NONCE_SIZE];
  memcpy(nonce, gpuAtstReport->nonce, sizeof nonce);
  memset(gpuAtstReport, 0xa5, sizeof *gpuAtstReport); /* the whole struct is the library's to write */
  gpuAtstReport->isCecAttestationReportPresent = 0;
  gpuAtstReport->cecAttestationReportSize = 0;
  unsigned int length =
      slurp(CFN_VECTORS "/report.bin", gpuAtstReport->attestationReport, sizeof gpuAtstReport->attestationReport);
  if (knob("staleNonce", 0) == 0) memcpy(gpuAtstReport->attestationReport + 4, nonce, sizeof nonce);
  gpuAtstReport->attestationReportSize = knob("reportSize", length);
  return NVML_SUCCESS;
}

nvmlReturn_t nvmlDeviceGetConfComputeGpuCertificate(nvmlDevice_t device, nvmlConfComputeGpuCertificate_t *gpuCert) {
  ENTER();
  if (!is_device(device)) return NVML_ERROR_INVALID_ARGUMENT;
  memset(gpuCert, 0xa5, sizeof *gpuCert);
  gpuCert->certChainSize = 0;
  unsigned int length =
      slurp(CFN_VECTORS "/chain.pem", gpuCert->attestationCertChain, sizeof gpuCert->attestationCertChain);
  gpuCert->attestationCertChainSize = knob("chainSize", length);
  return NVML_SUCCESS;
}
